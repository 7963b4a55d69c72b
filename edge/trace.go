package edge

import (
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/rccs-io/rccs/internal/envelope"
	"github.com/rccs-io/rccs/internal/topic"
	"github.com/rccs-io/rccs/internal/trace"
	"github.com/rccs-io/rccs/subjects"
	"github.com/rccs-io/rccs/wire"
)

// begin begins a span for a step of a message that the device sent, and puts the
// span's place into the message; nil if the message is not recorded. The edge
// must have a tracer.
func (c *conn) begin(step trace.Step, m trace.Message, e *wire.Envelope) trace.Span {
	m.ID, m.Type, m.Protocol = e.ID, e.Type, protocol
	m.User = string(c.who.Address.User)
	span := c.s.opts.Tracer.Begin(step, m, e.Traceparent, time.Now())
	if span != nil {
		e.Traceparent = span.Place()
	}
	return span
}

// protocol is the protocol by which devices reach an edge.
const protocol = "websocket"

// endSpan ends a span, if there is one.
func endSpan(s trace.Span, code wire.Code) {
	if s != nil {
		s.End(code, time.Now())
	}
}

// observe adds to a histogram, with the trace of the message if that is recorded.
func observe(h prometheus.Histogram, d time.Duration, traceID string) {
	if e, ok := h.(prometheus.ExemplarObserver); ok && traceID != "" {
		e.ObserveWithExemplar(d.Seconds(), prometheus.Labels{"trace_id": traceID})
		return
	}
	h.Observe(d.Seconds())
}

// deliveries are the recorded messages that a device has not acknowledged. The
// zero value is ready for use.
type deliveries struct {
	mu  sync.Mutex
	all map[uint64]handedOn // by seq
}

// handedOn is a message that was written to a device, and its place in the trace.
type handedOn struct {
	traceparent, traceID string
	message              trace.Message
	at                   time.Time
}

// maxRecorded bounds deliveries. Of messages past it only the delivery is
// recorded.
const maxRecorded = 4096

// record records the messages that are written next. It comes before the write,
// because the device may acknowledge at once.
func (c *conn) record(b *burst) {
	if c.s.opts.Tracer == nil {
		return
	}
	for i := range b.deliveries {
		d := &b.deliveries[i]
		h, ok := c.recordDelivery(d)
		if ok {
			c.recorded.add(d.Seq, h)
		}
		b.traces = append(b.traces, h.traceID)
	}
}

// recordDelivery records that a message goes to the device now; false if it is
// not recorded. The edge must have a tracer.
func (c *conn) recordDelivery(d *envelope.Delivery) (handedOn, bool) {
	traceparent := d.Traceparent()
	if traceparent == "" {
		return handedOn{}, false // whoever stored it did not record it
	}
	h := handedOn{at: time.Now(), message: trace.Message{
		ID: d.ID(), Type: envelope.Type(d.Header), User: string(c.who.Address.User), To: string(c.who.Address.Device),
		Protocol: protocol, Seq: d.Seq, Redelivered: d.Redelivered,
	}}
	span := c.s.opts.Tracer.Begin(trace.Deliver, h.message, traceparent, time.Unix(0, d.Stored))
	if span == nil {
		return h, false
	}
	h.traceparent, h.traceID = span.Place(), span.TraceID()
	span.End("", h.at)
	return h, true
}

// recordTopics records that messages of topics were written to the device.
func (c *conn) recordTopics(all []*topic.Message) {
	t := c.s.opts.Tracer
	if t == nil {
		return
	}
	now := time.Now()
	for _, m := range all {
		traceparent := envelope.Value(m.Header, subjects.HeaderTrace)
		if traceparent == "" || m.Notice() {
			continue
		}
		span := t.Begin(trace.Deliver, trace.Message{
			ID: envelope.ID(m.Header), User: string(c.who.Address.User), To: string(c.who.Address.Device),
			Topic: m.Topic, Protocol: protocol, Seq: m.Seq,
		}, traceparent, time.Unix(0, m.Stored))
		if span != nil {
			span.End("", now)
		}
	}
}

// trace returns the trace id of a recorded message that is not acknowledged yet;
// "" if there is none.
func (c *conn) trace(seq uint64) string {
	if c.s.opts.Tracer == nil {
		return ""
	}
	return c.recorded.trace(seq)
}

// Acked implements [inbox.Receiver]: it counts a message that the device has
// acknowledged, d after its storage.
func (c *conn) Acked(seq uint64, d time.Duration) {
	c.s.metrics.acked.Inc()
	observe(c.s.metrics.storedAck, d, c.trace(seq))
}

// recordAcked records that the device acknowledged messages, those in seqs and
// all up to upTo, or that it rejected them, with a code.
func (c *conn) recordAcked(upTo uint64, seqs []uint64, code wire.Code) {
	t := c.s.opts.Tracer
	if t == nil {
		return
	}
	for _, h := range c.recorded.remove(upTo, seqs) {
		if span := t.Begin(trace.Acknowledge, h.message, h.traceparent, h.at); span != nil {
			span.End(code, time.Now())
		}
	}
}

func (d *deliveries) trace(seq uint64) string {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.all[seq].traceID
}

func (d *deliveries) add(seq uint64, h handedOn) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.all == nil {
		d.all = make(map[uint64]handedOn)
	}
	if len(d.all) < maxRecorded {
		d.all[seq] = h
	}
}

// remove removes the messages in seqs and all up to upTo, and returns them.
func (d *deliveries) remove(upTo uint64, seqs []uint64) (removed []handedOn) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if len(d.all) == 0 {
		return nil
	}
	one := func(seq uint64) {
		if h, ok := d.all[seq]; ok {
			delete(d.all, seq)
			removed = append(removed, h)
		}
	}
	for _, seq := range seqs {
		one(seq)
	}
	if upTo == 0 {
		return removed
	}
	for seq := range d.all {
		if seq <= upTo {
			one(seq)
		}
	}
	return removed
}
