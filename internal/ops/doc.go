// Package ops is what an operator does to a tenant that runs: look at devices,
// inboxes and streams, find what was missed, deliver it again, watch what
// flows, and find out what is wrong. The commands of cmd/rccs are thin over it.
//
// It owns no state and stores nothing of its own. It reads streams by Direct
// Get of literal subjects, or by one consumer with a filter, and never reads a
// whole stream where either is enough. It must not print, ask or decide for
// the operator, move a cursor, or touch what an edge or a coordinator owns:
// what it writes is copies of messages, and what it removes is what it was
// told to.
//
// A device is known when it is registered, or has messages.
//
// Concurrency: a [Tenant] is safe for concurrent use. Functions given to it
// are called from one goroutine at a time.
package ops
