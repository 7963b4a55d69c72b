package topic

import (
	"sync"

	"github.com/nats-io/nats.go"

	"github.com/rccs-io/rccs/internal/reader"
	"github.com/rccs-io/rccs/subjects"
)

// Message is one stored message of a topic, or, if LostFrom is set, the notice
// that messages are gone. It is shared and never changed.
type Message struct {
	Topic   string
	Subject string // "" in a notice
	Seq     uint64
	Stored  int64 // when it was stored, Unix nanoseconds
	Header  nats.Header
	Data    []byte
	// LostFrom is not 0 in a notice to one subscription: what the topic had
	// between it and Seq, both included, is not stored any more. How many
	// messages that were is not known, and after a long silence of the topic
	// it may have been none.
	LostFrom uint64
	// Reset is set in the notice that a subscription began anew, with the first
	// message stored: Seq is one below that, or 0.
	Reset bool
	// Reason is why messages are gone, in a notice.
	Reason string

	once  sync.Once
	frame []byte
}

// Notice reports whether the message says that others are gone.
func (m *Message) Notice() bool { return m.LostFrom != 0 || m.Reset }

// Frame is what encode makes of the message. It is made once, whoever asks.
func (m *Message) Frame(encode func(dst []byte, m *Message) []byte) []byte {
	m.once.Do(func() { m.frame = encode(nil, m) })
	return m.frame
}

func (m *Message) cost() int { return len(m.Data) + messageOverhead }

// messageOverhead stands for the headers and bookkeeping of a message.
const messageOverhead = 512

func newMessage(e reader.Entry) (*Message, bool) {
	name, ok := subjects.ParseTopic(e.Subject)
	if !ok {
		return nil, false // published under a name that is not escaped
	}
	return &Message{Topic: name, Seq: e.Seq, Stored: e.Time, Header: e.Header, Data: e.Data, Subject: e.Subject}, true
}
