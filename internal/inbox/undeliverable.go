package inbox

import (
	"encoding/json"
	"strconv"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/rccs-io/rccs/internal/envelope"
	"github.com/rccs-io/rccs/internal/proof"
	"github.com/rccs-io/rccs/subjects"
)

// The reasons for which a service's message can reach nobody.
const (
	NoDevice    = "noDevice"
	BadSubject  = "badSubject"
	BadSchedule = "badSchedule"
	TooLarge    = "tooLarge"
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

// unreadable stands in an event's subject for a name that is missing or cannot be
// read. No escaped name is the same.
const unreadable = "%"

// Event returns the event that tells services: subscribe to
// rccs.event.*.*.undeliverable. It is stored once, however many processes notice.
func (u *Unreachable) Event(k *proof.Key) (*nats.Msg, error) {
	user, device := readable(u.User, subjects.CheckUser), readable(u.Device, subjects.CheckDevice)
	body, err := json.Marshal(struct {
		Kind    string `json:"kind"`
		User    string `json:"user"`
		Device  string `json:"device"`
		At      string `json:"at"`
		ID      string `json:"id,omitempty"`
		Seq     uint64 `json:"seq"`
		Subject string `json:"subject"`
		Reason  string `json:"reason"`
	}{
		subjects.EventUndeliverable, string(user), string(device), time.Now().UTC().Format(time.RFC3339Nano), envelope.ID(u.Header), u.Seq, u.Subject, u.Reason,
	})
	if err != nil {
		return nil, err
	}
	return &nats.Msg{
		Subject: eventSubject(string(user), string(device), subjects.EventUndeliverable), Data: body,
		Header: nats.Header{jetstream.MsgIDHeader: {k.Tag("undeliverable", u.Stream, strconv.FormatUint(u.Seq, 10))}},
	}, nil
}

// readable returns the name that a token stands for; "" if it is not a valid one.
func readable[T ~string](token string, check func(T) error) T {
	name, err := subjects.Unescape(token)
	if err != nil || check(T(name)) != nil {
		return ""
	}
	return T(name)
}
