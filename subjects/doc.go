// Package subjects owns every name that RCCS uses on NATS: subjects, streams,
// key-value buckets, the escaping of user and device names into subject
// tokens, and the permission patterns that follow from them.
//
// It is a leaf: it imports nothing of RCCS and does no I/O. A dot-joined
// subject literal anywhere else in the tree is a bug. All functions are pure
// and safe for concurrent use.
//
// A newcomer starts at [Escape] (how a name becomes a token), [Key] (how a
// device is named inside a subject) and [Inbox] (where its messages live).
package subjects
