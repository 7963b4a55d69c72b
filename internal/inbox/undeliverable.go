package inbox

import (
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/rccs-io/rccs/internal/envelope"
	"github.com/rccs-io/rccs/internal/layout"
	"github.com/rccs-io/rccs/internal/proof"
	"github.com/rccs-io/rccs/subjects"
	"github.com/rccs-io/rccs/wire"
)

// The reasons for which a service's message can reach nobody.
const (
	NoDevice    = "noDevice"
	BadSubject  = "badSubject"
	BadSchedule = "badSchedule"
	TooLarge    = "tooLarge"
	// Damaged: it waited for its time, or for a device, and the store can no longer
	// read it.
	Damaged = wire.ReasonDamaged
)

// Unreachable is a message of a service that reaches nobody.
type Unreachable struct {
	Stream  string
	Subject string
	Seq     uint64
	Header  nats.Header
	Reason  string
	// User and Device are tokens of the subject; "" where there is none.
	User, Device string
}

// NewUnreachable describes a message of a stream that names no device, or one that
// does not exist. Its names are the first tokens after rccs.KIND.
func NewUnreachable(stream, subject string, seq uint64, header nats.Header, reason string) *Unreachable {
	u := &Unreachable{Stream: stream, Subject: subject, Seq: seq, Header: header, Reason: reason}
	tokens := strings.Split(subject, ".")
	if len(tokens) > 2 {
		u.User = tokens[2]
	}
	if len(tokens) > 3 && stream != layout.StreamRoute { // there it is a selector
		u.Device = tokens[3]
	}
	return u
}

// Waiting is a message that waited for its time or for a device, in a stream of its
// own.
type Waiting struct {
	Stream  string
	Subject string
	Seq     uint64
	Header  nats.Header
	// Certain: the subject is right. Otherwise it is as it was read.
	Certain bool
}

// Damaged returns what tells that the store can no longer read the message: the
// event for services, and the outcome for the device that sent it and asked. What
// the header says may be wrong: a device is told only if that is authentic.
func (w *Waiting) Damaged(k *proof.Key) ([]*nats.Msg, error) {
	u := NewUnreachable(w.Stream, w.Subject, w.Seq, w.Header, Damaged)
	key, lane, delayed := subjects.ParseLater(w.Subject)
	if delayed && w.Header.Get("Nats-Schedule-Target") == layout.Due(key, lane) {
		w.Certain = true
	}
	if !w.Certain {
		u.User, u.Device = "", ""
	}
	event, err := u.Event(k)
	if err != nil {
		return nil, fmt.Errorf("inbox: event: %w", err)
	}
	told := []*nats.Msg{event}
	if !delayed || !w.Certain {
		return told, nil
	}
	m, ok := envelope.Parse(k, envelope.Stored{Subject: subjects.Inbox(key, lane), Seq: w.Seq, Header: w.Header})
	if !ok {
		return told, nil
	}
	o := outcome{key: key, lane: lane, requester: requesterOf(m), status: wire.StatusUndeliverable, reason: Damaged, at: time.Now().UnixNano()}
	if o.requester == nil || o.requester.from == "" {
		return told, nil
	}
	name := w.name()
	if msg := o.notice(k, "outcome-"+name, name); msg != nil {
		told = append(told, msg)
	}
	return told, nil
}

// Purged returns what tells the sender of a delayed message, if it asked, that the
// message was removed before its time came; nil otherwise.
func (w *Waiting) Purged(k *proof.Key) *nats.Msg {
	return w.ended(k, wire.StatusExpired, wire.ReasonPurged)
}

// Replaced is [Waiting.Purged] for a message that another one on its subject replaced.
func (w *Waiting) Replaced(k *proof.Key) *nats.Msg { return w.ended(k, wire.StatusReplaced, "") }

func (w *Waiting) ended(k *proof.Key, status wire.Status, reason string) *nats.Msg {
	key, lane, ok := subjects.ParseLater(w.Subject)
	if !ok {
		return nil
	}
	m, ok := envelope.Parse(k, envelope.Stored{Subject: subjects.Inbox(key, lane), Seq: w.Seq, Header: w.Header})
	if !ok {
		return nil
	}
	to, err := key.Address()
	o := outcome{key: key, lane: lane, requester: requesterOf(m), status: status, reason: reason, at: time.Now().UnixNano()}
	if err != nil || o.requester == nil {
		return nil
	}
	name := w.name()
	if o.requester.from != "" {
		return o.notice(k, "outcome-"+name, name)
	}
	msg := o.event(to) // its seq is 0: it was in no inbox
	if msg != nil {
		msg.Header.Set(jetstream.MsgIDHeader, k.Tag("purged", w.Stream, strconv.FormatUint(w.Seq, 10)))
	}
	return msg
}

// name tells the message from those of inboxes.
func (w *Waiting) name() string { return "later-" + strconv.FormatUint(w.Seq, 10) }

// unreadable stands in an event's subject for a name that is missing or cannot be
// read. No escaped name is the same.
const unreadable = "%"

// Event returns the event that tells services: subscribe to
// rccs.event.*.*.undeliverable. It is stored once, however many processes notice.
func (u *Unreachable) Event(k *proof.Key) (*nats.Msg, error) {
	user, device := readable(u.User, subjects.CheckUser), readable(u.Device, subjects.CheckDevice)
	id := k.Tag("undeliverable", u.Stream, strconv.FormatUint(u.Seq, 10))
	return newEvent(user, device, subjects.EventUndeliverable, id, struct {
		Kind    string            `json:"kind"`
		User    subjects.UserID   `json:"user"`
		Device  subjects.DeviceID `json:"device"`
		At      string            `json:"at"`
		ID      string            `json:"id,omitempty"`
		Seq     uint64            `json:"seq"`
		Subject string            `json:"subject"`
		Reason  string            `json:"reason"`
	}{
		subjects.EventUndeliverable, user, device, time.Now().UTC().Format(time.RFC3339Nano), envelope.ID(u.Header), u.Seq, u.Subject, u.Reason,
	})
}

// readable returns the name that a token stands for; "" if it is not a valid one.
func readable[T ~string](token string, check func(T) error) T {
	name, err := subjects.Unescape(token)
	if err != nil || check(T(name)) != nil {
		return ""
	}
	return T(name)
}
