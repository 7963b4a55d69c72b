package envelope

import (
	"encoding/base64"
	"strings"

	"github.com/rccs-io/rccs/internal/layout"
	"github.com/rccs-io/rccs/subjects"
	"github.com/rccs-io/rccs/wire"
)

// DefaultType is the type of a message whose publisher named none.
const DefaultType = "notification"

// Operator is the service as which operators send.
const Operator = layout.OperatorService

// Service is the sender of what a service published without RCCS in between:
// NATS does not tell who that was.
const Service = "service:" + layout.UnnamedService

// Append appends a stored message as the envelope that the device gets. A
// message with sequence 0 was never stored, and gets none.
func Append(dst []byte, d *Delivery, to subjects.Address) []byte {
	replay := d.rare(rareReplay, layout.HeaderReplay) == "true"
	e := wire.Envelope{
		ID:          d.ID(),
		UserID:      to.User,
		ToDeviceID:  to.Device,
		Timestamp:   d.Timestamp(),
		Priority:    uint8(d.Lane),
		TTLMs:       d.TTL().Milliseconds(),
		RequiresAck: d.RequiresAck(),
		CollapseKey: d.CollapseKey(),
		Seq:         d.Seq,
		Redelivered: d.Redelivered || replay || d.rare(rareRedelivered, subjects.HeaderRedelivered) == "true",
		Replay:      replay,
		Ephemeral:   d.Seq == 0,
	}
	d.carried(&e)
	e.Type, e.OriginalType, e.FromDeviceID = d.TypeAndSender()
	e.Payload, e.Encoding = Payload(d.Data)
	return e.Append(dst)
}

// TypeAndSender are what a message is shown to be, and from whom. original is
// the type in its headers where only RCCS may use that one, and it is not known
// that RCCS did.
func (m *Message) TypeAndSender() (kind, original string, from subjects.DeviceID) {
	kind, from = m.Value(subjects.HeaderType), subjects.DeviceID(m.Value(subjects.HeaderFrom))
	if kind == "" {
		kind = DefaultType
	}
	switch control := wire.IsControl(kind); {
	case control && m.Authentic && from == "":
		return kind, "", wire.Server // an outcome, which RCCS itself stores
	case control: // only RCCS and devices use these types, and what they say is not stored
		kind, original = DefaultType, kind
	}
	return kind, original, SenderOf(from, m.Authentic)
}

// SenderOf is whom a message is shown to be from, of which a header says from. A
// service may speak for a device of the user; the names of RCCS and of services
// are taken from RCCS's own parts alone.
func SenderOf(from subjects.DeviceID, authentic bool) subjects.DeviceID {
	if from == "" || !authentic && (from == wire.Server || strings.HasPrefix(string(from), servicePrefix)) {
		return Service
	}
	return from
}

const servicePrefix = "service:"

// Payload is the JSON that a body travels as: itself when it is JSON, null
// when it is empty, else a base64 string and the encoding that says so.
func Payload(body []byte) (json []byte, encoding string) {
	if len(body) == 0 || wire.Embeddable(body) {
		return nullIfEmpty(body), ""
	}
	return asBase64(body)
}

// NestedPayload is Payload for a body that stands in one object more than a
// payload does, such as the params of a request, or in a list of messages.
func NestedPayload(body []byte) (json []byte, encoding string) {
	if len(body) == 0 || wire.EmbeddableInObject(body) {
		return nullIfEmpty(body), ""
	}
	return asBase64(body)
}

func nullIfEmpty(body []byte) []byte {
	if len(body) == 0 {
		return []byte("null")
	}
	return body
}

func asBase64(body []byte) (json []byte, encoding string) {
	quoted := make([]byte, 0, base64.StdEncoding.EncodedLen(len(body))+2)
	quoted = append(quoted, '"')
	quoted = base64.StdEncoding.AppendEncode(quoted, body)
	return append(quoted, '"'), wire.EncodingBase64
}
