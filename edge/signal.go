package edge

import (
	"strconv"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nuid"

	"github.com/rccs-io/rccs/internal/envelope"
	"github.com/rccs-io/rccs/subjects"
)

// onSignal handles every signal of the tenant.
func (t *Tenant) onSignal(m *nats.Msg) {
	key, ok := subjects.ParseSignal(m.Subject)
	if !ok {
		return
	}
	if t = t.of(key); t == nil {
		return // other edges serve the user
	}
	c := t.find(key)
	if c == nil {
		return // connected elsewhere, or not at all
	}
	if t.Examine != nil {
		t.Examine(key, m.Subject, m.Header)
	}
	lane := subjects.Normal
	if n, err := strconv.ParseUint(m.Header.Get(subjects.HeaderPriority), 10, 8); err == nil && n < subjects.Lanes {
		lane = subjects.Lane(n)
	}
	if envelope.Value(m.Header, subjects.HeaderID) == "" {
		if m.Header == nil {
			m.Header = make(nats.Header)
		}
		m.Header.Set(subjects.HeaderID, "signal-"+nuid.Next())
	}
	c.pass(&envelope.Delivery{Message: &envelope.Message{
		Key: key, Lane: lane, Stored: time.Now().UnixNano(), Header: m.Header, Data: m.Data,
	}})
}

// pass writes a message that is not stored. It is dropped if the device does not
// read what it was sent before.
func (c *conn) pass(d *envelope.Delivery) {
	defer c.contain()
	if c.s.opts.Tracer != nil {
		c.recordDelivery(d)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.out.outgoing.size()+len(d.Data) > maxOutBytes && c.out.outgoing.size() > 0 {
		c.s.metrics.dropped.Inc()
		return
	}
	if c.queueLocked(func(dst []byte) []byte { return envelope.Append(dst, d, c.who.Address) }) == nil {
		c.s.metrics.dropped.Inc()
	}
}
