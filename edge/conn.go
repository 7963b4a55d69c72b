package edge

import (
	"log/slog"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"github.com/gorilla/websocket"
	"github.com/nats-io/nats.go"

	"github.com/rccs-io/rccs/auth"
	"github.com/rccs-io/rccs/internal/inbox"
	"github.com/rccs-io/rccs/internal/roster"
	"github.com/rccs-io/rccs/internal/topic"
	"github.com/rccs-io/rccs/subjects"
	"github.com/rccs-io/rccs/wire"
)

// Bounds of what a connection may have unanswered or unread before its frames
// are no longer read.
const (
	maxInflight = 256
	maxOutBytes = 256 << 10
)

// conn is one WebSocket connection.
type conn struct {
	// Static after construction.
	s      *Server
	ws     *websocket.Conn
	cork   *cork // nil without Listener
	id     uint64
	v1     bool // subprotocol rccs.v1 was negotiated
	bearer string
	from   netip.Addr
	opened time.Time

	// Owned by the read loop.
	nonce     string
	badFrames int  // in a row
	refused   int  // messages in a row, for coming too fast
	proven    bool // a good credential was shown
	seqs      []uint64
	topics    map[string]*topic.Subscription // made with the first
	rights    auth.Topics                    // of the credential; a renewal changes them

	// Set by the read loop before box is published under mu; constant then.
	tenant *Tenant
	who    auth.Identity
	key    subjects.Key
	sess   *roster.Session
	window int
	auto   bool // written to the socket counts as delivered
	batch  bool

	seen  bool // a message came since the read loop was started last
	known bool // the lot has had it

	lastRead atomic.Int64 // coarse, Unix nanoseconds
	waiting  atomic.Bool  // the read loop waits for a message to begin
	reading  atomic.Bool  // the read loop waits for the peer, not for us
	sending  atomic.Bool  // a write is under way

	mu        sync.Mutex
	changed   sync.Cond      // writing, inflight, outgoing or end changed
	box       *inbox.Mailbox // nil until registered
	issued    time.Time      // when the credential was made
	expires   time.Time      // zero: never
	early     time.Duration  // so much before expires the connection ends
	heartbeat time.Duration
	lastPing  int64
	outgoing  *frames // answers to write
	plain     bool    // the registration's answer comes in a frame of its own
	holding   bool    // other answers wait in held for the registration's
	held      *frames
	answers   uint64 // made so far: their ids
	requests  *nats.Subscription
	followed  []*topic.Subscription // topics whose subscription was answered
	ready     []*topic.Subscription // those of them that may have something
	serving   map[string]*served    // requests that the device has to answer, by their id
	ping      bool
	pong      *string // payload to send back
	inflight  int     // messages not yet stored
	draining  bool    // end with drainCode when inflight is 0
	drainCode wire.CloseCode
	drainHint time.Duration // how long the device should wait
	end       *ending
	writing   bool // the writer runs
	woken     bool // there may be something to write
	bursting  bool // the writer has taken what it writes, and not accounted for it
	parting   bool // the inbox gives nothing more
	dead      bool // nothing more will be written
	parked    bool // there is no read loop

	asks map[string]*ask // requests of the device, by id; guarded by Tenant.asksMu

	gone sync.Once // leave was called
}

// ending is why a connection ends. The first reason stands.
type ending struct {
	code wire.CloseCode
	echo bool          // the peer closed first
	hint time.Duration // how long to wait before the next connection
}

func newConn(s *Server, ws *websocket.Conn, bearer string) *conn {
	now := time.Now()
	c := &conn{
		s: s, ws: ws, cork: corkOf(ws.NetConn()), bearer: bearer, opened: now,
		v1: ws.Subprotocol() == Subprotocol, heartbeat: s.opts.Heartbeat, lastPing: now.UnixNano(),
	}
	c.changed.L = &c.mu
	c.lastRead.Store(now.UnixNano())
	ws.SetPingHandler(c.onPing)
	ws.SetPongHandler(c.onPong)
	ws.SetCloseHandler(c.onClose)
	if plain, ok := ws.NetConn().(*cork); ok { // else there is TLS between
		plain.frames()
	}
	return c
}

func (c *conn) log() *slog.Logger {
	l := c.s.opts.Logger.With("conn", c.id)
	if c.key != "" {
		l = l.With("user", string(c.who.Address.User), "device", string(c.who.Address.Device))
	}
	return l
}

// greet sends the challenge.
func (c *conn) greet() {
	if err := c.challenge(); err != nil {
		c.log().Error("no challenge", "err", err)
		c.finish(wire.CloseOverloaded, wire.NewError(wire.Unavailable, ""))
	}
}

// run is the read loop: the connection's life, or a part of it. It returns when
// the socket is closed and the writer gone, or when the connection is parked.
//
// A connection that is not parked waits below this function. Go halves a stack
// of which less than a quarter is used, 800 bytes that it keeps free included:
// what is kept on it decides whether that is 8 KiB or 4.
func (c *conn) run() {
	c.seen = !c.known
	for {
		now := c.await()
		if now == parked {
			return
		}
		if now == over || !c.read() {
			c.close()
			return
		}
	}
}

// close ends what the connection was.
//
//go:noinline
func (c *conn) close() {
	if box := c.mailbox(); box != nil {
		c.leave(false, nil)
		c.part(box)
	}
	c.settle()
	c.s.over(c)
}

// part ends the attachment to the inbox. To a device that does not acknowledge,
// written is delivered: what is being written now is accounted for first, or it
// would come again.
func (c *conn) part(box *inbox.Mailbox) {
	late := time.AfterFunc(c.s.opts.CloseTimeout, func() { _ = c.ws.Close() })
	defer late.Stop()
	c.mu.Lock()
	c.parting = true
	for c.auto && c.bursting {
		c.changed.Wait()
	}
	c.mu.Unlock()
	box.Detach()
}

// leave ends the session, once. ended says that the device wants it so, and
// will not resume it; done is called when that is stored, if it is the first
// who leaves.
func (c *conn) leave(ended bool, done func(error)) {
	c.gone.Do(func() {
		c.tenant.leave(c)
		c.dropAsks()
		c.dropServing()
		c.dropTopics()
		c.sess.Close(ended, done)
	})
}

// settle lets the writer send what it has, within a bound, and closes the
// socket.
func (c *conn) settle() {
	late := time.AfterFunc(c.s.opts.CloseTimeout, func() { _ = c.ws.Close() })
	defer late.Stop()
	c.mu.Lock()
	for c.writing {
		c.changed.Wait()
	}
	c.dead = true
	for _, f := range []**frames{&c.outgoing, &c.held} {
		if *f != nil {
			(*f).release()
			*f = nil
		}
	}
	c.mu.Unlock()
	_ = c.ws.Close()
}

// abandon ends the connection without a word and without waiting for
// anything.
func (c *conn) abandon() {
	c.mu.Lock()
	c.dead = true
	c.changed.Broadcast()
	c.mu.Unlock()
	_ = c.ws.Close()
	c.unpark()
}

func (c *conn) mailbox() *inbox.Mailbox {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.box
}

// finish ends the connection: e, if there is one, then a close frame with
// code. Only the first call counts.
func (c *conn) finish(code wire.CloseCode, e *wire.Error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.endLocked(code, e)
}

func (c *conn) endLocked(code wire.CloseCode, e *wire.Error) {
	if c.end != nil {
		return
	}
	c.holding = false
	if e != nil {
		c.tellLocked(e)
	}
	c.end = &ending{code: code, hint: c.drainHint}
	c.s.metrics.closes.WithLabelValues(code.String()).Inc()
	c.changed.Broadcast()
	c.wakeLocked()
	if c.box != nil && code == wire.CloseGoingAway && !c.draining {
		go c.leave(false, nil) // a dead peer: its read loop may last a while yet
	}
	// The read loop discards what still comes, but not for long.
	_ = c.ws.SetReadDeadline(time.Now().Add(c.s.opts.CloseTimeout))
	c.unparkLocked()
}

func (c *conn) ended() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.end != nil
}

// drain ends the connection with code once all that was received is stored
// and answered. The device is asked to wait for hint before it comes back.
func (c *conn) drain(code wire.CloseCode, hint time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.draining, c.drainCode, c.drainHint = true, code, hint
	if c.inflight == 0 {
		c.endLocked(code, nil)
	}
}

// onPing runs in the read loop; the writer answers.
func (c *conn) onPing(payload string) error {
	c.lastRead.Store(c.s.clock.Load())
	c.mu.Lock()
	defer c.mu.Unlock()
	c.pong = &payload // RFC 6455, 5.5.3: only the last of several needs an answer
	c.wakeLocked()
	return nil
}

func (c *conn) onPong(string) error {
	c.lastRead.Store(c.s.clock.Load())
	return nil
}

// onClose runs in the read loop, which ends with it.
func (c *conn) onClose(code int, _ string) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.end == nil {
		c.end = &ending{code: wire.CloseCode(code), echo: true}
		c.changed.Broadcast()
		c.wakeLocked()
	}
	return nil
}
