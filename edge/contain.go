package edge

import (
	"runtime/debug"
	"time"

	"github.com/rccs-io/rccs/wire"
)

// contain is deferred wherever code runs for one connection. A panic ends that
// connection and no other, as in net/http a panic ends one request. The device is
// told INTERNAL, closed with 1011, and comes back.
//
// It takes the connection's lock. Code that may panic while it holds the lock has
// to release it with defer.
func (c *conn) contain() {
	if p := recover(); p != nil {
		c.panicked(p)
	}
}

// contained runs f, and contains a panic in it.
func (c *conn) contained(f func()) {
	defer c.contain()
	f()
}

// panicked ends the connection because of a panic. If the close takes too long,
// the socket is closed anyway.
func (c *conn) panicked(p any) {
	c.log().Error("panic while a connection was served, which ends it", "panic", p, "stack", string(debug.Stack()))
	c.s.metrics.panics.Inc()
	c.finish(wire.CloseInternal, wire.NewError(wire.Internal, "a fault of the edge: connect again"))
	time.AfterFunc(2*c.s.opts.CloseTimeout, c.sock.Abort)
}

// containWrite is contain for the writer, which goes on to write the close frame.
// Messages that it had taken from the mailbox are not acknowledged, and are sent
// again.
func (c *conn) containWrite() {
	p := recover()
	if p == nil {
		return
	}
	c.panicked(p)
	c.mu.Lock()
	defer c.mu.Unlock()
	c.out.writing = false
	c.changedLocked()
}
