package edge

import (
	"errors"
	"io"
	"net"
	"sync"
	"time"
	"unicode/utf8"

	"github.com/gorilla/websocket"

	"github.com/rccs-io/rccs/wire"
)

// maxBadFrames in a row end a connection.
const maxBadFrames = 3

// readBuffers hold a message while it is dealt with; none is held while idle.
var readBuffers = sync.Pool{New: func() any { b := make([]byte, 0, 4<<10); return &b }}

// keepBuffer is the largest buffer that goes back to a pool.
const keepBuffer = 64 << 10

// read waits for one message and deals with it; false when no other comes. It
// keeps next to nothing on the stack while it waits, see [conn.run].
func (c *conn) read() bool {
	c.reading.Store(true)
	return c.got(c.ws.NextReader())
}

// got deals with what NextReader has returned.
//
//go:noinline
func (c *conn) got(kind int, r io.Reader, err error) bool {
	c.reading.Store(false)
	if err != nil {
		c.readFailed(err)
		return false
	}
	late := c.ended()
	if late && !c.heeds() {
		return true // discarded until the peer has closed
	}
	buf := readBuffers.Get().(*[]byte)
	err = c.readMessage(buf, r)
	switch {
	case err == nil && late:
		c.lateAcks(kind, *buf)
	case err == nil:
		c.frame(kind, *buf)
	case errors.Is(err, errTooLarge):
		c.finish(wire.CloseTooLarge, wire.NewError(wire.MessageTooLarge, ""))
	}
	if cap(*buf) <= keepBuffer {
		*buf = (*buf)[:0]
		readBuffers.Put(buf)
	}
	c.waitForRoom()
	c.lastRead.Store(c.s.clock.Load())
	c.seen = true
	return true
}

var errTooLarge = errors.New("edge: frame over the limit")

// readMessage reads a whole message into buf, growing it as the message
// comes, not as its header claims.
func (c *conn) readMessage(buf *[]byte, r io.Reader) error {
	limit := c.s.opts.MaxMessageBytes
	if !c.proven {
		limit = min(limit, c.s.opts.MaxRegisterBytes)
	}
	b := (*buf)[:0]
	defer func() { *buf = b }()
	for {
		if len(b) == cap(b) {
			b = append(b, 0)[:len(b)]
		}
		c.reading.Store(true)
		n, err := r.Read(b[len(b):cap(b)])
		c.reading.Store(false)
		c.lastRead.Store(c.s.clock.Load())
		b = b[:len(b)+n]
		if len(b) > limit {
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

// readFailed ends a connection whose socket gave out or broke the protocol. In
// the second case gorilla has sent a close frame, but for a length that cannot
// be, which it only returns: what the peer has still sent is read for a moment,
// or the kernel would answer it with a reset that overtakes the frame.
func (c *conn) readFailed(err error) {
	var closed *websocket.CloseError
	var timeout net.Error
	switch {
	case errors.As(err, &closed), errors.Is(err, net.ErrClosed), errors.Is(err, io.EOF):
		return
	case errors.As(err, &timeout):
		return
	}
	if errors.Is(err, websocket.ErrReadLimit) {
		// Safe beside the writer: control frames are gorilla's one exception.
		_ = c.ws.WriteControl(websocket.CloseMessage,
			websocket.FormatCloseMessage(websocket.CloseProtocolError, "bad length"), time.Now().Add(c.s.opts.CloseTimeout))
	}
	c.mu.Lock()
	c.dead = true
	c.mu.Unlock()
	nc := c.ws.NetConn()
	_ = nc.SetReadDeadline(time.Now().Add(c.s.opts.CloseTimeout))
	if half, ok := nc.(interface{ CloseWrite() error }); ok {
		_ = half.CloseWrite()
	}
	_, _ = io.Copy(io.Discard, io.LimitReader(nc, 4<<20))
}

// waitForRoom is back-pressure: the next frame is read when enough of what
// came before has been stored and answered, and the answers have been read.
func (c *conn) waitForRoom() {
	c.mu.Lock()
	defer c.mu.Unlock()
	for c.end == nil && !c.dead && (c.inflight >= maxInflight || c.outgoing.size() >= maxOutBytes) {
		c.changed.Wait()
	}
}

// frame deals with one WebSocket message. data is valid until it returns.
func (c *conn) frame(kind int, data []byte) {
	if kind != websocket.TextMessage {
		c.badFrame(wire.NewError(wire.BadFrame, "binary frames are not used: send JSON in text frames"))
		return
	}
	if !utf8.Valid(data) {
		c.finish(wire.CloseBadUTF8, nil)
		return
	}
	most := wire.MaxEnvelopes
	if !c.proven {
		most = maxStrangerEnvelopes
	}
	scratch := decoded.Get().(*[]wire.Item)
	defer decoded.Put(scratch)
	items, err := wire.DecodeFew((*scratch)[:0], data, most)
	if err != nil {
		c.badFrame(wire.AsError(err))
		return
	}
	defer func() {
		clear(items) // they alias the frame
		if cap(items) <= maxKeptItems {
			*scratch = items
		}
	}()
	c.badFrames = 0
	for i := range items {
		c.envelope(&items[i])
		if c.ended() {
			return
		}
		c.waitForRoom()
	}
}

// decoded is room for the envelopes of a frame, shared by all connections: an
// envelope is half a KiB, which an idle one need not hold.
var decoded = sync.Pool{New: func() any { return new([]wire.Item) }}

// maxKeptItems is how many envelopes such room is kept for.
const maxKeptItems = 64

// maxStrangerEnvelopes may be in the frame of a connection that has shown no
// credential: a decoded envelope is larger than the shortest in a frame.
const maxStrangerEnvelopes = 256

// badFrame answers a frame of which nothing can be used. The first frame must
// not be one, and three in a row are enough.
func (c *conn) badFrame(e *wire.Error) {
	c.badFrames++
	if c.badFrames >= maxBadFrames || c.mailbox() == nil {
		c.finish(wire.ClosePolicy, e)
		return
	}
	c.tell(e)
}

// heeds says whether acknowledgements still count: when it is the edge that
// goes, the device may have some on the way.
func (c *conn) heeds() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.draining && c.box != nil
}

// lateAcks takes the acknowledgements out of a frame and nothing else.
func (c *conn) lateAcks(kind int, data []byte) {
	if kind != websocket.TextMessage {
		return
	}
	items, err := wire.DecodeFrame(nil, data)
	if err != nil {
		return // there is nobody left to tell
	}
	for i := range items {
		if e := &items[i].Envelope; items[i].Err == nil && e.Type == wire.TypeAck {
			c.acknowledge(c.mailbox(), e)
		}
	}
}
