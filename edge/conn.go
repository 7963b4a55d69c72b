package edge

import (
	"log/slog"
	"net/netip"
	"sync"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/rccs-io/rccs/auth"
	"github.com/rccs-io/rccs/internal/inbox"
	"github.com/rccs-io/rccs/internal/roster"
	"github.com/rccs-io/rccs/internal/topic"
	"github.com/rccs-io/rccs/internal/wsconn"
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
	sock   *wsconn.Conn
	v1     bool // subprotocol rccs.v1 was negotiated
	bearer string
	from   netip.Addr
	opened time.Time

	// Owned by the read loop.
	nonce         string
	badFrames     int  // in a row
	refused       int  // messages in a row, for coming too fast
	authenticated bool // a good credential was shown
	seqs          []uint64
	topics        map[string]*topic.Subscription // made with the first
	rights        auth.Topics                    // of the credential; a renewal changes them

	// Set by the read loop before box is published under mu; constant then.
	tenant   *Tenant
	who      auth.Identity
	key      subjects.Key
	sess     *roster.Session
	window   int
	maxFrame int  // the largest frame that may be written
	auto     bool // written to the socket counts as delivered
	batch    bool

	mu        sync.Mutex
	changed   sync.Cond      // bursting, inflight, outgoing or the socket's state changed
	box       *inbox.Mailbox // nil until registered
	issued    time.Time      // when the credential was made
	expires   time.Time      // zero: never
	early     time.Duration  // so much before expires the connection ends
	heartbeat time.Duration
	outgoing  *frames // answers to write
	plain     bool    // the registration's answer comes in a frame of its own
	holding   bool    // other answers wait in held for the registration's
	held      *frames
	answers   uint64 // made so far: their ids
	requests  *nats.Subscription
	followed  []*topic.Subscription // topics whose subscription was answered
	ready     []*topic.Subscription // those of them that may have something
	serving   map[string]*served    // requests that the device has to answer, by their id
	inflight  int                   // messages not yet stored
	draining  bool                  // end with drainCode when inflight is 0
	drainCode wire.CloseCode
	drainHint time.Duration // how long the device should wait
	bursting  bool          // the writer has taken what it writes, and not accounted for it
	parting   bool          // the inbox gives nothing more

	asks map[string]*ask // requests of the device, by id; guarded by Tenant.asksMu

	gone sync.Once // leave was called
}

func newConn(s *Server, bearer string) *conn {
	c := &conn{s: s, bearer: bearer, opened: time.Now(), heartbeat: s.opts.Heartbeat, maxFrame: s.opts.MaxFrameBytes}
	c.changed.L = &c.mu
	return c
}

func (c *conn) log() *slog.Logger {
	l := c.s.opts.Logger.With("conn", c.sock.ID())
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

// ReadClosed implements [wsconn.Handler]: it ends what the connection was.
func (c *conn) ReadClosed() {
	defer c.contain()
	if box := c.mailbox(); box != nil {
		c.leave(false, nil)
		c.part(box)
	}
}

// Closed implements [wsconn.Handler].
func (c *conn) Closed() {
	defer c.s.over(c)
	defer c.contain()
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, f := range []**frames{&c.outgoing, &c.held} {
		if *f != nil {
			(*f).release()
			*f = nil
		}
	}
}

// part ends the attachment to the inbox. To a device that does not acknowledge,
// written is delivered: what is being written now is accounted for first, or it
// would come again.
func (c *conn) part(box *inbox.Mailbox) {
	late := time.AfterFunc(c.s.opts.CloseTimeout, c.sock.Abort)
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

// abandon ends the connection without a word and without waiting for
// anything.
func (c *conn) abandon() {
	c.sock.Abort()
	c.mu.Lock()
	defer c.mu.Unlock()
	c.changed.Broadcast()
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
	if !c.sock.Open() {
		return
	}
	c.holding = false
	if e != nil {
		c.tellLocked(e)
	}
	if !c.sock.Close(int(code), code.ReasonAfter(c.drainHint)) {
		return
	}
	c.s.metrics.closes.WithLabelValues(code.String()).Inc()
	c.changed.Broadcast()
	if c.box != nil && code == wire.CloseGoingAway && !c.draining {
		go c.contained(func() { c.leave(false, nil) }) // a dead peer: its read loop may last a while yet
	}
}

func (c *conn) ended() bool { return !c.sock.Open() }

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
