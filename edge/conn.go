package edge

import (
	"log/slog"
	"net/netip"
	"sync"
	"time"

	"github.com/rccs-io/rccs/auth"
	"github.com/rccs-io/rccs/internal/inbox"
	"github.com/rccs-io/rccs/internal/topic"
	"github.com/rccs-io/rccs/internal/wsconn"
	"github.com/rccs-io/rccs/subjects"
	"github.com/rccs-io/rccs/wire"
)

// Bounds of what may be unanswered or unread before the connection's frames are
// no longer read.
const (
	maxInflight = 256
	maxOutBytes = 256 << 10
)

// conn is one connection of a device: its socket, its session, and its calls.
// It is the socket's handler.
type conn struct {
	// Static after construction.
	s      *Server
	sock   *wsconn.Conn // reads, writes and ends
	bearer string
	from   netip.Addr
	opened time.Duration // since s.began

	reader // owned by the read loop
	device // set by the read loop at registration, constant then

	mu      sync.Mutex
	changed *sync.Cond // inflight, out or the socket's state changed; made by the first that waits
	session            // guarded by mu
	out     outbox     // guarded by mu

	calls  calls     // has a lock of its own
	topics following // has a lock of its own

	recorded deliveries // has a lock of its own

	left sync.Once // the session was ended
}

// reader holds what only the read loop uses.
type reader struct {
	nonce      string
	badFrames  int32             // in a row
	refused    int32             // messages in a row, for coming too fast
	shown      *subjects.Address // whose credential was shown, good or not; for the log, until who is known
	seqs       []uint64
	subscribed map[string]*topic.Subscription // by topic; made with the first
	rights     auth.Topics                    // of the credential; a renewal changes them
}

func newConn(s *Server, bearer string) *conn {
	c := &conn{s: s, bearer: bearer, opened: time.Since(s.began)}
	c.heartbeat, c.maxFrame = s.opts.Heartbeat, s.opts.MaxFrameBytes
	return c
}

// age is for how long the connection has been open.
func (c *conn) age() time.Duration { return time.Since(c.s.began) - c.opened }

func (c *conn) log() *slog.Logger {
	l := c.s.opts.Logger.With("conn", c.sock.ID())
	if c.key != "" {
		l = l.With("user", string(c.who.Address.User), "device", string(c.who.Address.Device))
	}
	return l
}

// sendChallenge sends the first frame of the conversation.
func (c *conn) sendChallenge() {
	if err := c.challenge(); err != nil {
		c.log().Error("no challenge", "err", err)
		c.finish(wire.CloseOverloaded, wire.NewError(wire.Unavailable, ""))
	}
}

// ReadClosed implements [wsconn.Handler]: it ends the session and detaches the
// inbox.
func (c *conn) ReadClosed() {
	defer c.contain()
	if mailbox := c.currentMailbox(); mailbox != nil {
		c.endSession(false, nil)
		c.detachInbox(mailbox)
	}
}

// Closed implements [wsconn.Handler].
func (c *conn) Closed() {
	defer c.s.onClosed(c)
	defer c.exit()
	defer c.contain()
	c.mu.Lock()
	defer c.mu.Unlock()
	c.out.release()
	if c.mailbox != nil {
		c.log().Info("device disconnected", "session", string(c.sess.ID), "code", int(c.closed), "after", c.age().Round(time.Millisecond))
	}
}

// exit has the tenant forget the connection, if it was one of a tenant.
func (c *conn) exit() {
	if c.tenant != nil {
		c.tenant.exit()
	}
}

// awaitChangeLocked waits until something has changed that others may wait for.
func (c *conn) awaitChangeLocked() {
	if c.changed == nil {
		c.changed = sync.NewCond(&c.mu)
	}
	c.changed.Wait()
}

// changedLocked wakes those that wait for a change.
func (c *conn) changedLocked() {
	if c.changed != nil {
		c.changed.Broadcast()
	}
}

// detachInbox ends the attachment to the inbox. For a device that does not
// acknowledge, written means delivered. So what is being written now is
// acknowledged first; otherwise it would be sent again.
func (c *conn) detachInbox(mailbox *inbox.Mailbox) {
	late := time.AfterFunc(c.s.opts.CloseTimeout, c.sock.Abort)
	defer late.Stop()
	c.mu.Lock()
	c.advance(detaching)
	for c.auto && c.out.writing {
		c.awaitChangeLocked()
	}
	c.mu.Unlock()
	mailbox.Detach()
}

// endSession ends the session, once. ended says that the device asked for it and
// will not resume the session. If this call is the first, done is called when
// that is stored.
func (c *conn) endSession(ended bool, done func(error)) {
	c.left.Do(func() {
		c.tenant.leave(c)
		c.dropAsks()
		c.dropServing()
		c.dropTopics()
		c.sess.Close(ended, done)
		if !ended {
			c.mu.Lock()
			issued := c.issued.time()
			c.mu.Unlock()
			c.s.heldBack.add(c.sess, heldDevice{c.who, issued}, c.offlineDelay)
		}
	})
}

// abandon ends the connection at once, without a close frame.
func (c *conn) abandon() {
	c.sock.Abort()
	c.mu.Lock()
	defer c.mu.Unlock()
	c.changedLocked()
}

func (c *conn) currentMailbox() *inbox.Mailbox {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.mailbox
}

// finish ends the connection: it sends e, if there is one, then a close frame
// with code. Only the first call counts.
func (c *conn) finish(code wire.CloseCode, e *wire.Error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.endLocked(code, e)
}

func (c *conn) endLocked(code wire.CloseCode, e *wire.Error) {
	c.endForLocked(code, e, code.ReasonAfter(c.drain.hint))
}

// endForLocked is endLocked with its own reason in the close frame.
func (c *conn) endForLocked(code wire.CloseCode, e *wire.Error, reason string) {
	if !c.sock.Open() {
		return
	}
	if e != nil {
		c.tellLastLocked(e)
	}
	if !c.sock.Close(int(code), reason) {
		return
	}
	c.closed = int16(code) //nolint:gosec // a close code has four digits
	c.s.metrics.closes.WithLabelValues(code.String()).Inc()
	c.changedLocked()
	if c.mailbox != nil && code == wire.CloseGoingAway && c.phase < draining {
		go c.contained(func() { c.endSession(false, nil) }) // the peer may be dead: its read loop may last a while yet
	}
}

func (c *conn) ended() bool { return !c.sock.Open() }

// sendAway ends the connection with code once everything received is stored and
// answered. The device is asked to wait for hint before it comes back.
func (c *conn) sendAway(code wire.CloseCode, hint time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.beginDrain(code, hint)
	c.endDrainLocked()
}

// endDrainLocked ends a connection that has drained.
func (c *conn) endDrainLocked() {
	if c.drained() {
		c.endLocked(c.drain.code, nil)
	}
}
