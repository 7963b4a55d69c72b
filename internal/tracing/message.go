package tracing

import (
	"context"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/propagation"
	api "go.opentelemetry.io/otel/trace"

	"github.com/rccs-io/rccs/internal/trace"
	"github.com/rccs-io/rccs/subjects"
	"github.com/rccs-io/rccs/wire"
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

// kinds are what OpenTelemetry takes the steps for; the others are internal.
var kinds = map[trace.Step]api.SpanKind{
	trace.Receive: api.SpanKindServer, trace.Publish: api.SpanKindServer, trace.Deliver: api.SpanKindProducer,
	trace.Request: api.SpanKindServer, trace.Answer: api.SpanKindClient,
}

// span implements [trace.Span].
type span struct {
	tracer *Tracer
	ctx    context.Context //nolint:containedctx // it is the span's place
	span   api.Span
}

// Begin implements [trace.Tracer].
func (t *Tracer) Begin(step trace.Step, m trace.Message, traceparent string, at time.Time) trace.Span {
	ctx, s := t.tracer.Start(parent(traceparent), string(step), api.WithSpanKind(kinds[step]), api.WithTimestamp(at))
	if !s.IsRecording() {
		return nil
	}
	s.SetAttributes(attributes(&m)...)
	return &span{tracer: t, ctx: ctx, span: s}
}

// Place implements [trace.Span].
func (s *span) Place() string {
	var c carrier
	format.Inject(s.ctx, &c)
	return c.traceparent
}

// TraceID implements [trace.Span].
func (s *span) TraceID() string { return s.span.SpanContext().TraceID().String() }

// Below implements [trace.Span].
func (s *span) Below(step trace.Step, from, to time.Time) {
	_, child := s.tracer.tracer.Start(s.ctx, string(step), api.WithTimestamp(from))
	child.End(api.WithTimestamp(to))
}

// End implements [trace.Span].
func (s *span) End(code wire.Code, at time.Time) {
	if code != "" {
		s.span.SetStatus(codes.Error, string(code))
	}
	s.span.End(api.WithTimestamp(at))
}

// attributes are what a span says of its message.
func attributes(m *trace.Message) []attribute.KeyValue {
	all := []attribute.KeyValue{attribute.String("messaging.system", "rccs")}
	for _, a := range [...]struct{ key, value string }{
		{"messaging.message.id", m.ID},
		{"messaging.rccs.type", m.Type},
		{"messaging.rccs.user", m.User},
		{"messaging.rccs.from", m.From},
		{"messaging.rccs.to", m.To},
		{"messaging.destination.name", m.Topic},
		{"rpc.method", m.Method},
		{"network.protocol.name", m.Protocol},
	} {
		if a.value != "" {
			all = append(all, attribute.String(a.key, a.value))
		}
	}
	if m.Seq != 0 {
		all = append(all, attribute.Int64("messaging.rccs.seq", int64(m.Seq)), attribute.Bool("messaging.rccs.redelivered", m.Redelivered)) //nolint:gosec // below 1<<63
	}
	return all
}
