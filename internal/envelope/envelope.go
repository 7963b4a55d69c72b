package envelope

import (
	"encoding/base64"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/rccs-io/rccs/internal/inbox"
	"github.com/rccs-io/rccs/internal/proof"
	"github.com/rccs-io/rccs/subjects"
	"github.com/rccs-io/rccs/wire"
)

// DefaultType is the type of a message whose publisher named none.
const DefaultType = "notification"

// Service is the sender of what a service published without RCCS in between:
// NATS does not tell who that was.
const Service = "service:nats"

// Append appends a stored message as the envelope that the device gets. A
// message with sequence 0 was never stored, and gets none.
func Append(dst []byte, d *inbox.Delivery, to subjects.Address) []byte {
	h := d.Header
	replay := Value(h, subjects.HeaderReplay) == "true"
	e := wire.Envelope{
		ID:            Value(h, subjects.HeaderID),
		Type:          Value(h, subjects.HeaderType),
		FromDeviceID:  Value(h, subjects.HeaderFrom),
		UserID:        string(to.User),
		ToDeviceID:    string(to.Device),
		Timestamp:     Value(h, subjects.HeaderTimestamp),
		Priority:      uint8(d.Lane),
		RequiresAck:   Value(h, subjects.HeaderAck) == "true",
		CorrelationID: Value(h, subjects.HeaderCorrelation),
		CollapseKey:   Value(h, subjects.HeaderCollapse),
		Traceparent:   Value(h, subjects.HeaderTrace),
		Seq:           d.Seq,
		Redelivered:   d.Redelivered || replay,
		Replay:        replay,
		Ephemeral:     d.Seq == 0,
	}
	if ttl := Value(h, subjects.HeaderTTL); ttl != "" { // an error is allocated
		if ms, err := strconv.ParseInt(ttl, 10, 64); err == nil && ms > 0 {
			e.TTLMs = ms
		}
	}
	if !wire.ValidType(e.Type) {
		e.Type = DefaultType
	}
	switch control := wire.IsControl(e.Type); {
	case control && d.Authentic && e.FromDeviceID == "":
		e.FromDeviceID = wire.Server // an outcome, which RCCS itself stores
	case control: // only RCCS and devices use these types, and what they say is not stored
		e.Type, e.OriginalType = DefaultType, e.Type
		fallthrough
	default:
		e.FromDeviceID = SenderOf(e.FromDeviceID, d.Authentic)
	}
	if e.ID == "" {
		e.ID = Value(h, jetstream.MsgIDHeader)
	}
	if e.ID == "" {
		e.ID = SeqID(d.Seq)
	}
	if e.Timestamp == "" {
		e.Timestamp = wire.FormatTime(time.Unix(0, d.Stored))
	}
	e.Payload, e.Encoding = Payload(d.Data)
	return e.Append(dst)
}

// SenderOf is whom a message is shown to be from, of which a header says from. A
// service may speak for a device of the user; the names of RCCS and of services
// are taken from RCCS's own parts alone.
func SenderOf(from string, authentic bool) string {
	if from == "" || !authentic && (from == wire.Server || strings.HasPrefix(from, servicePrefix)) {
		return Service
	}
	return from
}

const servicePrefix = "service:"

// Publisher is who published a message of a topic, a device and its user. What
// does not show that a part of RCCS stored it is a service's, whatever its
// headers say.
func Publisher(k *proof.Key, topic string, seq uint64, h nats.Header, body []byte) (device, user string) {
	device, user = Value(h, subjects.HeaderFrom), Value(h, subjects.HeaderUser)
	if device == "" {
		return Service, ""
	}
	if k.Before(subjects.StreamTopic, seq) {
		return device, user
	}
	subject, err := subjects.Topic(topic)
	if tag := Value(h, subjects.HeaderProof); err != nil || !k.Is(tag, proof.Said, subject, user, device, Value(h, subjects.HeaderID), string(body)) {
		return Service, ""
	}
	return device, user
}

// SeqID is the id of a message that was stored without one.
func SeqID(seq uint64) string { return "seq-" + strconv.FormatUint(seq, 10) }

// Value is a header that is safe to hand on: its first value, as valid UTF-8.
func Value(h nats.Header, key string) string {
	v := h[key]
	if len(v) == 0 || v[0] == "" {
		return ""
	}
	if !utf8.ValidString(v[0]) {
		return strings.ToValidUTF8(v[0], "\uFFFD")
	}
	return v[0]
}

// Payload is the JSON that a body travels as: itself when it is JSON, null
// when it is empty, else a base64 string and the encoding that says so.
func Payload(body []byte) (json []byte, encoding string) {
	switch {
	case len(body) == 0:
		return nullPayload(), ""
	case wire.Embeddable(body):
		return body, ""
	}
	quoted := make([]byte, 0, base64.StdEncoding.EncodedLen(len(body))+2)
	quoted = append(quoted, '"')
	quoted = base64.StdEncoding.AppendEncode(quoted, body)
	return append(quoted, '"'), wire.EncodingBase64
}

func nullPayload() []byte { return []byte("null") }
