// Package inbox is the durable inbox of a device on JetStream: publish,
// attach, catch up, acknowledge. It is the heart of RCCS.
//
// There is no JetStream consumer per device. One reader in each process (the
// [Hub]) follows the whole inbox stream, looks each message up in a map of the
// devices attached here, and hands it to that device's [Mailbox]. It keeps a tail
// of recent messages in memory. A mailbox holds a bounded queue for each lane,
// the window of messages that were sent and not acknowledged, and a position. A
// lane that has just been attached, or whose queue is full, is "catching up": it
// reads what it lacks from the store with batched Direct Get, up to where the
// tail begins, and then from the tail up to the head under the hub's lock. That
// join loses, swaps and repeats no message.
//
// What a device acknowledged is kept in one small message a device on the cursor
// stream ([Cursor]). It is written 1 s after a change, and at once when a
// device detaches, but never for each message: a cursor that is written late only
// means that a message is sent twice.
//
// A newcomer reads docs/inbox.md, and then hub.go (the stream), mailbox.go, lane.go
// and next.go (what a device is sent), attach.go and fill.go (how it catches up),
// ack.go (what it answers) and cursorwriter.go (how that is stored). gap.go and
// loss.go are about what is gone, outcome.go and deadline.go about what senders
// hear, and publish.go is the way into the store.
//
// Concurrency: all exported methods are safe for concurrent use. Lock order is
// Hub.mu, then Mailbox.mu. MessagesReady of a mailbox's receiver is called with locks
// held and must not block or call back. The package does no socket I/O.
package inbox
