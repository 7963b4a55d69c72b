package pool

import (
	"slices"
	"strconv"
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
		if len(p.lines) > 0 || len(p.turns) > 0 {
			t.Errorf("%v and %v are remembered of what is done", p.lines, p.turns)
		}
	})
}

func TestRequestersTakeTurns(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		p := New(1, 0)
		release := make(chan struct{})
		var order []string
		run := func(who string) {
			if !p.RunInTurn(who, func() { <-release; order = append(order, who) }) {
				t.Fatalf("work of %s is refused", who)
			}
		}
		for range 5 {
			run("flood")
		}
		run("a")
		run("a")
		run("b")
		close(release)
		p.Stop()
		if want := []string{"flood", "flood", "a", "b", "flood", "a", "flood", "flood"}; !slices.Equal(order, want) {
			t.Errorf("it ran for %v, want %v", order, want)
		}
	})
}

// One requester's work that goes on for long leaves workers for others.
func TestOneRequesterRunsOnHalfOfTheWorkers(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		p := New(4, 0)
		release := make(chan struct{})
		var flood, other atomic.Int32
		for range 2 * maxOpen {
			p.RunInTurn("flood", func() { flood.Add(1); <-release })
		}
		p.RunFor("neighbour", func() { other.Add(1) })
		p.Run(func() { other.Add(1) })
		synctest.Wait()
		if flood.Load() != 2 || other.Load() != 2 {
			t.Errorf("%d run of one requester, want 2; %d of others, want 2", flood.Load(), other.Load())
		}
		close(release)
		p.Stop()
		if flood.Load() != 2*maxOpen {
			t.Errorf("%d of %d ran in the end", flood.Load(), 2*maxOpen)
		}
	})
}

// Many requesters that fill the backlog refuse nobody who asks one thing at a
// time.
func TestAFullBacklogTakesOneOfEachRequester(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		p := New(1, 4)
		release := make(chan struct{})
		for range 8 {
			p.RunFor("flood", func() { <-release })
		}
		if p.RunFor("flood", func() {}) || p.Run(func() {}) {
			t.Error("more of what waits is taken than the bound")
		}
		served := false
		if !p.RunFor("neighbour", func() { served = true }) {
			t.Error("a requester without anything that waits is refused")
		}
		if p.RunFor("neighbour", func() {}) {
			t.Error("its second is taken though the backlog is full")
		}
		close(release)
		p.Stop()
		if !served {
			t.Error("the neighbour's work did not run")
		}
	})
}

// However many requesters there are, each with one function, what waits is bounded.
func TestRequestersThatWaitAreBounded(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		const backlog = 4
		p := New(1, backlog)
		release := make(chan struct{})
		p.Run(func() { <-release })
		taken, done := 0, 0
		for n := range 2 * maxFirsts {
			if p.RunFor(strconv.Itoa(n), func() { done++ }) {
				taken++
			}
		}
		if want := backlog + maxFirsts; taken != want {
			t.Errorf("one function each of %d requesters waits, want %d", taken, want)
		}
		close(release)
		synctest.Wait()
		if done != taken {
			t.Errorf("%d of %d ran", done, taken)
		}
		if !p.RunFor("another", func() {}) {
			t.Error("a requester is refused when there is room again")
		}
		p.Stop()
	})
}
