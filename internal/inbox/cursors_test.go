package inbox_test

import (
	"encoding/json"
	"errors"
	"sync"
	"testing"

	"github.com/rccs-io/rccs/internal/direct"
	"github.com/rccs-io/rccs/internal/inbox"
	"github.com/rccs-io/rccs/internal/layout"
	"github.com/rccs-io/rccs/internal/natstest"
	"github.com/rccs-io/rccs/subjects"
)

// elsewhere is what a process without a hub has.
func elsewhere(t *testing.T) (*inbox.Cursors, *direct.Client) {
	t.Helper()
	env := natstest.Server(t)
	natstest.Streams(t, env.Conn(t))
	fetch := direct.New(env.Conn(t))
	if err := fetch.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(fetch.Stop)
	pub, err := inbox.NewPublisher(env.Dialer(), nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(pub.Stop)
	return must(inbox.NewCursors(fetch, pub)), fetch
}

func TestOfTwoWhoMoveACursorOneHasToLookAgain(t *testing.T) {
	t.Parallel()
	c, _ := elsewhere(t)
	k := subjects.Address{User: "alice", Device: "phone"}.Key()
	const writers, each = 4, 10
	var wg sync.WaitGroup
	for range writers {
		wg.Go(func() {
			for moved := 0; moved < each; {
				cursor, revision, err := c.Load(t.Context(), k)
				if err != nil {
					t.Error(err)
					return
				}
				cursor.Sent[subjects.Low]++
				switch err := c.Store(t.Context(), k, cursor, revision); {
				case err == nil:
					moved++
				case !errors.Is(err, inbox.ErrMoved):
					t.Error(err)
					return
				}
			}
		})
	}
	wg.Wait()
	cursor, _, err := c.Load(t.Context(), k)
	if err != nil || cursor.Sent[subjects.Low] != writers*each {
		t.Errorf("after %d moves the cursor is %v, %v", writers*each, cursor, err)
	}
}

func TestNoCursorFromElsewhereIsAboveTheWatermark(t *testing.T) {
	t.Parallel()
	c, fetch := elsewhere(t)
	watermark := func() (head uint64) {
		t.Helper()
		found, err := fetch.Last(layout.StreamCursor, false).Get(t.Context(), []string{layout.Watermark})
		if err != nil || found[0] == nil {
			t.Fatalf("no watermark: %v", err)
		}
		var mark struct {
			Head uint64 `json:"head"`
		}
		if err := json.Unmarshal(found[0].Data, &mark); err != nil {
			t.Fatal(err)
		}
		return mark.Head
	}
	for i, step := range []struct{ sent, want uint64 }{{7, 7}, {3, 7}, {9, 9}} {
		k := subjects.Address{User: "alice", Device: subjects.DeviceID(rune('a' + i))}.Key()
		var cursor inbox.Cursor
		cursor.Sent[subjects.High] = step.sent
		if err := c.Store(t.Context(), k, cursor, 0); err != nil {
			t.Fatal(err)
		}
		if got := watermark(); got != step.want {
			t.Errorf("after a cursor at %d the watermark is %d, want %d", step.sent, got, step.want)
		}
	}
}
