package coordinator

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"github.com/rccs-io/rccs/internal/pool"
)

// A stop answers what waits, but not for as long as it may take in all: other
// parts have to store what they know, and a flood would leave them no time.
func TestAStopUnderAFloodLeavesTimeForOtherParts(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := &service{c: &Coordinator{cancelWaits: func() {}}, all: []*endpoint{{pool: pool.New(1, 0)}}}
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
