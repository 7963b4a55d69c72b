package clock

import (
	"sync/atomic"
	"time"
)

// jump is by how much the wall clock leaves the monotonic one before that counts:
// more than time services make up for within any message's way.
const jump = 5 * time.Second

// Ahead watches the clock. It is safe for concurrent use.
type Ahead struct {
	began  time.Time
	offset atomic.Int64 // of the wall clock from the monotonic one, in ns
	until  atomic.Int64 // on the monotonic clock, in ns since began
}

// Watch begins to watch the clock.
func Watch() *Ahead {
	a := &Ahead{began: time.Now()}
	a.offset.Store(a.began.UnixNano())
	return a
}

// Within reports whether the wall clock was set ahead, by 5 s or more between two
// calls, within the last window. The clock of a machine that slept was set ahead
// too.
func (a *Ahead) Within(window time.Duration) bool {
	now := time.Now()
	return a.within(now.UnixNano(), int64(now.Sub(a.began)), window)
}

// within has the two clocks in nanoseconds.
func (a *Ahead) within(wall, mono int64, window time.Duration) bool {
	now := wall - mono
	before := a.offset.Load()
	if d := time.Duration(now - before); d >= jump || d <= -jump {
		if a.offset.CompareAndSwap(before, now) && d > 0 {
			a.until.Store(mono + int64(window))
		}
	}
	return mono < a.until.Load()
}
