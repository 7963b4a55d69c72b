package edge

import (
	"time"

	"github.com/rccs-io/rccs/internal/wsconn"
	"github.com/rccs-io/rccs/wire"
)

// pulseEvery is the granularity of heartbeats, deadlines and expiry: each
// connection is looked after at least as often. One loop over all of them costs
// less than a timer in each. It takes a few at a time, because what follows for
// all at one moment would hold up the messages in between.
const (
	pulseEvery = wsconn.TickInterval
	pulseTick  = 50 * time.Millisecond
	// pulseParts is in how many ticks all are looked after: half as many as fit,
	// for a connection may come first in one round and last in the next.
	pulseParts = int(pulseEvery / pulseTick / 2)
)

// pulse runs until the server stops.
func (s *Server) pulse() {
	tick := time.NewTicker(pulseTick)
	defer tick.Stop()
	var conns []*conn
	next := 0 // of conns
	for beats := 0; ; beats++ {
		select {
		case <-s.quit:
			return
		case now := <-tick.C:
			s.sockets.SetClock(now)
			if beats%pulseParts == 0 {
				clear(conns)
				conns, next = s.snapshot(conns[:0]), 0
			}
			end := len(conns) * (beats%pulseParts + 1) / pulseParts
			for _, c := range conns[next:end] {
				c.beat(now)
			}
			next = end
			s.limiter.sweep(now)
		}
	}
}

// beat looks after one connection.
func (c *conn) beat(now time.Time) {
	defer c.contain()
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.sock.Open() {
		return
	}
	if len(c.serving) > 0 {
		c.forgetLateLocked(now)
	}
	switch {
	case c.tenant == nil && now.Sub(c.opened) >= c.s.opts.RegisterWithin:
		c.endLocked(wire.CloseAuth, wire.NewError(wire.AuthRequired, "no device_register within "+c.s.opts.RegisterWithin.String()))
	case c.box != nil && !c.expires.IsZero() && c.expires.Sub(now) <= 2*pulseEvery+c.early:
		// A moment early, so that it is never late.
		c.endLocked(wire.CloseExpired, wire.NewError(wire.TokenExpired, "the credential has ended: connect with a new one"))
	case c.sock.Tick(now, c.heartbeat):
		c.endLocked(wire.CloseGoingAway, nil)
	}
}
