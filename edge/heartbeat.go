package edge

import (
	"time"

	"github.com/rccs-io/rccs/internal/wsconn"
	"github.com/rccs-io/rccs/wire"
)

// silentReason is the reason in the close frame to a device that was silent for
// too long.
const silentReason = "nothing was heard from the device: connect again"

// tickEvery is the granularity of heartbeats, deadlines and expiry: each
// connection is checked at least as often. One loop over all connections costs
// less than a timer for each. It checks a few at a time, because checking all at
// one moment would hold up messages.
const (
	tickEvery = wsconn.TickInterval
	tickStep  = 50 * time.Millisecond
	// tickParts is the number of ticks in which all connections are checked. It
	// is half as many as fit, because a connection may come first in one round
	// and last in the next.
	tickParts = int(tickEvery / tickStep / 2)
)

// heartbeatLoop runs until the server stops.
func (s *Server) heartbeatLoop() {
	tick := time.NewTicker(tickStep)
	defer tick.Stop()
	var conns []*conn
	next := 0 // of conns
	for ticks := 0; ; ticks++ {
		select {
		case <-s.quit:
			return
		case now := <-tick.C:
			s.sockets.SetClock(now)
			if ticks%tickParts == 0 {
				clear(conns)
				conns, next = s.snapshot(conns[:0]), 0
			}
			end := len(conns) * (ticks%tickParts + 1) / tickParts
			for _, c := range conns[next:end] {
				c.tick(now)
			}
			next = end
		}
	}
}

// tick checks one connection.
func (c *conn) tick(now time.Time) {
	defer c.contain()
	c.calls.forgetLate(now)
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.sock.Open() {
		return
	}
	switch {
	case c.tenant == nil && c.age() >= c.s.opts.RegisterWithin:
		c.endLocked(wire.CloseAuth, wire.NewError(wire.AuthRequired, "no device_register within "+c.s.opts.RegisterWithin.String()))
	case c.mailbox != nil && c.expires != 0 && c.expires.time().Sub(now) <= 2*tickEvery+c.early:
		// A moment early, so that it is never late.
		c.endLocked(wire.CloseExpired, wire.NewError(wire.TokenExpired, "the credential has ended: connect with a new one"))
	case c.sock.Tick(now, c.heartbeat):
		c.endForLocked(wire.CloseGoingAway, nil, silentReason)
	}
}
