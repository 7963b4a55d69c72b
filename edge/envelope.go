package edge

import (
	"encoding/base64"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/nats-io/nats.go"

	"github.com/rccs-io/rccs/internal/inbox"
	"github.com/rccs-io/rccs/subjects"
	"github.com/rccs-io/rccs/wire"
)

// defaultType is the type of a message whose publisher named none.
const defaultType = "notification"

// appendDelivery appends a stored message as the envelope that the device
// gets. What a service published is taken as it is as far as it can be: an
// unusable header is as good as none.
func appendDelivery(dst []byte, d *inbox.Delivery, to subjects.Address) []byte {
	h := d.Header
	e := wire.Envelope{
		ID:            one(h, subjects.HeaderID),
		Type:          one(h, subjects.HeaderType),
		FromDeviceID:  one(h, subjects.HeaderFrom),
		UserID:        string(to.User),
		ToDeviceID:    string(to.Device),
		Timestamp:     one(h, subjects.HeaderTimestamp),
		Priority:      uint8(d.Lane),
		RequiresAck:   one(h, subjects.HeaderAck) == "true",
		CorrelationID: one(h, subjects.HeaderCorrelation),
		CollapseKey:   one(h, subjects.HeaderCollapse),
		Traceparent:   one(h, subjects.HeaderTrace),
		Seq:           d.Seq,
		Redelivered:   d.Redelivered,
	}
	if e.FromDeviceID == "" {
		e.FromDeviceID = serviceName
	}
	if e.ID == "" {
		e.ID = one(h, "Nats-Msg-Id")
	}
	if e.ID == "" {
		e.ID = "seq-" + strconv.FormatUint(d.Seq, 10)
	}
	if !wire.ValidType(e.Type) {
		e.Type = defaultType
	}
	if e.Timestamp == "" {
		e.Timestamp = wire.FormatTime(time.Unix(0, d.Stored))
	}
	e.Payload, e.Encoding = payload(d.Data)
	return e.Append(dst)
}

// serviceName is the sender of what a service published straight into an
// inbox: NATS does not tell who that was.
const serviceName = "service:nats"

// one is a header that is safe to hand on: one value of valid UTF-8.
func one(h nats.Header, key string) string {
	v := h[key]
	if len(v) == 0 || v[0] == "" {
		return ""
	}
	if !utf8.ValidString(v[0]) {
		return strings.ToValidUTF8(v[0], "\uFFFD")
	}
	return v[0]
}

// payload is the JSON that a body travels as: itself when it is JSON, null
// when it is empty, else a base64 string.
func payload(body []byte) (json []byte, encoding string) {
	switch {
	case len(body) == 0:
		return nullPayload, ""
	case wire.Embeddable(body):
		return body, ""
	}
	quoted := make([]byte, 0, base64.StdEncoding.EncodedLen(len(body))+2)
	quoted = append(quoted, '"')
	quoted = base64.StdEncoding.AppendEncode(quoted, body)
	return append(quoted, '"'), wire.EncodingBase64
}

var nullPayload = []byte("null")

// message makes the stored form of an envelope from one device to another.
// The envelope's payload is copied, since it aliases the frame.
func message(e *wire.Envelope, from subjects.Address, to subjects.Key) *nats.Msg {
	h := make(nats.Header, 8)
	h["Nats-Msg-Id"] = []string{dedupID(from, e.ID)}
	h[subjects.HeaderID] = []string{e.ID}
	h[subjects.HeaderType] = []string{e.Type}
	h[subjects.HeaderFrom] = []string{string(from.Device)}
	optional := func(key, value string) {
		if value != "" {
			h[key] = []string{value}
		}
	}
	optional(subjects.HeaderTimestamp, e.Timestamp)
	optional(subjects.HeaderCorrelation, e.CorrelationID)
	optional(subjects.HeaderCollapse, e.CollapseKey)
	optional(subjects.HeaderTrace, e.Traceparent)
	if e.RequiresAck {
		h[subjects.HeaderAck] = []string{"true"}
	}
	return &nats.Msg{
		Subject: subjects.Inbox(to, subjects.Lane(e.Priority)),
		Header:  h,
		Data:    append([]byte(nil), e.Payload...),
	}
}

// dedupID is unique for a sender in the whole stream: its key has no '/'.
// A repeat of an id is one message, whomever it is addressed to.
func dedupID(from subjects.Address, id string) string {
	return string(from.Key()) + "/" + id
}
