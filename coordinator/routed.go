package coordinator

import (
	"errors"
	"maps"
	"strconv"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/rccs-io/rccs/internal/envelope"
	"github.com/rccs-io/rccs/internal/headers"
	"github.com/rccs-io/rccs/internal/layout"
	"github.com/rccs-io/rccs/internal/proof"
	"github.com/rccs-io/rccs/internal/reader"
	"github.com/rccs-io/rccs/internal/roster"
	"github.com/rccs-io/rccs/subjects"
	"github.com/rccs-io/rccs/wire"
)

// routed is a message of the route stream.
type routed struct {
	seq      uint64
	subject  string
	stored   time.Time
	read     time.Time // when it was last known to be in the stream
	due      time.Time // a device does not get it before; zero: at once
	expires  time.Time // by its time to live; zero: never
	ends     time.Time // when its sender is told that it found no device; zero: never
	user     subjects.UserID
	sender   string // the service that sent it, for taking turns; empty if unknown
	heard    string // the same, where that was heard after it was read; guarded by router.mu
	fresh    bool   // no worker has it yet; guarded by router.mu
	header   nats.Header
	body     []byte
	kept     bool   // body is here; otherwise it is in the store
	finished bool   // stored for its devices, or told to its sender; only to be removed
	size     int    // of the body
	waiter   string // as whose it counts among what waits; empty: it does not yet, see router.admit
	again    bool   // it was restored, and may have been given out before that
	proof    *proof.Key

	lane subjects.Lane
	msg  roster.Message
	task string // that it belongs to; "" for none
	// acceptedByEdge: it waits until there is a device. A service's message to
	// nobody is dropped.
	acceptedByEdge bool
}

var errNoRoute = errors.New("coordinator: the subject names no route")

// newRouted reads a message of a stream that keeps messages for keeps. An error
// means that it cannot be routed at all.
func newRouted(e reader.Entry, keeps time.Duration) (*routed, error) {
	m := &routed{seq: e.Seq, subject: e.Subject, stored: time.Unix(0, e.Time), read: time.Now(), header: e.Header, size: len(e.Data), lane: subjects.Normal}
	user, waits := layout.ParseWait(e.Subject)
	var selector subjects.Selector
	if !waits {
		var ok bool
		if user, selector, ok = subjects.ParseRoute(e.Subject); !ok {
			return nil, errNoRoute
		}
	}
	if err := subjects.CheckUser(user); err != nil {
		return nil, err
	}
	m.user = user
	if n, err := strconv.ParseUint(envelope.Value(e.Header, subjects.HeaderPriority), 10, 8); err == nil && n < subjects.Lanes {
		m.lane = subjects.Lane(n)
	}
	lives := m.stored
	if waits {
		if due, err := time.Parse(time.RFC3339Nano, envelope.Value(e.Header, layout.HeaderWaitDue)); err == nil {
			m.due = due
		}
		if m.due.After(lives) {
			lives = m.due
		}
	}
	if ttl := envelope.TTL(e.Header); ttl > 0 {
		m.expires = lives.Add(ttl)
	}
	m.ends = m.expires
	if keeps > 0 {
		// Just before the stream drops it, of which nobody would be told.
		if last := m.stored.Add(keeps - min(keeps/10, time.Minute)); m.ends.IsZero() || last.Before(m.ends) {
			m.ends = last
		}
	}
	m.msg.Type = envelope.Value(e.Header, subjects.HeaderType)
	if waits {
		m.ofDevice()
		return m, nil
	}
	m.msg.To, m.msg.HasTo = envelope.RouteTo(selector), true
	return m, nil
}

// ofDevice reads a message that an edge has stored: its headers say whom it is
// for.
func (m *routed) ofDevice() {
	h := m.header
	m.acceptedByEdge = true
	m.msg.From = subjects.DeviceID(envelope.Value(h, subjects.HeaderFrom))
	m.task = envelope.Value(h, layout.HeaderWaitTask)
	to := envelope.WaitTo(h)
	if to == (wire.To{Mode: wire.ModeAny}) && roster.IsTask(m.msg.Type) {
		return // its type says it
	}
	m.msg.To, m.msg.HasTo = to, true
}

// id returns the message's id, as its sender and its recipients know it.
func (m *routed) id() string {
	if id := envelope.ID(m.header); id != "" {
		return id
	}
	return "route-" + strconv.FormatUint(m.seq, 10)
}

// dedupID returns the Nats-Msg-Id of the copy for a device. It is the same
// whoever makes the copy and, for a message that goes to one of many devices,
// whichever that is. For a device's message it is the id with which an edge would
// store it: the device may send the message again, at a time when it need not
// wait.
func (m *routed) dedupID(to subjects.Key) string {
	if m.acceptedByEdge {
		from := subjects.Address{User: m.user, Device: m.msg.From}.Key()
		return envelope.Sender{Key: from, Proof: m.proof}.DedupID(m.id(), 0)
	}
	seq := strconv.FormatUint(m.seq, 10)
	if m.msg.To.Mode == wire.ModeAny {
		to = ""
	}
	return m.proof.Tag(proof.Route, seq, string(to))
}

// copies returns the messages for the inboxes of targets. They carry what is left
// of the time to live. Those of a delayed message go where such messages wait, also
// when it is due: one that its sender has sent again is known there as a repeat.
func (m *routed) copies(targets []subjects.DeviceID, now time.Time) []*nats.Msg {
	base := make(nats.Header, len(m.header)+4)
	for key, values := range m.header {
		if m.travels(key) {
			base[key] = values
		}
	}
	base[subjects.HeaderID] = []string{m.id()}
	if envelope.Value(m.header, subjects.HeaderTimestamp) == "" {
		base[subjects.HeaderTimestamp] = []string{wire.FormatTime(m.stored)}
	}
	if !m.expires.IsZero() && !m.due.After(now) { // from when it is due, it has all its time
		base[subjects.HeaderTTL] = []string{strconv.FormatInt(max(m.expires.Sub(now).Milliseconds(), 1), 10)}
	}
	if m.again {
		base[subjects.HeaderRedelivered] = []string{"true"}
	}
	msgs := make([]*nats.Msg, len(targets))
	for n, device := range targets {
		to := subjects.Address{User: m.user, Device: device}.Key()
		h := make(nats.Header, len(base)+1)
		maps.Copy(h, base)
		h[jetstream.MsgIDHeader] = []string{m.dedupID(to)}
		msgs[n] = &nats.Msg{Subject: subjects.Inbox(to, m.lane), Header: h, Data: m.body}
		if !m.due.IsZero() {
			envelope.Delay(msgs[n], m.due, to, m.lane, envelope.LaterID(m.msg.From, m.id()))
		}
	}
	return msgs
}

// travels reports whether a header goes with the copies. Headers of NATS and of
// the routing do not. Nor does a service's claim to be a device.
func (m *routed) travels(key string) bool {
	if headers.OfNATS(key) || envelope.OfWait(key) {
		return false
	}
	switch key {
	case subjects.HeaderPriority:
		return false
	case subjects.HeaderFrom:
		return m.acceptedByEdge
	}
	return true
}
