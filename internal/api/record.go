package api

import (
	"context"
	"errors"
	"time"

	"github.com/rccs-io/rccs/internal/trace"
	"github.com/rccs-io/rccs/subjects"
	"github.com/rccs-io/rccs/wire"
)

// traceparent is the client's place in a trace (W3C Trace Context), "" without
// one. What does not look like one is left out: HTTP says nothing to that.
func (c *call) traceparent() string {
	if place := c.r.Header.Get(subjects.HeaderTrace); wire.ValidID(place) {
		return place
	}
	return ""
}

// begin begins the record of a step, and returns its place in the trace; without
// one that is the client's.
func (a *API) begin(c *call, step trace.Step, m trace.Message) (trace.Span, string) {
	place := c.traceparent()
	if a.opts.Tracer == nil {
		return nil, place
	}
	m.From, m.Protocol = "service:"+c.sender(), "http"
	span := a.opts.Tracer.Begin(step, m, place, time.Now())
	if span != nil {
		place = span.Place()
	}
	return span, place
}

// codeOf is what a record says of an error, "" for none.
func codeOf(err error) wire.Code {
	switch {
	case err == nil:
		return ""
	case errors.Is(err, context.Canceled):
		return trace.Cancelled
	}
	if _, ok := errors.AsType[*wire.Failure](err); ok {
		return codeDeviceError
	}
	if told, ok := errors.AsType[*wire.Error](err); ok {
		return told.Code
	}
	return wire.Unavailable
}
