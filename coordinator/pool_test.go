package coordinator

import (
	"sync/atomic"
	"testing"
	"testing/synctest"
)

func TestPoolBoundsWhatRunsAndWhatWaits(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		p := newPool(2, 3)
		release := make(chan struct{})
		var running, most, done atomic.Int32
		job := func() {
			most.Store(max(most.Load(), running.Add(1)))
			<-release
			running.Add(-1)
			done.Add(1)
		}
		for i := range 5 {
			if !p.run(job) {
				t.Fatalf("job %d is refused", i)
			}
		}
		synctest.Wait()
		if p.run(job) {
			t.Error("a job past the bound is taken")
		}
		close(release)
		synctest.Wait()
		if most.Load() != 2 || done.Load() != 5 {
			t.Errorf("%d ran at once, %d in all", most.Load(), done.Load())
		}
		if !p.run(job) {
			t.Error("a job is refused when there is room again")
		}
		p.stop()
		if done.Load() != 6 {
			t.Error("stop does not wait")
		}
		if p.run(job) {
			t.Error("a job is taken after stop")
		}
		p.stop()
	})
}
