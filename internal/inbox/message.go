package inbox

import (
	"github.com/nats-io/nats.go"

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

// Delivery is a message on its way to a device.
type Delivery struct {
	*Message
	// Redelivered says that it may have been sent to this device before.
	Redelivered bool
}
