package wsconn

import (
	"bufio"
	"net"
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	"github.com/gorilla/websocket"
)

// Options configure an [Upgrader]. All but Subprotocols and SuspendAfter
// are needed.
type Options struct {
	// Subprotocols that the server speaks.
	Subprotocols []string
	// WriteTimeout is how long the peer may take nothing of what is written
	// before the connection is given up.
	WriteTimeout time.Duration
	// CloseTimeout is how long the end of a connection may take, in each of its
	// steps.
	CloseTimeout time.Duration
	// Limit is how large a message may be, until [Conn.SetLimit].
	Limit int
	// SuspendAfter is how long a read loop waits for the peer before it ends.
	// Default 5 s.
	SuspendAfter time.Duration
}

// Upgrader makes connections, and has what they share. It does not know them:
// the caller keeps them, calls Tick for each and Close before Stop.
type Upgrader struct {
	opts   Options
	ws     websocket.Upgrader
	poller *idlePoller // nil when connections keep their read loops
	began  time.Time
	clock  atomic.Int64  // coarse, ns since began
	lastID atomic.Uint64 // of a connection
}

// readBuffer is what every connection holds for gorilla: enough for a header or
// a control frame. More is read into what [frameReader] or TLS has.
const readBuffer = 128

// handshakeTimeout bounds the write of the answer to an upgrade.
const handshakeTimeout = 10 * time.Second

// NewUpgrader makes an upgrader. Start is to be called before it is used.
func NewUpgrader(opts Options) *Upgrader {
	if opts.SuspendAfter <= 0 {
		opts.SuspendAfter = suspendAfter
	}
	return &Upgrader{
		opts: opts, began: time.Now(),
		ws: websocket.Upgrader{
			HandshakeTimeout: handshakeTimeout,
			ReadBufferSize:   readBuffer,
			WriteBufferSize:  4096,
			WriteBufferPool:  &sync.Pool{},
			Subprotocols:     opts.Subprotocols,
			CheckOrigin:      func(*http.Request) bool { return true }, // the caller has
		},
	}
}

// Start opens the idle poller. Without it, after an error, connections keep
// their read loops.
func (u *Upgrader) Start() error {
	u.SetClock(time.Now())
	var err error
	u.poller, err = openIdlePoller()
	return err
}

// Stop closes the idle poller. All connections must have ended.
func (u *Upgrader) Stop() {
	if u.poller != nil {
		u.poller.close()
	}
}

// SetClock tells the time, each [TickInterval]: connections note signs of life
// by it, which is cheaper than a clock of their own.
func (u *Upgrader) SetClock(now time.Time) { u.clock.Store(u.since(now)) }

// since is the time on the monotonic clock, in ns: silence is no longer because
// somebody has set the wall clock.
func (u *Upgrader) since(now time.Time) int64 { return int64(now.Sub(u.began)) }

// Upgrade makes a connection of a request. On an error the request is answered.
// Nothing is read until [Conn.Start]; what is queued is written before.
func (u *Upgrader) Upgrade(w http.ResponseWriter, r *http.Request, h Handler) (*Conn, error) {
	now := u.since(time.Now())
	c := &Conn{u: u, h: h, id: u.lastID.Add(1), limit: limitOf(u.opts.Limit)}
	c.writerDone.L = &c.mu
	c.lastRead.Store(now)
	ws, err := u.ws.Upgrade(&hijacker{w, &c.nc}, r, nil)
	if err != nil {
		return nil, err
	}
	c.ws = ws
	c.nc.reader = newFrameReader(c.nc.Conn)
	ws.SetPingHandler(c.onPing)
	ws.SetPongHandler(c.onPong)
	ws.SetCloseHandler(c.onClose)
	return c, nil
}

// hijacker gives gorilla the buffered connection in place of the bare one.
type hijacker struct {
	http.ResponseWriter
	nc *bufferedConn
}

// Hijack implements [http.Hijacker].
func (h *hijacker) Hijack() (net.Conn, *bufio.ReadWriter, error) {
	nc, rw, err := http.NewResponseController(h.ResponseWriter).Hijack()
	if err != nil {
		return nil, nil, err
	}
	h.nc.Conn = nc
	return h.nc, rw, nil
}
