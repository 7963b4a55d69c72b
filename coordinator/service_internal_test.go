package coordinator

import (
	"context"
	"strconv"
	"testing"
	"testing/synctest"
	"time"

	"github.com/rccs-io/rccs/wire"
)

// A stop answers what waits, but not for as long as it may take in all: other
// parts have to store what they know, and a flood would leave them no time.
func TestAStopUnderAFloodLeavesTimeForOtherParts(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := &service{c: &Coordinator{cancelWaits: func() {}}, all: []*endpoint{{pool: newWorkers(1, 0)}}}
		s.ctx, s.cancel = context.WithCancel(t.Context())
		answered := 0
		for range 1000 {
			s.all[0].pool.Run(func() {
				select {
				case <-time.After(time.Second):
					answered++
				case <-s.ctx.Done():
				}
			})
		}
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
		defer cancel()
		s.stop(ctx)
		if end, _ := ctx.Deadline(); time.Until(end) < 4*time.Second || answered < 4 {
			t.Errorf("%d were answered, and %s is left of 10 s", answered, time.Until(end))
		}
	})
}

// However many requesters there are, what waits of them takes so much memory and no
// more, and whoever is refused hears by which bound.
func TestRequestsThatWaitAreBoundedInBytes(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		const size = 1 << 20
		w, release := newWorkers(1, 0), make(chan struct{})
		taken, told := 0, wire.Code("")
		for n := range 1000 {
			err := w.submit(strconv.Itoa(n), true, size, func() { <-release })
			if err == nil {
				taken++
			} else {
				told = err.Code
			}
		}
		if want := 2 * waitingBytes / size; taken != want || told != wire.Unavailable {
			t.Errorf("%d MiB wait, want %d; the others are told %q", taken, want, told)
		}
		if err := w.submit("0", true, size, func() {}); err == nil {
			t.Error("a requester that has something waiting is served beyond the bound")
		}
		close(release)
		synctest.Wait()
		if err := w.submit("another", true, size, func() {}); err != nil {
			t.Errorf("with room again a requester is told %v", err)
		}
		w.Stop()
		if n := w.room.Held(); n != 0 {
			t.Errorf("%d bytes are held when nothing waits", n)
		}
	})
}
