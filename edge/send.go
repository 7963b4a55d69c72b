package edge

import (
	"github.com/rccs-io/rccs/internal/envelope"
	"github.com/rccs-io/rccs/internal/send"
	"github.com/rccs-io/rccs/wire"
)

func (c *conn) sender() envelope.Sender {
	return envelope.Sender{Key: c.key, Device: c.who.Address.Device, Proof: c.tenant.Proof}
}

func (c *conn) identity() send.From { return send.From{Address: c.who.Address, Key: c.key} }

// send hands an application's message to the intake.
func (c *conn) send(e *wire.Envelope) {
	c.storing()
	c.tenant.intake.Start(c.s.ctx, c.identity(), e, c)
}

// Sent implements [send.Waiter].
func (c *conn) Sent(r send.Result) {
	defer c.contain()
	if r.Panic != nil {
		c.panicked(r.Panic)
	}
	if r.Err == nil || r.Took > 0 { // not what was refused before the store was asked
		c.s.metrics.received.Inc()
	}
	if r.Took > 0 {
		observe(c.s.metrics.publishDelay, r.Took, r.Trace)
	}
	c.stored(r.Accepted, r.Err)
}

// storing counts a message as not yet answered by the store.
func (c *conn) storing() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.inflight++
}

// stored ends what storing began, and tells the device err, or a if there is no
// error. Both may be nil.
func (c *conn) stored(a *wire.Accepted, err *wire.Error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	switch {
	case err != nil:
		c.tellLocked(err)
	case a != nil:
		c.answerLocked(wire.TypeAck, a.AppendPayload(nil))
	}
	c.inflight--
	c.changedLocked()
	c.endDrainLocked()
}

// clone copies a payload, which aliases the frame that it came in.
func clone(b []byte) []byte { return append(make([]byte, 0, len(b)), b...) }
