package edge

import (
	"context"
	"math/rand/v2"
	"time"

	"github.com/rccs-io/rccs/wire"
)

// An edge that stops, or that an operator drains, sends its devices elsewhere a
// few at a time. A device that connects costs its next edge more than a message
// does, and if all came at once each of them would wait. The close frame tells
// each device how long to wait, so that devices that are closed together do not
// come back together.

const (
	drainTick = 10 * time.Millisecond
	// maxHint bounds the wait that a device is asked for: it has to be back
	// within seconds.
	maxHint = 2 * time.Second
)

// Drain refuses new devices and closes the existing connections with 1001, rate
// of them a second; 0 means Options.DrainRate. It returns the number of
// connections without waiting. A second call replaces the first; Resume ends it.
func (s *Server) Drain(rate int) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.stopped {
		return len(s.conns)
	}
	ctx := s.beginLocked()
	if rate <= 0 {
		rate = s.opts.DrainRate
	}
	s.wg.Go(func() { s.sendAway(ctx, rate) })
	return len(s.conns)
}

// Resume lets devices connect again.
func (s *Server) Resume() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.stopped || s.endDrain == nil {
		return
	}
	s.endDrain()
	s.endDrain, s.draining = nil, false
}

// Draining reports whether the edge refuses new devices.
func (s *Server) Draining() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.draining
}

// beginLocked begins to drain, and replaces a drain that runs.
func (s *Server) beginLocked() context.Context {
	if s.endDrain != nil {
		s.endDrain()
	}
	ctx, end := context.WithCancel(s.ctx)
	s.endDrain, s.draining = end, true
	return ctx
}

// sendAway closes the connections that are open now, rate a second, until ctx
// ends.
func (s *Server) sendAway(ctx context.Context, rate int) {
	conns := s.snapshot(nil)
	tick := time.NewTicker(drainTick)
	defer tick.Stop()
	whole := time.Duration(len(conns)) * time.Second / time.Duration(rate)
	began, done := time.Now(), 0
	for done < len(conns) {
		// The first ones go at once.
		due := 1 + int(time.Since(began).Seconds()*float64(rate))
		for ; done < min(due, len(conns)); done++ {
			conns[done].sendAway(wire.CloseGoingAway, hint(whole))
		}
		if done == len(conns) {
			return
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return
		}
	}
}

// hint returns how long one device is asked to wait.
func hint(whole time.Duration) time.Duration {
	return rand.N(min(whole, maxHint) + 1).Truncate(time.Millisecond) //nolint:gosec // it spreads load, and nothing has to be unguessable
}

// paceOf returns how fast to drain n connections so that half of the time until
// ctx's deadline is left, but no slower than rate.
func paceOf(ctx context.Context, n, rate int) int {
	end, ok := ctx.Deadline()
	if !ok {
		return rate
	}
	half := max(time.Until(end)/2, drainTick)
	return max(rate, int(float64(n)/half.Seconds())+1)
}
