package wsconn

import (
	"errors"
	"time"
)

// suspendAfter is how long a read loop waits before it ends, if Options does not
// say: a device that sends or acknowledges every few seconds does not pay for it
// each time. To end a loop and to start another costs as much as a tenth of a
// message's way. A loop that was started for a ping or a pong and nothing else ends
// at once.
const suspendAfter = 5 * time.Second

// outcome is what a wait has ended with.
type outcome int

const (
	isReady outcome = iota
	isOver
	isSuspended
)

// await waits for a message to begin, unless the connection can be suspended.
func (c *Conn) await() outcome {
	if c.nc.reader == nil {
		c.alive()
		return isReady // gorilla waits
	}
	c.reading.Store(true)
	for {
		c.waiting.Store(true)
		err := c.nc.reader.await(c.waits, c.onPing, c.onPong)
		c.waiting.Store(false)
		switch {
		case err == nil:
			return isReady
		case !errors.Is(err, errIdle):
			c.reading.Store(false)
			c.readFailed(err)
			return isOver
		case c.suspend():
			return isSuspended
		}
		c.waits = true // it has to
	}
}

// suspend leaves the connection without a read loop; false if it has to have
// one.
func (c *Conn) suspend() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.Open() || c.u.poller == nil {
		return false
	}
	c.suspended = true // before the poller can resume it
	again := c.watched
	c.watched = true
	if err := c.u.poller.watch(c, again); err != nil {
		c.suspended, c.watched = false, again
		return false
	}
	return true
}

// resume gives the connection a read loop, if it has none.
func (c *Conn) resume() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.resumeLocked()
}

func (c *Conn) resumeLocked() {
	if c.suspended {
		c.suspended = false
		c.u.poller.forget(c)
		go c.run()
	}
}
