package edge

import (
	"time"

	"github.com/rccs-io/rccs/auth"
	"github.com/rccs-io/rccs/internal/inbox"
	"github.com/rccs-io/rccs/internal/roster"
	"github.com/rccs-io/rccs/subjects"
	"github.com/rccs-io/rccs/wire"
)

// phase is how far a connection has come with its device. It only rises.
//
//	unregistered ── the inbox is attached ──> attaching ── the answer is queued ──> attached
//	      └──────────────────────┴─── the edge or the device ends it ───┴──> draining ──> detaching
//
// A connection that ends for another reason, a lost peer or a newer connection,
// goes from where it is to detaching, when its read loop has ended.
type phase uint8

const (
	// unregistered: only device_register is taken.
	unregistered phase = iota
	// attaching: what reaches the device waits for the registration's answer.
	attaching
	// attached: messages go both ways.
	attached
	// draining: nothing more is taken but acknowledgements. The connection ends
	// when what was taken is stored and answered.
	draining
	// detaching: the inbox gives nothing more.
	detaching
)

// device is whom a connection is for. The read loop sets it at registration,
// before the mailbox is published; it is constant from then on.
type device struct {
	tenant   *Tenant
	who      auth.Identity
	key      subjects.Key
	sess     *roster.Session
	window   int
	maxFrame int  // the largest frame that may be written
	auto     bool // written to the socket counts as delivered
	batch    bool // the device takes arrays

	offlineDelay time.Duration // see [wire.Register]
}

// session is the device's attachment, guarded by conn.mu.
type session struct {
	phase     phase
	mailbox   *inbox.Mailbox // nil until attached
	inflight  int            // messages not yet stored
	heartbeat time.Duration
	drain     drainEnd
	closed    wire.CloseCode // that the edge ended it with; 0: it did not

	credential
}

// drainEnd is how a connection ends that drains; its code is 0 for any other.
type drainEnd struct {
	code wire.CloseCode
	hint time.Duration // how long the device should wait before it comes back
}

// credential is the one that was shown last.
type credential struct {
	issued  time.Time
	expires time.Time     // zero: never
	early   time.Duration // so much before expires the connection ends
}

// advance goes on to a phase, unless a later one has come.
func (s *session) advance(to phase) { s.phase = max(s.phase, to) }

// beginDrain has the connection take nothing more.
func (s *session) beginDrain(code wire.CloseCode, hint time.Duration) {
	s.advance(draining)
	s.drain = drainEnd{code, hint}
}

// drained reports whether all that was taken is stored and answered.
func (s *session) drained() bool { return s.drain.code != 0 && s.inflight == 0 }

// acceptsAcks reports whether acknowledgements still count when the connection
// has ended: when it is the edge that goes, the device may have some on the way.
func (s *session) acceptsAcks() bool { return s.drain.code != 0 && s.mailbox != nil }
