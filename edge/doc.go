// Package edge is a part for cmd/rccs and tests: the WebSocket side of RCCS. It
// accepts devices, checks their credentials, hands what they send to package
// send, and writes what their inbox holds. It is thin: one WebSocket is in
// package wsconn, what is durable in package inbox, which devices there are in
// package roster, what a frame says in package wire.
//
// # A connection's life
//
// [Server.ServeHTTP] upgrades a request, starts the connection's read loop and
// returns, so that net/http's buffers are freed. A conn is the handler of its
// socket: the read loop calls Message, the writer calls Write. An idle device
// costs no goroutine. One goroutine for the whole server, the heartbeat loop,
// looks after heartbeats, deadlines and expiry.
//
// A conn has a phase that only rises: unregistered, attaching, attached,
// draining, detaching. Its fields stand in the type of their owner: reader (the
// read loop), device (constant after registration), session and outbox (under
// conn.mu), calls and following (under locks of their own). Lock order:
// calls.mu, conn.mu, then the socket's.
//
// Every queue is bounded. What a device is sent is bounded by its window and by
// its mailbox; what it is answered is bounded because its read loop waits while
// too much of what it sent is unanswered or unread: that is the back-pressure a
// fast sender meets. No frame is larger than the device takes; see fit.go.
//
// A panic while one connection is served ends that connection alone; see
// contain.go.
package edge
