package edge

import (
	"crypto/tls"
	"errors"
	"net"
	"os"
	"sync"
	"time"

	"github.com/gorilla/websocket"
)

// corkBytes is how much a corked connection gathers before it writes.
const corkBytes = 32 << 10

// corkBuffers are shared by all connections: one is held only while frames
// are being written.
var corkBuffers = sync.Pool{New: func() any { b := make([]byte, 0, corkBytes); return &b }}

// cork is a net.Conn that gathers what is written between [cork.begin] and
// [cork.end] into one write, so that a burst of WebSocket frames costs one
// system call instead of one each. Outside of that it is a plain net.Conn.
// Only the connection's writer calls begin and end; gorilla may write a close
// frame from the read loop at any time.
type cork struct {
	net.Conn
	plain  bool   // it carries WebSocket frames, and no TLS
	inlet  *inlet // nil until [cork.frames], and where it cannot be
	mu     sync.Mutex
	buf    *[]byte // nil when not corked
	within time.Duration
	closed bool     // a close frame was written
	header [10]byte // of the frame that is being written
}

// begin gathers from now on. within is how long the peer may take nothing of
// what is then written.
func (c *cork) begin(within time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.within = within
	c.buf = corkBuffers.Get().(*[]byte)
}

// end writes what was gathered.
func (c *cork) end() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	err := c.flushLocked()
	corkBuffers.Put(c.buf)
	c.buf = nil
	return err
}

func (c *cork) flushLocked() error {
	_, err := c.sendLocked(*c.buf)
	*c.buf = (*c.buf)[:0]
	return err
}

// sendLocked writes p. It gives up when the peer took nothing for as long as
// begin was told: a slow one that takes a little at a time is waited for.
func (c *cork) sendLocked(p []byte) (n int, err error) {
	for len(p) > 0 {
		if err := c.Conn.SetWriteDeadline(time.Now().Add(c.within)); err != nil {
			return n, err
		}
		m, err := c.Conn.Write(p)
		n += m
		p = p[m:]
		if err != nil && (m == 0 || !errors.Is(err, os.ErrDeadlineExceeded)) {
			return n, err
		}
	}
	return n, nil
}

// frames says that what is read and written from here on are WebSocket frames.
// It is called before anyone reads or writes them.
func (c *cork) frames() { c.plain, c.inlet = true, newInlet(c.Conn) }

// Read implements net.Conn.
func (c *cork) Read(p []byte) (int, error) {
	if c.inlet != nil {
		return c.inlet.read(p)
	}
	return c.Conn.Read(p)
}

// SetReadDeadline implements net.Conn.
func (c *cork) SetReadDeadline(t time.Time) error {
	if c.inlet != nil {
		return c.inlet.setDeadline(t)
	}
	return c.Conn.SetReadDeadline(t)
}

// Write implements net.Conn.
func (c *cork) Write(p []byte) (int, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	// gorilla writes a control frame in one piece.
	c.closed = c.closed || c.plain && len(p) > 0 && p[0] == finalClose
	return c.writeLocked(p)
}

func (c *cork) writeLocked(p []byte) (int, error) {
	if c.buf == nil {
		return c.Conn.Write(p)
	}
	if len(*c.buf)+len(p) > cap(*c.buf) {
		if err := c.flushLocked(); err != nil {
			return 0, err
		}
		if len(p) > cap(*c.buf) {
			return c.sendLocked(p)
		}
	}
	*c.buf = append(*c.buf, p...)
	return len(p), nil
}

// text writes a text frame, as gorilla would: to a server a frame is a header
// and the payload as it is, and gorilla allocates for each.
func (c *cork) text(payload []byte) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed {
		return websocket.ErrCloseSent
	}
	header := appendHeader(c.header[:0], finalText, len(payload))
	if _, err := c.writeLocked(header); err != nil {
		return err
	}
	_, err := c.writeLocked(payload)
	return err
}

// SetWriteDeadline implements net.Conn. While corked the time given to
// begin stands: gorilla sets a deadline for every frame, which would cost a
// timer operation each.
func (c *cork) SetWriteDeadline(t time.Time) error {
	c.mu.Lock()
	corked := c.buf != nil
	c.mu.Unlock()
	if corked {
		return nil
	}
	return c.Conn.SetWriteDeadline(t)
}

// CloseWrite writes what is gathered and shuts down the writing side, if the
// connection below can.
func (c *cork) CloseWrite() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.buf != nil {
		if err := c.flushLocked(); err != nil {
			return err
		}
	}
	if half, ok := c.Conn.(interface{ CloseWrite() error }); ok {
		return half.CloseWrite()
	}
	return nil
}

// corkListener makes every accepted connection a cork, below TLS if there is
// any.
type corkListener struct{ net.Listener }

// Accept implements net.Listener.
func (l corkListener) Accept() (net.Conn, error) {
	nc, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	return &cork{Conn: nc}, nil
}

// Listener wraps a listener for an http.Server that serves an edge. Without
// it the edge works too, with one write a frame.
func Listener(l net.Listener) net.Listener { return corkListener{l} }

// corkOf finds the cork below a WebSocket's connection; nil if the server was
// not given a [Listener].
func corkOf(nc net.Conn) *cork {
	if t, ok := nc.(*tls.Conn); ok {
		nc = t.NetConn()
	}
	c, _ := nc.(*cork)
	return c
}
