// Package wsconn is one WebSocket of a server: it reads and writes frames,
// keeps idle sockets without a goroutine, bounds every wait by a deadline, and
// closes once. What the messages say is the business of its [Handler].
//
// # Who runs
//
// A [Conn] has two goroutines at most.
//
// The read loop begins with [Conn.Start]. It reads messages and hands each to
// [Handler.Message]; the next is not read before that returns, which is how a
// handler holds a fast peer back. While it waits it holds no buffer but the
// 256 bytes that gorilla keeps. When nothing has come for 5 s, the
// read loop ends and the socket is suspended: one epoll set for all
// connections watches it, and starts the loop again when something comes. This
// works on Linux and without TLS; elsewhere an idle connection keeps its read
// loop.
//
// The writer owns the write side of the socket. It exists only while there is
// something to write: [Conn.Wake] starts it, or has it look again. It calls
// [Handler.Write] until nobody has woken it meanwhile.
//
// So an idle connection costs no goroutine. Nothing here has a timer of its
// own either: the owner calls [Conn.Tick] for each connection twice a second.
//
// # How it ends
//
// A connection is open, then closing, then closed, and never goes back.
//
//	open ── Close, or the peer's close frame ──> closing ── the close frame is written ──> closed
//	  └────── a write fails, the peer breaks the protocol, or Abort ────────────────────────┘
//
// The first [Conn.Close] decides the code. The close frame follows all that the
// handler had queued before. The read loop goes on until the peer has closed as
// well or [Options.CloseTimeout] has passed, so that the frame arrives instead
// of a reset. Then it calls [Handler.ReadClosed], waits for the writer, closes
// the socket, and calls [Handler.Closed]: after that no goroutine of the
// connection is left. A suspended connection gets its read loop back for this.
// Only the read loop ends a connection, and it ends once, so neither callback
// comes twice.
//
// # Locks
//
// Conn.mu guards the few fields under it. It is held for assignments only:
// never while a handler is called, and never over I/O. So a handler may call
// [Conn.Wake], [Conn.Close] and [Conn.Abort] with locks of its own held.
//
// # Beside gorilla
//
// gorilla/websocket shakes hands, reads and checks frames, and writes control
// frames. Three things are done here as well, each because a benchmark says so:
//
//   - [frameReader] follows where frames end. gorilla reads ahead into a buffer
//     of its own; without knowing the boundary nobody could tell an idle
//     connection from one with half a message in that buffer.
//   - [takeControl] reads a whole ping or pong of a suspended connection.
//     gorilla would wait for the message behind it, with a goroutine.
//   - [Writer.Text] writes the header of a text frame itself. With a pool of
//     write buffers gorilla allocates for each frame, and without one it keeps
//     4 KiB for each connection. BenchmarkText compares the two.
package wsconn
