package coordinator

import (
	"errors"
	"runtime/debug"
)

// errPanicked means that an attempt has panicked. It may be repeated.
var errPanicked = errors.New("coordinator: a fault of this process, see above")

// contained runs f. A panic in it is logged and counted, and goes no further: one
// request or one stored message must not end the process.
func (c *Coordinator) contained(what string, f func()) {
	defer func() {
		if p := recover(); p != nil {
			c.log.Error("panic in the coordinator, contained to what caused it", "what", what, "panic", p, "stack", string(debug.Stack()))
			c.metrics.panics.Inc()
		}
	}()
	f()
}
