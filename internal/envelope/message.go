package envelope

import (
	"strconv"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/rccs-io/rccs/internal/clock"
	"github.com/rccs-io/rccs/internal/layout"
	"github.com/rccs-io/rccs/internal/proof"
	"github.com/rccs-io/rccs/subjects"
	"github.com/rccs-io/rccs/wire"
)

// Sender is a device that sends.
type Sender struct {
	Key    subjects.Key
	Device subjects.DeviceID
	Proof  *proof.Key // makes the ids of its messages
	// Unsure: the store may have forgotten what the device sends again.
	Unsure bool
}

func (s *Sender) user() subjects.UserID {
	name, _ := subjects.Unescape(s.Key.User()) // a key that a credential made
	return subjects.UserID(name)
}

// headers builds a nats.Header with two allocations instead of one a header.
type headers struct {
	h      nats.Header
	values []string
}

// maxHeaders is how many headers are written to a message at the most, those
// of a batch among them.
const maxHeaders = 14

func newHeaders() headers {
	return headers{h: make(nats.Header, maxHeaders/2), values: make([]string, 0, maxHeaders)}
}

// set adds a header, unless it is empty.
func (h *headers) set(key, value string) {
	if value == "" {
		return
	}
	n := len(h.values)
	h.values = append(h.values, value)
	h.h[key] = h.values[n : n+1 : n+1]
}

// common are the headers that each form of an envelope has.
func common(e *wire.Envelope, from Sender) headers {
	h := newHeaders()
	h.common(e, from)
	return h
}

func (h *headers) common(e *wire.Envelope, from Sender) {
	h.set(subjects.HeaderID, e.ID)
	h.set(subjects.HeaderType, e.Type)
	h.set(subjects.HeaderFrom, string(from.Device))
	h.set(subjects.HeaderTimestamp, e.Timestamp)
	h.set(subjects.HeaderCorrelation, e.CorrelationID)
	h.set(subjects.HeaderTrace, e.Traceparent)
}

// Carried reads the fields of e that RCCS carries through, which common has written.
func Carried(e *wire.Envelope, h nats.Header) {
	e.CorrelationID = Value(h, subjects.HeaderCorrelation)
	e.Traceparent = Value(h, subjects.HeaderTrace)
}

// carried is [Carried] of the message's headers.
func (m *Message) carried(e *wire.Envelope) {
	e.CorrelationID = m.rare(rareCorrelation, subjects.HeaderCorrelation)
	e.Traceparent = m.Traceparent()
}

// durable adds what only a stored message has.
func durable(e *wire.Envelope, from Sender, copyNumber int) headers {
	h := newHeaders()
	h.durable(e, from, from.DedupID(e.ID, copyNumber))
	return h
}

// clockSet reports whether the store may have forgotten what its sender sends
// again.
var clockSet = clock.Watch().Within

func (h *headers) durable(e *wire.Envelope, from Sender, dedupID string) {
	h.common(e, from)
	h.set(jetstream.MsgIDHeader, dedupID)
	h.set(subjects.HeaderCollapse, e.CollapseKey)
	if e.TTLMs > 0 {
		h.set(subjects.HeaderTTL, strconv.FormatInt(e.TTLMs, 10))
	}
	if from.Unsure || clockSet(layout.DedupWindow) {
		h.set(subjects.HeaderRedelivered, "true")
	}
	if e.RequiresAck {
		h.set(subjects.HeaderAck, "true")
		h.set(layout.HeaderProof, from.Proof.Tag(proof.Sender, from.Key.User(), string(from.Device), e.ID))
	}
}

// DedupID is the Nats-Msg-Id of a message for an inbox: unique for a sender in
// the whole stream, and none that a service can make. A repeat of an id is one
// message, whomever it is addressed to, so the first copy of a fan-out has the
// same as a message to one device.
func (s Sender) DedupID(id string, copyNumber int) string {
	tag := s.Proof.Tag(proof.Inbox, string(s.Key), id)
	if copyNumber == 0 {
		return tag
	}
	return tag + "." + strconv.Itoa(copyNumber)
}

// Inbox is the message for one device's inbox, the copyNumber-th of a fan-out.
// body is the payload; copies may share it.
func Inbox(e *wire.Envelope, from Sender, to subjects.Key, copyNumber int, body []byte) *nats.Msg {
	h := durable(e, from, copyNumber)
	return &nats.Msg{Subject: subjects.Inbox(to, subjects.Lane(e.Priority)), Header: h.h, Data: body}
}

// Later is the message that waits until e.DeliverAt (ADR-51).
func Later(e *wire.Envelope, from Sender, to subjects.Key, copyNumber int, body []byte) *nats.Msg {
	h := durable(e, from, copyNumber)
	lane := subjects.Lane(e.Priority)
	m := &nats.Msg{Header: h.h, Data: body}
	Delay(m, e.DeliverAt, to, lane, LaterID(from.Device, e.ID))
	return m
}

// Delay has a message wait until at, and then go to an inbox. A time that has
// passed counts as now: NATS cannot count from any year. id is a [LaterID].
func Delay(m *nats.Msg, at time.Time, to subjects.Key, lane subjects.Lane, id string) {
	if now := time.Now(); at.Before(now) {
		at = now
	}
	m.Header.Set("Nats-Schedule", "@at "+at.UTC().Format(time.RFC3339Nano))
	m.Header.Set("Nats-Schedule-Target", layout.Due(to, lane))
	m.Subject = subjects.Later(to, lane, id)
}

// LaterID is the name of a device's delayed message among those of its user.
func LaterID(from subjects.DeviceID, id string) string { return string(from) + "/" + id }

// Wait is the message that the coordinator gives to the first device that
// comes online. task is "" when it is of none.
func Wait(e *wire.Envelope, from Sender, to wire.To, task string, body []byte) *nats.Msg {
	h := durable(e, from, 0)
	h.set(subjects.HeaderPriority, strconv.Itoa(int(e.Priority)))
	h.set(layout.HeaderWaitType, to.DeviceType)
	h.set(layout.HeaderWaitCapability, to.Capability)
	h.set(layout.HeaderWaitTask, task)
	if !e.DeliverAt.IsZero() {
		h.set(layout.HeaderWaitDue, e.DeliverAt.UTC().Format(time.RFC3339Nano))
	}
	return &nats.Msg{Subject: layout.Wait(from.user()), Header: h.h, Data: body}
}

// WaitTo is whom a message is for that [Wait] has made.
func WaitTo(h nats.Header) wire.To {
	return wire.To{DeviceType: Value(h, layout.HeaderWaitType), Capability: Value(h, layout.HeaderWaitCapability), Mode: wire.ModeAny}
}

// OfWait reports whether a header is one that only [Wait] writes.
func OfWait(key string) bool {
	switch key {
	case layout.HeaderWaitType, layout.HeaderWaitCapability, layout.HeaderWaitTask, layout.HeaderWaitDue:
		return true
	}
	return false
}

// RouteTo is whom a message is for that a service has published to a route.
func RouteTo(s subjects.Selector) wire.To {
	to := wire.To{DeviceType: s.DeviceType, Capability: s.Capability, Mode: wire.ModeAll}
	if s.Any {
		to.Mode = wire.ModeAny
	}
	return to
}

// Signal is the message that is never stored.
func Signal(e *wire.Envelope, from Sender, to subjects.Key, body []byte) *nats.Msg {
	h := common(e, from)
	h.set(subjects.HeaderPriority, strconv.Itoa(int(e.Priority)))
	return &nats.Msg{Subject: subjects.Signal(to), Header: h.h, Data: body}
}

// Up is the message to the tenant's services.
func Up(e *wire.Envelope, from Sender, body []byte) *nats.Msg {
	h := newHeaders()
	h.durable(e, from, from.Proof.Tag(proof.Up, string(from.Key), e.ID))
	delete(h.h, layout.HeaderProof) // services read it
	return &nats.Msg{Subject: subjects.Up(from.Key, e.Type), Header: h.h, Data: body}
}
