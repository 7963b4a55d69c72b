package inbox

import (
	"math"
	"strconv"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/rccs-io/rccs/internal/reader"
	"github.com/rccs-io/rccs/subjects"
)

// Message is one stored message of an inbox. It is shared between the tail and
// queues and never changed.
type Message struct {
	Key    subjects.Key
	Lane   subjects.Lane
	Seq    uint64 // sequence in the inbox stream
	Stored int64  // when it was stored, Unix nanoseconds
	Header nats.Header
	Data   []byte
}

// cost is what a message is counted for against bounds, in bytes.
func (m *Message) cost() int { return len(m.Data) + messageOverhead }

// messageOverhead stands for the headers and bookkeeping of a message.
const messageOverhead = 512

func newMessage(e reader.Entry) (*Message, bool) {
	key, lane, ok := subjects.ParseInbox(e.Subject)
	if !ok {
		return nil, false
	}
	return &Message{Key: key, Lane: lane, Seq: e.Seq, Stored: e.Time, Header: e.Header, Data: e.Data}, true
}

// header is the first value of a header; a message without any has none.
func (m *Message) header(key string) string {
	if v := m.Header[key]; len(v) > 0 {
		return v[0]
	}
	return ""
}

// id is the message's id as its device sees it.
func (m *Message) id() string {
	for _, key := range [...]string{subjects.HeaderID, jetstream.MsgIDHeader} {
		if id := m.header(key); id != "" {
			return id
		}
	}
	return "seq-" + strconv.FormatUint(m.Seq, 10)
}

// expires is when the message's time to live ends, in Unix nanoseconds; 0
// means never. A header that is no number of ms is as good as none.
func (m *Message) expires() int64 {
	text := m.header(subjects.HeaderTTL)
	if text == "" {
		return 0
	}
	ms, err := strconv.ParseInt(text, 10, 64)
	if err != nil || ms <= 0 || ms > (math.MaxInt64-m.Stored)/int64(time.Millisecond) {
		return 0
	}
	return m.Stored + ms*int64(time.Millisecond)
}

// asked is whom to tell what becomes of the message; nil for nobody.
func (m *Message) requester() *ackRequester {
	if m.header(subjects.HeaderAck) != "true" {
		return nil
	}
	return &ackRequester{id: m.id(), from: m.header(subjects.HeaderFrom), kind: m.header(subjects.HeaderType)}
}

// ackRequester is the sender of a message that wants to hear its outcome.
type ackRequester struct {
	id   string
	from string // the device; "" for a service
	kind string // the message's type
}

// Delivery is a message on its way to a device.
type Delivery struct {
	*Message
	// Redelivered says that it may have been sent to this device before.
	Redelivered bool
}
