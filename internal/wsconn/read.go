package wsconn

import (
	"errors"
	"io"
	"net"
	"sync"
	"time"

	"github.com/gorilla/websocket"
)

// readBuffers hold a message while it is handled; none is held while idle.
var readBuffers = sync.Pool{New: func() any { b := make([]byte, 0, 4<<10); return &b }}

// keepBuffer is the largest buffer that goes back to the pool.
const keepBuffer = 64 << 10

// run is the read loop. It returns when the connection has ended, or when it is
// suspended.
//
// A connection that is not suspended waits below this function. Go halves a
// stack of which less than a quarter is used, 800 bytes that it keeps free
// included: what is kept on it decides whether that is 8 KiB or 4.
func (c *Conn) run() {
	c.waits = !c.watched
	for {
		now := c.await()
		if now == isSuspended {
			return
		}
		if now == isOver || !c.read() {
			c.end()
			return
		}
	}
}

// read waits for one message and has it handled; false when no other comes. It
// keeps next to nothing on the stack while it waits, see [Conn.run].
func (c *Conn) read() bool {
	c.reading.Store(true)
	return c.handle(c.ws.NextReader())
}

// handle deals with what NextReader has returned.
//
//go:noinline
func (c *Conn) handle(kind int, r io.Reader, err error) bool {
	c.reading.Store(false)
	if err != nil {
		c.readFailed(err)
		return false
	}
	buf := readBuffers.Get().(*[]byte)
	err = c.readMessage(buf, r)
	switch {
	case err == nil:
		c.h.Message(kind, *buf)
	case errors.Is(err, errTooLarge):
		c.h.TooLarge()
	}
	if cap(*buf) <= keepBuffer {
		*buf = (*buf)[:0]
		readBuffers.Put(buf)
	}
	c.alive()
	c.waits = true
	return true
}

var errTooLarge = errors.New("wsconn: message over the limit")

// readMessage reads a whole message into buf, growing it as the message
// comes, not as its header claims.
func (c *Conn) readMessage(buf *[]byte, r io.Reader) error {
	b := (*buf)[:0]
	defer func() { *buf = b }()
	for {
		if len(b) == cap(b) {
			b = append(b, 0)[:len(b)]
		}
		c.reading.Store(true)
		n, err := r.Read(b[len(b):cap(b)])
		c.reading.Store(false)
		c.alive()
		b = b[:len(b)+n]
		if len(b) > int(c.limit) {
			return errTooLarge
		}
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err // the next NextReader says why
		}
	}
}

// readFailed ends a connection whose socket gave out, or whose peer broke the
// protocol. In the second case gorilla has sent a close frame, but for a length
// that cannot be, which it only returns.
func (c *Conn) readFailed(err error) {
	var peerClosed *websocket.CloseError
	var timeout net.Error
	switch {
	case errors.As(err, &peerClosed), errors.Is(err, net.ErrClosed), errors.Is(err, io.EOF), errors.As(err, &timeout):
		return
	}
	if errors.Is(err, websocket.ErrReadLimit) {
		// Safe beside the writer: control frames are gorilla's one exception.
		_ = c.ws.WriteControl(websocket.CloseMessage,
			websocket.FormatCloseMessage(websocket.CloseProtocolError, "bad length"), time.Now().Add(c.u.opts.CloseTimeout))
	}
	c.fail()
	c.hangUp()
}

// maxDiscard bounds what is read of a peer that broke the protocol.
const maxDiscard = 4 << 20

func discard(r io.Reader) { _, _ = io.Copy(io.Discard, io.LimitReader(r, maxDiscard)) }
