package edge

import (
	"errors"
	"time"
)

// A device that sends nothing has no read loop: its socket is parked in the
// server's [lot], which starts the loop again when something comes. The pulse
// has loops end that have waited for parkAfter. One that was started for a ping
// or a pong and nothing else ends at once.
//
// The end of a connection, for whatever reason, is the read loop's work: who
// ends a connection that is parked starts it again.

// parkAfter is how long a read loop waits before it ends: a device that sends
// every now and then does not pay for it each time.
const parkAfter = 2 * time.Second

// outcome is what a wait has ended with.
type outcome int

const (
	ready outcome = iota
	over
	parked
)

// await waits for a message to begin, unless the connection can be parked.
func (c *conn) await() outcome {
	if c.cork == nil || c.cork.inlet == nil {
		c.lastRead.Store(c.s.clock.Load())
		return ready // gorilla waits
	}
	c.reading.Store(true)
	for {
		c.waiting.Store(true)
		err := c.cork.inlet.await(c.seen, c.onPing, c.onPong)
		c.waiting.Store(false)
		switch {
		case err == nil:
			return ready
		case !errors.Is(err, errIdle):
			c.reading.Store(false)
			c.readFailed(err)
			return over
		case c.park():
			return parked
		}
		c.seen = true // it has to wait
	}
}

// park leaves the connection without a read loop; false if it has to have one.
func (c *conn) park() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.end != nil || c.dead || c.s.lot == nil {
		return false
	}
	c.parked = true // before the lot can say otherwise
	again := c.known
	c.known = true
	if err := c.s.lot.park(c, again); err != nil {
		c.parked, c.known = false, again
		return false
	}
	return true
}

// unpark gives the connection a read loop, if it has none.
func (c *conn) unpark() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.unparkLocked()
}

func (c *conn) unparkLocked() {
	if c.parked {
		c.parked = false
		c.s.lot.leave(c)
		go c.run()
	}
}
