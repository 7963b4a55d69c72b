// Package envelope turns an envelope of the protocol into a NATS message and
// back: the body is the payload, headers carry the rest. Edges use it for what
// devices send and get by WebSocket, the coordinator for devices on plain NATS
// and for what it routes.
//
// [Parse] and [Append] are the only ways between a message of an inbox and an
// envelope, and [AppendTopic] is for topics. What a stored message says besides
// its payload, its id and its time to live among others, is read here alone.
//
// What a device is shown is made from whatever a service published: a header
// that cannot be used is as good as none. What a device sends was checked by
// package wire before it comes here; no header that begins with Nats- is ever
// taken from it.
//
// All functions are safe for concurrent use. What they make of a message depends on
// the message alone, but for one mark: whether the clock was set ahead, so that a store
// may have forgotten the message.
package envelope
