package edge

import (
	"time"

	"github.com/rccs-io/rccs/internal/wsconn"
	"github.com/rccs-io/rccs/wire"
)

// pulseEvery is the granularity of heartbeats, deadlines and expiry. One loop
// over all connections costs less than a timer in each: at 20,000 it is some
// hundred microseconds twice a second.
const pulseEvery = wsconn.TickInterval

// sweepBeats is after how many beats those are forgotten who have not sent for
// a while.
const sweepBeats = 20

// pulse runs until the server stops.
func (s *Server) pulse() {
	tick := time.NewTicker(pulseEvery)
	defer tick.Stop()
	var conns []*conn
	for beats := 0; ; beats++ {
		select {
		case <-s.quit:
			return
		case now := <-tick.C:
			s.sockets.SetClock(now)
			conns = s.snapshot(conns[:0])
			for _, c := range conns {
				c.beat(now)
			}
			clear(conns)
			if beats%sweepBeats == 0 {
				s.limiter.sweep(now)
			}
		}
	}
}

// beat looks after one connection.
func (c *conn) beat(now time.Time) {
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
