package ops_test

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/rccs-io/rccs/internal/inbox"
	"github.com/rccs-io/rccs/internal/layout"
	"github.com/rccs-io/rccs/internal/ops"
	"github.com/rccs-io/rccs/subjects"
)

// ids are those of messages, with their lanes.
func (p *place) ids(a subjects.Address) (ids []string) {
	p.t.Helper()
	for _, m := range p.stored(a) {
		_, l, _ := subjects.ParseInbox(m.Subject)
		ids = append(ids, l.String()+" "+m.Header.Get(subjects.HeaderID))
	}
	return ids
}

// In the lane and the order of the original, with its headers but for those
// that ask for something, and without a word to the cursor.
func TestReplayAppendsFaithfulCopies(t *testing.T) {
	t.Parallel()
	p := newPlace(t)
	p.store(phone, subjects.Low, "a", subjects.HeaderFrom, "desktop", subjects.HeaderCorrelation, "c", subjects.HeaderTrace, "t",
		subjects.HeaderAck, "true", subjects.HeaderTTL, "1000", subjects.HeaderCollapse, "k", "Nats-Msg-Id", "alice.desktop/a",
		"Nats-Expected-Stream", layout.StreamInbox, subjects.HeaderTimestamp, "2026-01-02T03:04:05Z", subjects.HeaderType, "note")
	p.store(phone, subjects.Critical, "b")
	p.store(phone, subjects.Low, "")
	c := inbox.Cursor{}
	c.Sent[subjects.Low], c.Sent[subjects.Critical] = 3, 2
	p.acknowledge(phone, c)
	got, err := p.Replay(t.Context(), ops.ReplayOptions{From: phone, FromSeq: 1})
	check(t, err)
	if got.Copied != 3 || got.Skipped != 0 || got.First != 4 || got.Last != 6 {
		t.Errorf("replayed %+v", got)
	}
	want := []string{"low a", "critical b", "low ", "low a", "critical b", "low seq-3"}
	if ids := p.ids(phone); !slices.Equal(ids, want) {
		t.Errorf("stored are %q, want %q", ids, want)
	}
	h := p.stored(phone)[3].Header
	for name, want := range map[string]string{
		layout.HeaderReplay: "true", subjects.HeaderFrom: "desktop", subjects.HeaderCorrelation: "c", subjects.HeaderTrace: "t",
		subjects.HeaderTimestamp: "2026-01-02T03:04:05Z", subjects.HeaderType: "note", jetstream.MsgIDHeader: "replay/" + got.Run + "/1",
		subjects.HeaderAck: "", subjects.HeaderTTL: "", subjects.HeaderCollapse: "", "Nats-Expected-Stream": "", "Nats-Sequence": "",
	} {
		if v := h.Get(name); v != want {
			t.Errorf("the copy has %s: %q, want %q", name, v, want)
		}
	}
	if missed := p.missed(phone); !slices.Equal(missed, []string{"a", "b", "seq-3"}) {
		t.Errorf("after the replay %q are missed", missed)
	}
}

func TestReplayLeavesOutReplaysAndOutcomes(t *testing.T) {
	t.Parallel()
	p := newPlace(t)
	p.store(phone, subjects.Normal, "a")
	p.store(phone, subjects.Normal, "o", subjects.HeaderType, "ack")
	p.store(phone, subjects.Normal, "d", subjects.HeaderType, "ack", subjects.HeaderFrom, "desktop")
	for run := range 3 {
		got, err := p.Replay(t.Context(), ops.ReplayOptions{From: phone, FromSeq: 1})
		check(t, err)
		if got.Copied != 2 || got.Skipped != 1+2*run {
			t.Errorf("run %d: %+v", run, got)
		}
	}
	if n := len(p.stored(phone)); n != 9 {
		t.Errorf("%d are stored", n)
	}
}

func TestReplaySelects(t *testing.T) {
	t.Parallel()
	p := newPlace(t)
	p.store(phone, subjects.Normal, "a")
	p.store(phone, subjects.Normal, "b")
	two := p.storedAt(2)
	p.store(phone, subjects.High, "c")
	p.store(phone, subjects.Normal, "a")
	p.store(desktop, subjects.Normal, "x")
	c := inbox.Cursor{}
	c.Sent[subjects.Normal], c.Unacked[subjects.Normal] = 4, []uint64{2}
	p.acknowledge(phone, c)
	for name, o := range map[string]struct {
		opts ops.ReplayOptions
		want string
	}{
		"since":        {ops.ReplayOptions{Since: two.Add(time.Nanosecond)}, "c a"},
		"since, exact": {ops.ReplayOptions{Since: two}, "b c a"},
		"long ago":     {ops.ReplayOptions{Since: two.Add(-time.Hour)}, "a b c a"},
		"from now":     {ops.ReplayOptions{Since: time.Now().Add(time.Hour)}, ""},
		"from seq":     {ops.ReplayOptions{FromSeq: 2}, "b c a"},
		"past the end": {ops.ReplayOptions{FromSeq: 99}, ""},
		"id":           {ops.ReplayOptions{ID: "a"}, "a a"},
		"no such id":   {ops.ReplayOptions{ID: "x"}, ""},
		"missed":       {ops.ReplayOptions{Missed: true}, "b c"},
	} {
		t.Run(name, func(t *testing.T) {
			o.opts.From, o.opts.DryRun = phone, true
			var ids []string
			o.opts.Each = func(m *ops.Message) { ids = append(ids, m.ID) }
			got, err := p.Replay(t.Context(), o.opts)
			check(t, err)
			if strings.Join(ids, " ") != o.want || got.Copied != len(ids) || got.First != 0 {
				t.Errorf("%q, %+v, want %q", ids, got, o.want)
			}
		})
	}
	if n := len(p.stored(phone)); n != 4 {
		t.Errorf("dry runs stored %d", n-4)
	}
	for _, opts := range []ops.ReplayOptions{{From: phone}, {From: phone, Missed: true, FromSeq: 1}} {
		if _, err := p.Replay(t.Context(), opts); err == nil {
			t.Errorf("%+v was accepted", opts)
		}
	}
}

// storedAt is when a message of the inbox stream was stored.
func (p *place) storedAt(seq uint64) time.Time {
	p.t.Helper()
	s, err := p.js.Stream(p.t.Context(), layout.StreamInbox)
	check(p.t, err)
	m, err := s.GetMsg(p.t.Context(), seq)
	check(p.t, err)
	return m.Time
}

// Thousands, to another device, while others are stored: order kept, each
// once.
func TestReplayToAnotherDeviceInOrder(t *testing.T) {
	t.Parallel()
	p := newPlace(t)
	p.fill(1, 3000)
	p.register(desktop, `{}`)
	told := 0
	got, err := p.Replay(t.Context(), ops.ReplayOptions{From: numbered(0), To: desktop, Missed: true, Stored: func(n int) { told = n }})
	check(t, err)
	if got.Copied != 3000 || told != 3000 {
		t.Errorf("%+v, told %d", got, told)
	}
	ids := p.ids(desktop)
	for i := range 3000 {
		if want := fmt.Sprintf("%s m0-%d", subjects.Lane(i%4), i); ids[i] != want {
			t.Fatalf("copy %d is %q, want %q", i, ids[i], want)
		}
	}
	if n := len(p.missed(numbered(0))); n != 3000 || len(ids) != 3000 {
		t.Errorf("the other device has %d, %d are missed", len(ids), n)
	}
}

// What is refused ends the replay, which says how far it came.
func TestReplaySaysWhereItEnded(t *testing.T) {
	t.Parallel()
	p := newPlace(t)
	p.fill(1, 10)
	p.limit(func(c *jetstream.StreamConfig) { c.MaxMsgs, c.Discard = 14, jetstream.DiscardNew })
	_, err := p.Replay(t.Context(), ops.ReplayOptions{From: numbered(0), FromSeq: 1})
	var halted *ops.ReplayError
	if !errors.As(err, &halted) || halted.Seq != 5 || halted.Copied != 4 {
		t.Errorf("it ended with %v", err)
	}
}
