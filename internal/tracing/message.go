package tracing

import (
	"context"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/propagation"
	api "go.opentelemetry.io/otel/trace"

	"github.com/rccs-io/rccs/edge"
	"github.com/rccs-io/rccs/internal/envelope"
	"github.com/rccs-io/rccs/internal/send"
	"github.com/rccs-io/rccs/subjects"
	"github.com/rccs-io/rccs/wire"
)

// The names of spans, in the order of a message's way.
const (
	SpanReceive = "receive"     // from a device's frame to the answer
	SpanRoute   = "route"       // checked, and its recipients found
	SpanStore   = "store"       // until the store has confirmed it
	SpanDeliver = "deliver"     // from its storage to a device's socket
	SpanAck     = "acknowledge" // until the device has acknowledged it
)

var format propagation.TraceContext

// carrier is a traceparent.
type carrier struct{ traceparent string }

// Get implements [propagation.TextMapCarrier].
func (c *carrier) Get(key string) string {
	if key == subjects.HeaderTrace {
		return c.traceparent
	}
	return ""
}

// Set implements [propagation.TextMapCarrier].
func (c *carrier) Set(key, value string) {
	if key == subjects.HeaderTrace {
		c.traceparent = value
	}
}

// Keys implements [propagation.TextMapCarrier].
func (*carrier) Keys() []string { return []string{subjects.HeaderTrace} }

// parent is the place that a traceparent names.
func parent(traceparent string) context.Context {
	ctx := context.Background()
	if traceparent == "" {
		return ctx
	}
	return format.Extract(ctx, &carrier{traceparent})
}

// place is a traceparent for what follows a span.
func place(ctx context.Context) string {
	var c carrier
	format.Inject(ctx, &c)
	return c.traceparent
}

// about are the attributes of a message. Names of users and devices are among
// them; what a message says is not.
func about(id, kind string, device subjects.Address, key string) []attribute.KeyValue {
	return []attribute.KeyValue{
		attribute.String("messaging.system", "rccs"), attribute.String("messaging.message.id", id), attribute.String("messaging.rccs.type", kind),
		attribute.String("messaging.rccs.user", string(device.User)), attribute.String(key, string(device.Device)),
	}
}

// received is a message that an edge has received.
type received struct {
	tracer *Tracer
	ctx    context.Context //nolint:containedctx // it is the span's place
	span   api.Span
	start  time.Time
}

// Received implements [edge.Tracer].
func (t *Tracer) Received(e *wire.Envelope, from subjects.Address) edge.Reception {
	now := time.Now()
	ctx, span := t.tracer.Start(parent(e.Traceparent), SpanReceive, api.WithSpanKind(api.SpanKindServer), api.WithTimestamp(now))
	if !span.IsRecording() {
		return nil
	}
	span.SetAttributes(about(e.ID, e.Type, from, "messaging.rccs.from")...)
	e.Traceparent = place(ctx)
	return &received{tracer: t, ctx: ctx, span: span, start: now}
}

// TraceID implements [edge.Reception].
func (r *received) TraceID() string { return r.span.SpanContext().TraceID().String() }

// Done implements [edge.Reception]. What the store was asked for is at the end.
func (r *received) Done(result send.Result) {
	end := time.Now()
	asked := end.Add(-result.Took)
	if asked.Before(r.start) {
		asked = r.start
	}
	r.child(SpanRoute, r.start, asked)
	if result.Took > 0 {
		r.child(SpanStore, asked, end)
	}
	fail(r.span, result.Err)
	r.span.End(api.WithTimestamp(end))
}

func (r *received) child(name string, from, to time.Time) {
	_, span := r.tracer.tracer.Start(r.ctx, name, api.WithTimestamp(from))
	span.End(api.WithTimestamp(to))
}

func fail(span api.Span, werr *wire.Error) {
	if werr != nil {
		span.SetStatus(codes.Error, string(werr.Code))
	}
}

// delivered is a message on its way to a device.
type delivered struct {
	tracer *Tracer
	ctx    context.Context //nolint:containedctx // it is the span's place
	id     string
	at     time.Time
}

// Delivered implements [edge.Tracer].
func (t *Tracer) Delivered(d *envelope.Delivery, to subjects.Address) edge.Reception {
	now := time.Now()
	ctx, span := t.tracer.Start(parent(d.Traceparent()), SpanDeliver,
		api.WithSpanKind(api.SpanKindProducer), api.WithTimestamp(time.Unix(0, d.Stored)))
	if !span.IsRecording() {
		return nil
	}
	span.SetAttributes(about(d.ID(), envelope.Type(d.Header), to, "messaging.rccs.to")...)
	span.SetAttributes(attribute.Int64("messaging.rccs.seq", int64(d.Seq)), attribute.Bool("messaging.rccs.redelivered", d.Redelivered)) //nolint:gosec // below 1<<63
	span.End(api.WithTimestamp(now))
	return &delivered{tracer: t, ctx: ctx, id: span.SpanContext().TraceID().String(), at: now}
}

// TraceID implements [edge.Reception].
func (d *delivered) TraceID() string { return d.id }

// Done implements [edge.Reception].
func (d *delivered) Done(result send.Result) {
	_, span := d.tracer.tracer.Start(d.ctx, SpanAck, api.WithTimestamp(d.at))
	fail(span, result.Err)
	span.End()
}
