package inbox

import (
	"encoding/json"
	"strconv"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/rccs-io/rccs/internal/proof"
	"github.com/rccs-io/rccs/subjects"
)

// BadHeader is a message of a service with a header that cannot be used. The
// header's default was used in its place.
type BadHeader struct {
	Subject string // where it was published
	Seq     uint64 // 0 for what is not stored
	At      int64  // when it was stored, or arrived; Unix nanoseconds
	ID      string // of the message, as far as the service gave it one
	Header  string // the name of the header
	// User and Device are tokens of the subject; "" where there is none.
	User, Device string
}

// Event returns the event that tells services: subscribe to
// rccs.event.*.*.badHeader. It is stored at most once a second for each subject,
// however many processes notice.
func (b *BadHeader) Event(k *proof.Key) (*nats.Msg, error) {
	user, device := readable(b.User, subjects.CheckUser), readable(b.Device, subjects.CheckDevice)
	at := time.Unix(0, b.At).UTC()
	id := k.Tag("badHeader", b.Subject, strconv.FormatInt(at.Unix(), 10))
	return newEvent(user, device, subjects.EventBadHeader, id, struct {
		Kind    string            `json:"kind"`
		User    subjects.UserID   `json:"user"`
		Device  subjects.DeviceID `json:"device"`
		At      string            `json:"at"`
		ID      string            `json:"id,omitempty"`
		Seq     uint64            `json:"seq,omitempty"`
		Subject string            `json:"subject"`
		Header  string            `json:"header"`
	}{subjects.EventBadHeader, user, device, at.Format(time.RFC3339Nano), b.ID, b.Seq, b.Subject, b.Header})
}

// newEvent returns an event about a user's device, which is stored once under id.
// Its subject has [unreadable] in the place of an empty name.
func newEvent(user subjects.UserID, device subjects.DeviceID, kind, id string, body any) (*nats.Msg, error) {
	data, err := json.Marshal(body)
	if err != nil {
		return nil, err
	}
	token := func(name string) string {
		if name == "" {
			return unreadable
		}
		return subjects.Escape(name)
	}
	return &nats.Msg{
		Subject: subjects.Event(subjects.Key(token(string(user))+"."+token(string(device))), kind), Data: data,
		Header: nats.Header{jetstream.MsgIDHeader: {id}},
	}, nil
}

// RouteEvent is the end of a service's message that was for whichever device its
// route matches.
type RouteEvent struct {
	Kind    string
	User    subjects.UserID
	ID      string
	Type    string
	Lane    subjects.Lane
	Seq     uint64 // in the stream of routes
	Subject string
	Reason  string
	Retry   time.Duration // when to come back; 0: not said
}

// Message returns the event as it is stored. It is stored once, however many
// processes store it.
func (e *RouteEvent) Message(k *proof.Key) (*nats.Msg, error) {
	return newEvent(e.User, "", e.Kind, k.Tag("route", e.Kind, strconv.FormatUint(e.Seq, 10)), struct {
		Kind    string          `json:"kind"`
		User    subjects.UserID `json:"user"`
		Device  string          `json:"device"`
		At      string          `json:"at"`
		ID      string          `json:"id"`
		Type    string          `json:"type"`
		Lane    string          `json:"lane"`
		Seq     uint64          `json:"seq"`
		Subject string          `json:"subject"`
		Reason  string          `json:"reason,omitempty"`
		Retry   int64           `json:"retryAfterMs,omitempty"`
	}{
		e.Kind, e.User, "", time.Now().UTC().Format(time.RFC3339Nano), e.ID, e.Type, e.Lane.String(), e.Seq, e.Subject, e.Reason,
		e.Retry.Milliseconds(),
	})
}
