package wire

import (
	"math"
	"time"

	"github.com/rccs-io/rccs/subjects"
)

// Bounds of the codec.
const (
	// MaxID is the longest id, correlationId, collapseKey or traceparent, and
	// the longest device name, device type or capability, in bytes.
	MaxID = 128
	// MaxType is the longest type, in bytes.
	MaxType = 64
	// MaxEnvelopes is how many envelopes one frame may hold. It bounds the
	// memory that a small frame of empty objects can ask for.
	MaxEnvelopes = 16_384
	// MaxDepth is how deep arrays and objects nest in a frame, the same as in
	// encoding/json. An envelope is always counted as if inside an array,
	// because it may be delivered in one.
	MaxDepth = 10_000
)

// Priorities. A higher one is delivered first.
const (
	Low uint8 = iota
	Normal
	High
	Critical
)

// Types with a meaning of their own; every other type is an application's.
const (
	TypeRegister    = "device_register"
	TypeUnregister  = "device_unregister"
	TypeStatus      = "device_status"
	TypeHeartbeat   = "heartbeat"
	TypeAck         = "ack"
	TypeError       = "error"
	TypeDeviceList  = "device_list"
	TypePresence    = "presence"
	TypeSubscribe   = "subscribe"
	TypeUnsubscribe = "unsubscribe"
	TypePublish     = "publish"
	TypeTopic       = "topic"
	TypeHistory     = "history"
	TypeRequest     = "request"
	TypeResponse    = "response"
	TypeGap         = "gap"
)

// Server is the fromDeviceId of what the edge says in its own name.
const Server = "server"

// EncodingBase64 is the encoding of a payload that is not JSON.
const EncodingBase64 = "base64"

// Envelope is one message. The zero value of a field means that it is absent,
// but for Priority, whose zero is low: start from [NewEnvelope] to write one.
type Envelope struct {
	ID           string
	Type         string
	FromDeviceID subjects.DeviceID // or [Server], or service:NAME
	UserID       subjects.UserID
	// ToDeviceID is toDeviceId as sent; see [Envelope.Target].
	ToDeviceID subjects.DeviceID
	To         *To
	// Payload is one JSON value, byte for byte as it was sent; nil is absent.
	// After decoding it aliases the frame.
	Payload []byte
	// Timestamp is RFC 3339: as it was sent, or made from a number of ms.
	Timestamp     string
	CorrelationID string
	CollapseKey   string
	Traceparent   string
	Encoding      string // "" or [EncodingBase64]
	Topic         string
	// OriginalType is what a service called a message whose type it may not
	// use: Type is "notification" then.
	OriginalType string
	TTLMs        int64     // positive; 0 is absent. See [Envelope.TTL]
	DeliverAt    time.Time // zero is absent
	Seq          uint64    // below 1<<63; 0 is absent
	Priority     uint8     // [Low] to [Critical]
	RequiresAck  bool
	Ephemeral    bool
	Redelivered  bool
	Replay       bool
	Partial      bool // a response of which more parts follow
	// TooLarge stands in a history in the place of a payload that no frame for
	// this device can hold.
	TooLarge bool
}

// To says which devices a message is for. At most one of Device, DeviceType,
// Capability and Service is set; none of them means every device.
type To struct {
	Device     subjects.DeviceID
	DeviceType string
	Capability string
	Mode       string // "", "all" or "any"
	Service    bool
}

// Modes of [To].
const (
	ModeAll = "all"
	ModeAny = "any"
)

// NewEnvelope is a message of normal priority. payload is one JSON value,
// which is sent as it is; nil for none.
func NewEnvelope(id, typ string, payload []byte) Envelope {
	return Envelope{ID: id, Type: typ, Payload: payload, Priority: Normal}
}

// TTL is TTLMs as a duration, the longest there is when it does not fit; 0
// means the message does not expire.
func (e *Envelope) TTL() time.Duration {
	if e.TTLMs > math.MaxInt64/int64(time.Millisecond) {
		return math.MaxInt64
	}
	return time.Duration(e.TTLMs) * time.Millisecond
}

// Target is whom the message is for, with toDeviceId folded in; ok is false
// when the envelope does not say, and its type decides.
func (e *Envelope) Target() (to To, ok bool) {
	switch {
	case e.To != nil:
		return *e.To, true
	case e.ToDeviceID != "":
		return To{Device: e.ToDeviceID}, true
	}
	return To{}, false
}

// IsControl reports whether RCCS itself gives the type a meaning. A control
// message needs neither an id nor a payload to be well-formed.
func IsControl(typ string) bool {
	switch typ {
	case TypeRegister, TypeUnregister, TypeStatus, TypeHeartbeat, TypeAck, TypeError,
		TypeDeviceList, TypePresence, TypeSubscribe, TypeUnsubscribe, TypePublish,
		TypeTopic, TypeHistory, TypeRequest, TypeResponse, TypeGap:
		return true
	}
	return false
}

// intern returns the constant for a common type, so that it costs nothing to
// keep; "" for any other.
func intern(typ []byte) string {
	switch string(typ) {
	case TypeAck:
		return TypeAck
	case TypeHeartbeat:
		return TypeHeartbeat
	case TypeRegister:
		return TypeRegister
	case TypeStatus:
		return TypeStatus
	case TypeRequest:
		return TypeRequest
	case TypeResponse:
		return TypeResponse
	case TypePublish:
		return TypePublish
	case TypeTopic:
		return TypeTopic
	case TypeError:
		return TypeError
	case "user_message":
		return "user_message"
	case "user_response":
		return "user_response"
	case "notification":
		return "notification"
	case "task_start":
		return "task_start"
	case "task_status":
		return "task_status"
	case "file_sync":
		return "file_sync"
	}
	return ""
}
