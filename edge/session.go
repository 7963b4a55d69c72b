package edge

import (
	"time"

	"github.com/rccs-io/rccs/auth"
	"github.com/rccs-io/rccs/internal/inbox"
	"github.com/rccs-io/rccs/internal/roster"
	"github.com/rccs-io/rccs/subjects"
	"github.com/rccs-io/rccs/wire"
)

// phase is how far a connection has come. It only rises.
//
//	unregistered ── the inbox is attached ──> attaching ── the answer is queued ──> attached
//	      └──────────────────────┴─── the edge or the device ends it ───┴──> draining ──> detaching
//
// A connection that ends for another reason, such as a lost peer or a newer
// connection, goes to detaching when its read loop has ended.
type phase uint8

const (
	// unregistered: only device_register is taken.
	unregistered phase = iota
	// attaching: other answers wait for the answer to the registration.
	attaching
	// attached: messages go both ways.
	attached
	// draining: only acknowledgements are taken. The connection ends when what
	// was taken before is stored and answered.
	draining
	// detaching: the inbox hands out nothing more.
	detaching
)

// device is the device of a connection. The read loop sets it at registration,
// before the mailbox is published. It is constant from then on.
type device struct {
	tenant   *Tenant
	who      holder
	key      subjects.Key
	sess     *roster.Session
	window   int
	maxFrame int // the largest frame that may be written

	authenticated bool // a good credential was shown
	auto          bool // written to the socket counts as delivered
	batch         bool // the device takes arrays

	offlineDelay time.Duration // see [wire.Register]
}

// holder is who showed a credential, as far as it counts after that.
type holder struct {
	Account string // the tenant's
	Address subjects.Address
	UserKey string
}

// revoked reports whether v has revoked the credential that was issued then.
func (h holder) revoked(v *auth.Verifier, issued time.Time) bool {
	return v.Revoked(auth.Identity{Account: h.Account, Address: h.Address, UserKey: h.UserKey}, issued)
}

// session is the device's attachment, guarded by conn.mu.
type session struct {
	phase     phase
	closed    int16          // the [wire.CloseCode] that the edge ended it with; 0: it did not
	inflight  int32          // messages not yet stored
	mailbox   *inbox.Mailbox // nil until attached
	heartbeat time.Duration
	drain     drainEnd

	credential
}

// drainEnd is how a draining connection ends. Its code is 0 for any other.
type drainEnd struct {
	code wire.CloseCode
	hint time.Duration // how long the device should wait before it comes back
}

// credential is the credential that was shown last.
type credential struct {
	issued  instant
	expires instant       // 0: never
	early   time.Duration // the connection ends so long before expires
}

// instant is a time in Unix seconds, as credentials have them; 0 is none. It is a
// third as large as a [time.Time], and each connection has several.
type instant int64

func instantOf(t time.Time) instant {
	if t.IsZero() {
		return 0
	}
	return instant(t.Unix())
}

func (i instant) time() time.Time {
	if i == 0 {
		return time.Time{}
	}
	return time.Unix(int64(i), 0)
}

// advance goes on to a phase, unless the connection is past it.
func (s *session) advance(to phase) { s.phase = max(s.phase, to) }

// beginDrain makes the connection take nothing more but acknowledgements.
func (s *session) beginDrain(code wire.CloseCode, hint time.Duration) {
	s.advance(draining)
	s.drain = drainEnd{code, hint}
}

// drained reports whether a draining connection has stored and answered
// everything it took.
func (s *session) drained() bool { return s.drain.code != 0 && s.inflight == 0 }

// acceptsAcks reports whether acknowledgements still count when the connection
// has ended. They do if the edge ended it: the device may have some on the way.
func (s *session) acceptsAcks() bool { return s.drain.code != 0 && s.mailbox != nil }
