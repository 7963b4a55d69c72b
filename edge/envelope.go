package edge

import (
	"encoding/base64"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

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
		e.ID = one(h, jetstream.MsgIDHeader)
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
func message(e *wire.Envelope, from subjects.Key, device subjects.DeviceID, to subjects.Key) *nats.Msg {
	h := headers{h: make(nats.Header, maxHeaders), values: make([]string, 0, maxHeaders)}
	h.set(jetstream.MsgIDHeader, dedupID(from, e.ID))
	h.set(subjects.HeaderID, e.ID)
	h.set(subjects.HeaderType, e.Type)
	h.set(subjects.HeaderFrom, string(device))
	h.set(subjects.HeaderTimestamp, e.Timestamp)
	h.set(subjects.HeaderCorrelation, e.CorrelationID)
	h.set(subjects.HeaderTrace, e.Traceparent)
	if e.RequiresAck {
		h.set(subjects.HeaderAck, "true")
	}
	return &nats.Msg{
		Subject: subjects.Inbox(to, subjects.Lane(e.Priority)),
		Header:  h.h,
		Data:    append([]byte(nil), e.Payload...),
	}
}

// maxHeaders is how many headers an edge writes at the most.
const maxHeaders = 8

// headers builds a nats.Header with two allocations instead of one a header.
type headers struct {
	h      nats.Header
	values []string
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

// dedupID is unique for a sender in the whole stream: its key has no '/'.
// A repeat of an id is one message, whomever it is addressed to.
func dedupID(from subjects.Key, id string) string { return string(from) + "/" + id }
