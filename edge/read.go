package edge

import (
	"sync"
	"unicode/utf8"

	"github.com/gorilla/websocket"

	"github.com/rccs-io/rccs/wire"
)

// maxBadFrames in a row end a connection.
const maxBadFrames = 3

// keepBuffer is the largest buffer that goes back to a pool.
const keepBuffer = 64 << 10

// Message implements [wsconn.Handler].
func (c *conn) Message(kind int, data []byte) {
	defer c.contain()
	switch {
	case !c.ended():
		c.frame(kind, data)
		c.waitForRoom()
	case c.takesLateAcks():
		c.lateAcks(kind, data)
	}
}

// TooLarge implements [wsconn.Handler].
func (c *conn) TooLarge() { c.finish(wire.CloseTooLarge, wire.NewError(wire.MessageTooLarge, "")) }

// waitForRoom is the back-pressure. The next frame is read once enough of what
// came before has been stored and answered, and enough answers have been read.
func (c *conn) waitForRoom() {
	c.mu.Lock()
	defer c.mu.Unlock()
	for c.sock.Open() && (c.inflight >= maxInflight || c.out.outgoing.size() >= maxOutBytes) {
		c.awaitChangeLocked()
	}
}

// frame handles one WebSocket message. data is valid until it returns.
func (c *conn) frame(kind int, data []byte) {
	if kind != websocket.TextMessage {
		c.badFrame(wire.NewError(wire.BadFrame, "binary frames are not used: send JSON in text frames"))
		return
	}
	if !utf8.Valid(data) {
		c.finish(wire.CloseBadUTF8, nil)
		return
	}
	limit := wire.MaxEnvelopes
	if !c.authenticated {
		limit = maxUnauthenticatedEnvelopes
	}
	scratch := decoded.Get().(*[]wire.Item)
	defer decoded.Put(scratch)
	items, err := wire.DecodeFew((*scratch)[:0], data, limit)
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

// decoded has room for the envelopes of a frame, shared by all connections. An
// envelope takes half a KiB, which an idle connection need not hold.
var decoded = sync.Pool{New: func() any { return new([]wire.Item) }}

// maxKeptItems is the largest room, in envelopes, that goes back to decoded.
const maxKeptItems = 64

// maxUnauthenticatedEnvelopes bounds the envelopes in a frame from a connection
// that has shown no credential: decoded, an envelope takes more memory than in a
// frame.
const maxUnauthenticatedEnvelopes = 256

// badFrame answers a frame that cannot be used at all. It ends the connection if
// that is not registered yet, or at maxBadFrames in a row.
func (c *conn) badFrame(e *wire.Error) {
	c.badFrames++
	if c.badFrames >= maxBadFrames || c.currentMailbox() == nil {
		c.finish(wire.ClosePolicy, e)
		return
	}
	c.tell(e)
}

// takesLateAcks is [session.acceptsAcks].
func (c *conn) takesLateAcks() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.acceptsAcks()
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
			_ = c.acknowledge(c.currentMailbox(), e) // there is nobody left to tell
		}
	}
}
