// Package edge is the WebSocket side of RCCS: it accepts devices, checks their
// credentials, stores what they send in the inboxes it is for, and writes what
// their own inbox holds. It is thin: what is durable is in package inbox, who
// is who in package roster, what a frame says in package wire.
//
// # A connection's life
//
// [Server.ServeHTTP] upgrades a request, starts the connection's read loop on
// a goroutine of its own and returns, so that net/http's buffers are freed.
// The read loop owns all that is read; while it waits it holds no buffer but
// the 256 bytes that gorilla keeps. On
// Linux, without TLS, it ends when nothing has come for a moment: the
// connection is parked, and the server's lot starts it again when something
// comes or the connection ends. A writer goroutine owns the socket's write
// side; it exists only while there is something to write. So an idle device
// costs no goroutine, and elsewhere one. One goroutine for the whole server,
// the pulse, looks after heartticks, deadlines and expiry.
//
// Every queue is bounded. What a device is sent is bounded by its window and
// by its mailbox; what it is answered is bounded because its read loop waits
// while too much of what it sent is unanswered or unread: that is the
// back-pressure a fast sender meets.
//
// A connection ends once, for one reason, recorded in conn.end. The writer
// sends the close frame behind everything queued; the read loop discards what
// still comes until the peer has closed or a moment has passed, so that the
// close frame arrives. A parked connection gets its read loop back for it.
package edge
