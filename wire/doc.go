// Package wire owns what is said on a connection: the envelope and its codec,
// the payloads of control messages, the closed set of error codes and the
// WebSocket close codes. The protocol page is the contract; this package is
// its spelling in Go, and testdata holds the vectors that every other
// implementation is held to as well.
//
// It is a leaf: of RCCS it imports package subjects only, for the types of names.
// It does no I/O, starts no goroutine and reads no clock. It must not decide anything that needs to know who the
// peer is: identity, permission and routing belong to its callers.
//
// All functions are pure and safe for concurrent use. Values are plain data:
// one goroutine at a time, as with any struct.
//
// A newcomer starts at [DecodeFrame] (bytes to envelopes), [Envelope.Append]
// (the way back) and [Code] (what can go wrong). Each payload that RCCS gives
// a meaning has a type here, with a decoder and AppendPayload; what an edge
// says in its own name also has Append, for the whole envelope.
//
// # Memory
//
// Decoding never keeps a reference to the frame but for one: the payload is
// the frame's own bytes, neither copied nor re-encoded. Copy it, or encode it
// elsewhere, before the frame's buffer is used again. The other strings of an
// envelope share one allocation.
package wire
