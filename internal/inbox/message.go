package inbox

import (
	"math"
	"strconv"
	"strings"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/rccs-io/rccs/internal/proof"
	"github.com/rccs-io/rccs/internal/reader"
	"github.com/rccs-io/rccs/subjects"
	"github.com/rccs-io/rccs/wire"
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
	// Authentic says that a part of RCCS wrote the message: that it is from whom
	// it says.
	Authentic bool
}

// NewMessage is what is stored in an inbox. k is the tenant's key.
func NewMessage(k *proof.Key, s reader.Entry) (*Message, bool) {
	key, lane, ok := subjects.ParseInbox(s.Subject)
	if !ok {
		return nil, false
	}
	m := &Message{Key: key, Lane: lane, Seq: s.Seq, Stored: s.Time, Header: s.Header, Data: s.Data}
	m.Authentic = k.Before(subjects.StreamInbox, m.Seq)
	if tag := m.header(subjects.HeaderProof); tag != "" {
		m.Authentic = m.proven(k, tag)
	}
	return m, true
}

// proven checks the tag of a message: of a device, or of RCCS itself.
func (m *Message) proven(k *proof.Key, tag string) bool {
	id := m.header(subjects.HeaderID)
	if from := m.header(subjects.HeaderFrom); from != "" {
		return k.Is(tag, proof.Sender, m.Key.User(), from, id)
	}
	return k.Is(tag, proof.Server, string(m.Key), id, string(m.Data))
}

// Notice is a message of RCCS itself to a device, of type ack. dedup tells it
// from others.
func Notice(k *proof.Key, to subjects.Key, lane subjects.Lane, id, dedup string, body []byte) *nats.Msg {
	return &nats.Msg{
		Subject: subjects.Inbox(to, lane), Data: body,
		Header: nats.Header{
			jetstream.MsgIDHeader: {k.Tag(proof.Outcome, dedup)},
			subjects.HeaderID:     {id},
			subjects.HeaderType:   {wire.TypeAck},
			subjects.HeaderProof:  {k.Tag(proof.Server, string(to), id, string(body))},
		},
	}
}

// cost is what a message is counted for against bounds, in bytes.
func (m *Message) cost() int { return len(m.Data) + messageOverhead }

// messageOverhead stands for the headers and bookkeeping of a message.
const messageOverhead = 512

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
	r := &ackRequester{id: m.id(), kind: m.header(subjects.HeaderType)}
	if m.Authentic { // or a service could have a device told what it likes
		r.from = m.header(subjects.HeaderFrom)
	}
	if strings.HasPrefix(r.from, "service:") { // over HTTP: no device has such a name
		r.from = ""
	}
	return r
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
