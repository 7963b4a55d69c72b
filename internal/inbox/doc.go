// Package inbox is the durable inbox of a device on JetStream: publish,
// attach, catch up, acknowledge. It is the heart of RCCS.
//
// There is no JetStream consumer per device. One reader in each process (the
// [Hub]) follows the whole inbox stream, looks each message up in a map of the
// devices attached here, and hands it to that device's [Mailbox]; it keeps a
// tail of recent messages in memory. A mailbox holds a bounded queue for each
// lane, the window of what was sent and not acknowledged, and a position.
// When its queue is full, or when it has just been attached, a lane is
// "catching up": what it lacks is read from the store by batched Direct Get up to
// where the tail begins, and from the tail to the head under the hub's lock.
// That join leaves no gap, no swap and no double.
//
// What a device acknowledged is kept in one small message a device on the
// cursor stream ([Cursor]), written 250 ms after a change, at once when a
// device detaches, and never one a message: a cursor written late only brings
// a message twice.
//
// Concurrency: all exported methods are safe for concurrent use. Lock order is
// Hub.mu, then Mailbox.mu. The Wake function of a mailbox is called with locks
// held and must not block or call back. The package does no socket I/O.
package inbox
