package edge

import (
	"time"

	"github.com/rccs-io/rccs/wire"
)

// pulseEvery is the granularity of heartbeats, deadlines and expiry. One loop
// over all connections costs less than a timer in each: at 20,000 it is some
// hundred microseconds twice a second.
const pulseEvery = 500 * time.Millisecond

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
			s.clock.Store(now.UnixNano())
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
	n := now.UnixNano()
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.end != nil {
		return
	}
	if len(c.serving) > 0 {
		c.forgetLateLocked(now)
	}
	quiet := time.Duration(n - c.lastRead.Load())
	switch {
	case c.tenant == nil && now.Sub(c.opened) >= c.s.opts.RegisterWithin:
		c.endLocked(wire.CloseAuth, wire.NewError(wire.AuthRequired, "no device_register within "+c.s.opts.RegisterWithin.String()))
	case c.box != nil && !c.expires.IsZero() && c.expires.Sub(now) <= 2*pulseEvery+c.early:
		// A moment early, so that it is never late.
		c.endLocked(wire.CloseExpired, wire.NewError(wire.TokenExpired, "the credential has ended: connect with a new one"))
	case c.reading.Load() && !c.sending.Load() && quiet > c.heartbeat*3/2-pulseEvery:
		// While a write is under way its deadline is what counts: a ping
		// waits behind a large message on a slow link.
		c.endLocked(wire.CloseGoingAway, nil)
	case n-c.lastPing >= c.heartbeat.Nanoseconds():
		c.lastPing = n
		c.ping = true
		c.wakeLocked()
	}
	if quiet >= parkAfter && c.waiting.Load() {
		c.cork.inlet.kick()
	}
}
