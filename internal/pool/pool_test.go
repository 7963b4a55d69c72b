package pool

import (
	"sync/atomic"
	"testing"
	"testing/synctest"
)

func TestPoolBoundsWhatRunsAndWhatWaits(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		p := New(2, 3)
		release := make(chan struct{})
		var running, most, done atomic.Int32
		job := func() {
			most.Store(max(most.Load(), running.Add(1)))
			<-release
			running.Add(-1)
			done.Add(1)
		}
		for i := range 5 {
			if !p.Run(job) {
				t.Fatalf("job %d is refused", i)
			}
		}
		synctest.Wait()
		if p.Run(job) {
			t.Error("a job past the bound is taken")
		}
		close(release)
		synctest.Wait()
		if most.Load() != 2 || done.Load() != 5 {
			t.Errorf("%d ran at once, %d in all", most.Load(), done.Load())
		}
		if !p.Run(job) {
			t.Error("a job is refused when there is room again")
		}
		p.Stop()
		if done.Load() != 6 {
			t.Error("Stop does not wait")
		}
		if p.Run(job) {
			t.Error("a job is taken after Stop")
		}
		p.Stop()
	})
}

func TestOneRequesterTakesNoPlaceThatOthersNeed(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		p := New(1, 100)
		release := make(chan struct{})
		taken := 0
		for range 2 * maxOpen {
			if p.RunFor("flood", func() { <-release }) {
				taken++
			}
		}
		if taken != maxOpen {
			t.Errorf("%d of one requester are taken, want %d", taken, maxOpen)
		}
		if !p.RunFor("neighbour", func() {}) || !p.RunFor("", func() {}) {
			t.Error("another's work is refused")
		}
		close(release)
		synctest.Wait()
		if !p.RunFor("flood", func() {}) {
			t.Error("work is refused when the requester's is done")
		}
		p.Stop()
		if len(p.open) > 0 {
			t.Errorf("%v is remembered of what is done", p.open)
		}
	})
}

func TestCallerWaitsForAFreeWorkerOrForStop(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		p := New(2, 0)
		release := make(chan struct{})
		var taken, done atomic.Int32
		go func() {
			for p.RunOrWait(func() { <-release; done.Add(1) }) {
				taken.Add(1)
			}
		}()
		synctest.Wait()
		if taken.Load() != 2 || len(p.queue) > 0 {
			t.Errorf("%d are taken and %d wait, want 2 and none", taken.Load(), len(p.queue))
		}
		release <- struct{}{}
		synctest.Wait()
		if taken.Load() != 3 {
			t.Errorf("%d are taken after a worker was free, want 3", taken.Load())
		}
		go close(release)
		p.Stop()
		if taken.Load() != done.Load() {
			t.Errorf("%d were taken and %d ran", taken.Load(), done.Load())
		}
	})
}
