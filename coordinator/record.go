package coordinator

import (
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
	if m.promised {
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
		span := p.c.opts.Tracer.Begin(trace.Deliver, trace.Message{
			ID: d.ID(), Type: envelope.Type(d.Header), User: string(p.to.User), To: string(p.to.Device),
			Protocol: "nats", Seq: d.Seq, Redelivered: d.Redelivered,
		}, d.Traceparent(), time.Unix(0, d.Stored))
		if span != nil {
			span.End("", now)
		}
	}
}
