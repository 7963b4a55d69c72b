// Package subjects has the names by which services and devices reach RCCS on
// NATS: subjects, headers, the streams that services read, and the escaping of
// user and device names into subject tokens. A service needs no other part of
// RCCS, and any NATS client:
//
//	to := subjects.Address{User: "alice", Device: "phone"}
//	js.Publish(ctx, subjects.Inbox(to.Key(), subjects.Normal), payload)
//
// It is a leaf: it imports nothing of RCCS and does no I/O. All functions are pure
// and safe for concurrent use.
//
// Start at [Inbox] (where the messages of a device live), [Route] (for a message
// whose recipients RCCS is to find), [Key] (how a device is named inside a
// subject) and [Escape] (how a name becomes a token).
package subjects
