// Package edge is the WebSocket side of RCCS, a component for cmd/rccs and tests.
// It accepts devices, checks their credentials, hands what they send to package
// send, and writes what their inboxes hold. It is thin: package wsconn has the
// single WebSocket, package inbox the durable messages, package roster the
// devices, and package wire the frames.
//
// # A connection's life
//
// [Server.ServeHTTP] upgrades a request, starts the connection's read loop and
// returns, so that net/http's buffers are freed. A conn is the handler of its
// socket: the read loop calls Message, the writer calls Write. An idle device
// costs no goroutine. One goroutine for the whole server, the heartbeat loop,
// handles heartbeats, deadlines and expiry.
//
// A conn has a phase that only rises: unregistered, attaching, attached,
// draining, detaching. Its fields are grouped by owner, a type for each: reader
// (the read loop), device (constant after registration), session and outbox
// (under conn.mu), calls and following (under locks of their own). Lock order:
// calls.mu, conn.mu, then the socket's.
//
// Every queue is bounded. The device's window and its mailbox bound the messages
// that it is sent. For the answers there is back-pressure: the read loop waits
// while too much of what the device sent is unanswered, or too many answers are
// unread. No frame is larger than the device takes; see fit.go.
//
// A panic while one connection is served ends that connection alone; see
// contain.go.
//
// A newcomer starts at register.go (how a connection becomes a device's),
// dispatch.go (what the device sends), write.go (what it is sent) and session.go
// (how it ends). tenant.go holds what the connections of a tenant share.
package edge
