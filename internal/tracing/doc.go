// Package tracing records the way of single messages with OpenTelemetry: where a
// message was received, how long it took to route and to store, when it was
// written to each device, and when that acknowledged it; likewise requests with
// their answers, and topics. It is the only package that knows OpenTelemetry;
// the others know [trace.Tracer].
//
// A message's place in its trace is its traceparent (W3C Trace Context), in the
// envelope and in a NATS header of the same name. So one trace goes over devices,
// edges and servers, and on into services that read the header.
//
// Which messages are recorded is decided by the trace's id, the same way in every
// process with the same share. The word of a sender counts only to leave a message
// out: nobody can have more recorded than the operator asked for.
//
// A [Tracer] is safe for concurrent use. Spans are sent by a goroutine that
// [Tracer.Stop] ends; what it cannot send fast enough is dropped, and nothing ever
// waits for it.
package tracing

import "github.com/rccs-io/rccs/internal/trace"

var _ trace.Tracer = (*Tracer)(nil)
