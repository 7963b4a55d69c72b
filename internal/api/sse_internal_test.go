package api

import (
	"context"
	"net/http/httptest"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/rccs-io/rccs/internal/ops"
)

// stamped is an answer that knows when each part of it was written.
type stamped struct {
	*httptest.ResponseRecorder
	parts []string
	at    []time.Duration // since the beginning
	start time.Time
}

func (s *stamped) Write(b []byte) (int, error) {
	if len(b) > 0 {
		s.parts, s.at = append(s.parts, string(b)), append(s.at, time.Since(s.start))
	}
	return len(b), nil
}

func TestStreamWithoutNewsSendsACommentEvery15Seconds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := &API{bounds: newBounds()}
		a.ctx, a.cancel = context.WithCancel(t.Context())
		defer a.cancel()
		gone, leave := context.WithCancel(t.Context())
		w := &stamped{ResponseRecorder: httptest.NewRecorder(), start: time.Now()}
		c := &call{w: w, r: httptest.NewRequestWithContext(gone, "GET", "/v1/events", nil)}
		out, err := a.stream(c, func(ctx context.Context, f *flushed) error {
			<-time.After(40 * time.Second)
			if err := f.event("online", "7", []byte(`{}`)); err != nil {
				t.Error(err)
			}
			<-ctx.Done()
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
		ended := make(chan struct{})
		go func() { out.Body(nil); close(ended) }()
		<-time.After(80 * time.Second)
		synctest.Wait()
		leave() // the client goes away: the stream ends at once
		synctest.Wait()
		select {
		case <-ended:
		default:
			t.Error("the stream goes on without its client")
		}
		want := []time.Duration{15, 30, 40, 55, 70}
		if len(w.at) != len(want) {
			t.Fatalf("written at %v: %q", w.at, w.parts)
		}
		for i, at := range want {
			comment := strings.HasPrefix(w.parts[i], ":") && strings.HasSuffix(w.parts[i], "\n\n")
			if w.at[i].Round(time.Second) != at*time.Second || comment != (at != 40) {
				t.Errorf("at %v came %q, want it at %d s", w.at[i], w.parts[i], at)
			}
		}
		if held := a.bounds.streams.Held(); held != 0 {
			t.Errorf("%d streams are counted", held)
		}
	})
}

func TestMessagesThatASlowConsoleMissesAreAGap(t *testing.T) {
	t.Parallel()
	q := &flowQueue{more: make(chan struct{}, 1)}
	for seq := range uint64(liveBuffer + 10) {
		q.put(&ops.Flow{Seq: seq + 1})
	}
	flows, gap := q.take()
	if len(flows) != liveBuffer || gap != (missedFlows{From: liveBuffer + 1, To: liveBuffer + 10, Count: 10}) {
		t.Errorf("%d messages and %+v", len(flows), gap)
	}
	q.put(&ops.Flow{Seq: 2000})
	if flows, gap = q.take(); len(flows) != 1 || gap.Count != 0 {
		t.Errorf("then %d messages and %+v", len(flows), gap)
	}
}
