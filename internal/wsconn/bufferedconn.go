package wsconn

import (
	"errors"
	"net"
	"os"
	"sync"
	"time"

	"github.com/gorilla/websocket"
)

// gatherBytes is how much a buffered connection gathers before it writes.
const gatherBytes = 32 << 10

// gatherBuffers are shared by all connections: one is held only while frames
// are being written.
var gatherBuffers = sync.Pool{New: func() any { b := make([]byte, 0, gatherBytes); return &b }}

// bufferedConn is the net.Conn that gorilla is given. What is written between
// [bufferedConn.begin] and [bufferedConn.end] is gathered into one write, so
// that a burst of frames costs one system call instead of one each. Outside of
// that it writes at once.
//
// Only the connection's writer calls begin and end. gorilla may write a close
// frame from the read loop at any time.
type bufferedConn struct {
	net.Conn              // below are frames, or TLS
	reader   *frameReader // nil where a socket cannot be read like that

	mu        sync.Mutex
	buf       *[]byte // nil when not gathering
	timeout   time.Duration
	closeSent bool     // a close frame was written
	header    [10]byte // of the frame that is being written
}

// begin gathers from now on. timeout is how long the peer may take nothing of
// what is then written.
func (c *bufferedConn) begin(timeout time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.timeout = timeout
	c.buf = gatherBuffers.Get().(*[]byte)
}

// end writes what was gathered.
func (c *bufferedConn) end() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	err := c.flushLocked()
	gatherBuffers.Put(c.buf)
	c.buf = nil
	return err
}

func (c *bufferedConn) flushLocked() error {
	_, err := c.sendLocked(*c.buf)
	*c.buf = (*c.buf)[:0]
	return err
}

// sendLocked writes p. It gives up when the peer took nothing for the timeout:
// a slow one that takes a little at a time is waited for.
func (c *bufferedConn) sendLocked(p []byte) (n int, err error) {
	for len(p) > 0 {
		if err := c.Conn.SetWriteDeadline(time.Now().Add(c.timeout)); err != nil {
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

// Read implements net.Conn.
func (c *bufferedConn) Read(p []byte) (int, error) {
	if c.reader != nil {
		return c.reader.read(p)
	}
	return c.Conn.Read(p)
}

// SetReadDeadline implements net.Conn.
func (c *bufferedConn) SetReadDeadline(t time.Time) error {
	if c.reader != nil {
		return c.reader.setDeadline(t)
	}
	return c.Conn.SetReadDeadline(t)
}

// Write implements net.Conn.
func (c *bufferedConn) Write(p []byte) (int, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	// gorilla writes a control frame in one piece.
	c.closeSent = c.closeSent || len(p) > 0 && p[0] == finalClose
	return c.writeLocked(p)
}

func (c *bufferedConn) writeLocked(p []byte) (int, error) {
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

// text writes a text frame. To a peer that is a client a frame is a header and
// the payload as it is.
func (c *bufferedConn) text(payload []byte) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closeSent {
		return websocket.ErrCloseSent
	}
	header := appendHeader(c.header[:0], finalText, len(payload))
	if _, err := c.writeLocked(header); err != nil {
		return err
	}
	_, err := c.writeLocked(payload)
	return err
}

// SetWriteDeadline implements net.Conn. While gathering, the timeout given to
// begin stands: gorilla sets a deadline for every frame, which would cost a
// timer operation each.
func (c *bufferedConn) SetWriteDeadline(t time.Time) error {
	c.mu.Lock()
	gathering := c.buf != nil
	c.mu.Unlock()
	if gathering {
		return nil
	}
	return c.Conn.SetWriteDeadline(t)
}

// CloseWrite writes what is gathered and shuts down the writing side, if the
// connection below can.
func (c *bufferedConn) CloseWrite() error {
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
