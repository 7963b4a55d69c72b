package coordinator

import (
	"sync"
	"time"

	"github.com/rccs-io/rccs/internal/envelope"
	"github.com/rccs-io/rccs/internal/trace"
	"github.com/rccs-io/rccs/subjects"
	"github.com/rccs-io/rccs/wire"
)

// begin begins a span for a message of the route stream, from its storage there.
// It returns nil if the message is not recorded.
func (r *router) begin(m *routed) trace.Span {
	t := r.c.opts.Tracer
	if t == nil {
		return nil
	}
	about := trace.Message{ID: m.id(), Type: m.msg.Type, User: string(m.user), Protocol: "nats"}
	if m.acceptedByEdge {
		about.From = string(m.msg.From)
	}
	return t.Begin(trace.Route, about, envelope.Value(m.header, subjects.HeaderTrace), m.stored)
}

// recordEnd records that a message of the route stream goes to no device.
func (r *router) recordEnd(m *routed, code wire.Code) {
	if span := r.begin(m); span != nil {
		span.End(code, time.Now())
	}
}

// recordFetched records that messages are delivered to a device on plain NATS
// now.
func (p *fetchBatch) recordFetched() {
	now := time.Now()
	for _, d := range p.recorded {
		span := p.c.opts.Tracer.Begin(trace.Deliver, about(d.Message, p.to, d.Redelivered), d.Traceparent(), time.Unix(0, d.Stored))
		if span != nil {
			p.c.delivered.add(d.Seq, delivery{span.Place(), now, d.Redelivered})
			span.End("", now)
		}
	}
}

// recordAcked records that a device on plain NATS has acknowledged messages, or
// rejected the one with the sequence rejected. The span begins with the delivery.
// If another coordinator delivered the message, it begins when the request
// arrived, and its parent is that of the delivery.
func (c *Coordinator) recordAcked(to subjects.Address, all []*envelope.Message, rejected uint64, arrived time.Time) {
	for _, m := range all {
		d, here := c.delivered.remove(m.Seq)
		if !here {
			d = delivery{place: m.Traceparent(), at: arrived}
		}
		if d.place == "" {
			continue // whoever stored it did not record it
		}
		code := wire.Code("")
		if m.Seq == rejected {
			code = trace.Rejected
		}
		if span := c.opts.Tracer.Begin(trace.Acknowledge, about(m, to, d.redelivered), d.place, d.at); span != nil {
			span.End(code, time.Now())
		}
	}
}

// about describes, for a span, a message to a device on plain NATS.
func about(m *envelope.Message, to subjects.Address, redelivered bool) trace.Message {
	return trace.Message{
		ID: m.ID(), Type: envelope.Type(m.Header), User: string(to.User), To: string(to.Device),
		Protocol: "nats", Seq: m.Seq, Redelivered: redelivered,
	}
}

// maxDelivered bounds deliveries.
const maxDelivered = 4096

// deliveries are the recorded messages that were delivered to devices on plain
// NATS last, and are not acknowledged yet. The zero value is ready for use.
type deliveries struct {
	mu    sync.Mutex
	all   map[uint64]delivery // by seq
	order []uint64            // a ring of what was added, so that the oldest goes first
	next  int
}

// delivery is the delivery of a message: its place in the trace, and its time.
type delivery struct {
	place       string
	at          time.Time
	redelivered bool
}

func (d *deliveries) add(seq uint64, one delivery) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.all == nil {
		d.all = make(map[uint64]delivery)
	}
	if _, again := d.all[seq]; !again {
		if len(d.order) < maxDelivered {
			d.order = append(d.order, seq)
		} else {
			delete(d.all, d.order[d.next])
			d.order[d.next] = seq
			d.next = (d.next + 1) % maxDelivered
		}
	}
	d.all[seq] = one
}

func (d *deliveries) remove(seq uint64) (delivery, bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	one, here := d.all[seq]
	delete(d.all, seq)
	return one, here
}
