package inbox

import (
	"strings"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/rccs-io/rccs/internal/envelope"
	"github.com/rccs-io/rccs/internal/layout"
	"github.com/rccs-io/rccs/internal/proof"
	"github.com/rccs-io/rccs/subjects"
	"github.com/rccs-io/rccs/wire"
)

// Notice returns a message of type ack from RCCS itself to a device. dedup makes
// its Nats-Msg-Id differ from others.
func Notice(k *proof.Key, to subjects.Key, lane subjects.Lane, id, dedup string, body []byte) *nats.Msg {
	return &nats.Msg{
		Subject: subjects.Inbox(to, lane), Data: body,
		Header: nats.Header{
			jetstream.MsgIDHeader: {k.Tag(proof.Outcome, dedup)},
			subjects.HeaderID:     {id},
			subjects.HeaderType:   {wire.TypeAck},
			layout.HeaderProof:    {k.Tag(proof.Server, string(to), id, string(body))},
		},
	}
}

// ackRequester is the sender of a message that asked to hear its outcome.
type ackRequester struct {
	id   string
	from string // the device; "" for a service
	kind string // the message's type
}

// requesterOf returns whom to tell the outcome of a message; nil for nobody.
func requesterOf(m *envelope.Message) *ackRequester {
	if !m.RequiresAck() {
		return nil
	}
	r := &ackRequester{id: m.ID(), kind: m.Value(subjects.HeaderType)}
	if m.Authentic { // otherwise the header could name any device
		r.from = m.Value(subjects.HeaderFrom)
	}
	if strings.HasPrefix(r.from, "service:") { // a service over HTTP; no device has such a name
		r.from = ""
	}
	return r
}
