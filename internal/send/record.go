package send

import (
	"time"

	"github.com/rccs-io/rccs/internal/trace"
	"github.com/rccs-io/rccs/wire"
)

// record begins the record of a message, which goes on with its place in the
// trace, and returns who hears the result; w itself when it is not recorded.
func (in *Intake) record(from *From, e *wire.Envelope, w Waiter) Waiter {
	now := time.Now()
	m := trace.Message{ID: e.ID, Type: e.Type, User: string(from.Address.User), From: string(from.Address.Device), Protocol: in.opts.Protocol}
	if from.Service {
		m.Protocol = "http" // on NATS services store by themselves
	}
	span := in.opts.Tracer.Begin(trace.Receive, m, e.Traceparent, now)
	if span == nil {
		return w
	}
	e.Traceparent = span.Place()
	return &recorded{w: w, span: span, start: now}
}

// recorded is the waiter of a message that is recorded.
type recorded struct {
	w     Waiter
	span  trace.Span
	start time.Time
}

// Sent implements [Waiter]. The store was asked last.
func (r *recorded) Sent(result Result) {
	end := time.Now()
	asked := end.Add(-result.Took)
	if asked.Before(r.start) {
		asked = r.start
	}
	r.span.Below(trace.Route, r.start, asked)
	if result.Took > 0 {
		r.span.Below(trace.Store, asked, end)
	}
	r.span.End(trace.CodeOf(result.Err), end)
	result.Trace = r.span.TraceID()
	r.w.Sent(result)
}
