// Package trace is the interface by which the parts of RCCS record the way of
// single messages: a [Tracer] begins a [Span] for each step. internal/tracing, which
// knows OpenTelemetry, implements it.
//
// A part without a tracer has nil, looks at that first, and does no more. A tracer
// and its spans are safe for concurrent use, and none of their methods blocks.
package trace

import (
	"time"

	"github.com/rccs-io/rccs/wire"
)

// Step is a step of a message's way, and the name of its span.
type Step string

// The steps. docs/operations.md says where each begins and ends.
const (
	Receive     Step = "receive"     // from its arrival to the answer
	Route       Step = "route"       // checked, and its recipients found
	Store       Step = "store"       // until the store has confirmed it
	Deliver     Step = "deliver"     // from its storage to a device's socket
	Acknowledge Step = "acknowledge" // until the device has acknowledged it
	Request     Step = "request"     // from a question to the end of its answer
	Answer      Step = "answer"      // from a device's socket to the end of its answer
	Publish     Step = "publish"     // from the arrival of a topic's message to the answer
)

// Message is what a span says of its message. Names of users and devices are
// among it; what the message says is not.
type Message struct {
	ID, Type       string
	User, From, To string // empty: not known, or several
	Topic, Method  string // of topics and of requests
	Protocol       string // by which it came: websocket, nats or http
	Seq            uint64
	Redelivered    bool
}

// Tracer records the way of single messages. Most of them are not recorded, and
// cost as little as possible.
type Tracer interface {
	// Begin begins a span at a time, below the place that a traceparent names or,
	// without one, of a trace of its own. It returns nil when that trace is not
	// recorded.
	Begin(step Step, m Message, traceparent string, at time.Time) Span
}

// Span is a step of a message that is recorded.
type Span interface {
	// Place is the traceparent for what follows the step.
	Place() string
	// TraceID is for exemplars of metrics.
	TraceID() string
	// Below records a step that is a part of this one.
	Below(step Step, from, to time.Time)
	// End ends the span at a time. code is what the step failed with, "" when it
	// did not. End is called once.
	End(code wire.Code, at time.Time)
}

// Codes of steps that ended otherwise than with an error of the protocol.
const (
	Cancelled wire.Code = "CANCELLED"
	Expired   wire.Code = "EXPIRED"
	Rejected  wire.Code = "REJECTED"
)

// CodeOf is the code of an error, "" for none.
func CodeOf(err *wire.Error) wire.Code {
	if err == nil {
		return ""
	}
	return err.Code
}
