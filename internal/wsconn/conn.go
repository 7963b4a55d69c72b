package wsconn

import (
	"math"
	"math/rand/v2"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"github.com/gorilla/websocket"
)

// A Handler is the owner of a [Conn]. Its methods are called without locks of
// the connection.
type Handler interface {
	// Message handles one message of the peer. It runs on the read loop; data
	// is valid until it returns. It is also called while the connection is
	// closing: the handler decides what still counts.
	Message(kind int, data []byte)
	// TooLarge is called instead of Message for a message over the limit. The
	// message is discarded.
	TooLarge()
	// Write writes what the handler has for the peer, on the writer. It is
	// called after each [Conn.Wake], and may be called without need. An error is
	// one that w returned.
	Write(w Writer) error
	// ReadClosed is called once, by the read loop, after the last Message. The
	// writer may still be writing.
	ReadClosed()
	// Closed is called once, after everything else: the socket is closed and
	// both goroutines are done.
	Closed()
}

// state is how far the end of a connection has come. It only rises.
type state int32

const (
	open    state = iota // messages are read and written
	closing              // a close frame waits behind what the handler has queued
	closed               // nothing more is written
)

// writer is what the writer's goroutine does.
type writer uint8

const (
	writerAbsent writer = iota // there is none
	writerWoken                // it has to look at what there is
	writerBusy                 // it writes what it has seen, and ends if nobody wakes it
)

// started is what times of connections are counted from.
var started = time.Now()

// Conn is one WebSocket. Its methods may be called from any goroutine, except
// [Conn.SetLimit].
type Conn struct {
	// Static after Upgrade.
	u  *Upgrader
	h  Handler
	ws *websocket.Conn
	id uint64
	nc bufferedConn // has a lock of its own

	// Owned by the read loop.
	limit   int32 // the largest message
	waits   bool  // wait for a message before the loop is suspended
	watched bool  // the idle poller has had this socket

	// Owned by the writer.
	writeBegan time.Duration // since started; 0 while nothing is being written

	// Written by the goroutine named, read by Tick.
	lastRead atomic.Int64 // both: when the peer showed a sign of life, as Upgrader.clock has it
	reading  atomic.Bool  // read loop: it waits for the peer, not for the handler
	waiting  atomic.Bool  // read loop: it waits for a message to begin, and may be suspended
	sending  atomic.Bool  // writer: a write is under way

	state atomic.Int32 // a [state]; changed with mu held

	mu          sync.Mutex
	writerDone  sync.Cond // writer became writerAbsent
	writer      writer
	suspended   bool // there is no read loop
	pingDue     bool
	pong        *string // the payload to send back
	lastPing    int64   // 0 before the first Tick
	closeCode   int
	closeReason string
}

// ID is unique among the connections of an [Upgrader].
func (c *Conn) ID() uint64 { return c.id }

// Subprotocol is the one that was agreed on.
func (c *Conn) Subprotocol() string { return c.ws.Subprotocol() }

// SetLimit sets how large a message may be from the next one on. Only the
// handler's Message may call it, or the owner before it calls Start.
func (c *Conn) SetLimit(n int) { c.limit = limitOf(n) }

// limitOf is a limit as a connection keeps it. There are many connections.
func limitOf(n int) int32 { return int32(min(n, math.MaxInt32)) } //nolint:gosec // it fits

// Start begins to read.
func (c *Conn) Start() { go c.run() }

// Open reports whether the connection is neither closing nor closed.
func (c *Conn) Open() bool { return state(c.state.Load()) == open }

// Suspended reports whether the connection has no read loop.
func (c *Conn) Suspended() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.suspended
}

// Wake has the writer call [Handler.Write], and starts it if there is none. It
// never blocks.
func (c *Conn) Wake() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.wakeLocked()
}

func (c *Conn) wakeLocked() {
	switch {
	case state(c.state.Load()) == closed:
	case c.writer == writerAbsent:
		c.writer = writerWoken
		go c.write()
	default:
		c.writer = writerWoken
	}
}

// Close begins the end of the connection: what the handler has queued is
// written, then a close frame with code and reason. It reports whether it was
// the first to do so; the others change nothing.
func (c *Conn) Close(code int, reason string) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.closeLocked(code, reason)
}

func (c *Conn) closeLocked(code int, reason string) bool {
	if state(c.state.Load()) != open {
		return false
	}
	c.state.Store(int32(closing))
	c.closeCode, c.closeReason = code, reason
	c.wakeLocked()
	// What the peer still sends is read, but not for long.
	_ = c.ws.SetReadDeadline(time.Now().Add(c.u.opts.CloseTimeout))
	c.resumeLocked()
	return true
}

// Abort ends the connection without a word and without waiting for anything.
func (c *Conn) Abort() {
	c.fail()
	_ = c.ws.Close()
	c.resume()
}

// fail has nothing more written.
func (c *Conn) fail() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.state.Store(int32(closed))
}

// TickInterval is how often [Conn.Tick] is to be called.
const TickInterval = 500 * time.Millisecond

// Tick looks after the connection: it sends a ping each heartbeat, and suspends
// a read loop that has waited for long. It reports whether the peer has been
// silent for one and a half heartbeats.
//
// While the handler is busy nothing is read, and the peer cannot be blamed.
// While a write is under way, its deadline is what counts: on a slow link a
// ping waits behind a large message.
func (c *Conn) Tick(now time.Time, heartbeat time.Duration) (lost bool) {
	n := c.u.since(now)
	quiet := time.Duration(n - c.lastRead.Load())
	if c.reading.Load() && !c.sending.Load() && quiet > heartbeat*3/2-TickInterval {
		return true
	}
	if quiet >= c.u.opts.SuspendAfter && c.waiting.Load() {
		c.nc.reader.interrupt()
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.lastPing == 0 { // those that came together are not pinged together
		c.lastPing = n - rand.Int64N(heartbeat.Nanoseconds()) //nolint:gosec // it spreads load, and nothing has to be unguessable
	}
	if n-c.lastPing >= heartbeat.Nanoseconds() {
		c.lastPing = n
		c.pingDue = true
		c.wakeLocked()
	}
	return false
}

// alive notes a sign of life of the peer.
func (c *Conn) alive() { c.lastRead.Store(c.u.clock.Load()) }

// onPing runs in the read loop; the writer answers.
func (c *Conn) onPing(payload string) error {
	c.alive()
	c.mu.Lock()
	defer c.mu.Unlock()
	c.pong = &payload // RFC 6455, 5.5.3: only the last of several needs an answer
	c.wakeLocked()
	return nil
}

func (c *Conn) onPong(string) error {
	c.alive()
	return nil
}

// onClose runs in the read loop, which ends with it.
func (c *Conn) onClose(code int, _ string) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.closeLocked(code, "") // the peer's own code back
	return nil
}

// end is the last act of the read loop.
//
//go:noinline
func (c *Conn) end() {
	c.h.ReadClosed()
	late := time.AfterFunc(c.u.opts.CloseTimeout, func() { _ = c.ws.Close() })
	defer late.Stop()
	c.mu.Lock()
	for c.writer != writerAbsent {
		c.writerDone.Wait()
	}
	c.state.Store(int32(closed)) // no other writer begins
	c.mu.Unlock()
	_ = c.ws.Close()
	c.h.Closed()
}

// hangUp shuts the write side of a peer that broke the protocol, and reads for
// a moment what it has still sent. Otherwise the kernel would answer that with
// a reset, which overtakes the close frame.
func (c *Conn) hangUp() {
	nc := c.ws.NetConn()
	_ = nc.SetReadDeadline(time.Now().Add(c.u.opts.CloseTimeout))
	if half, ok := nc.(interface{ CloseWrite() error }); ok {
		_ = half.CloseWrite()
	}
	discard(nc)
}

var _ net.Conn = (*bufferedConn)(nil)
