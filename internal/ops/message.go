package ops

import (
	"time"

	"github.com/nats-io/nats.go"

	"github.com/rccs-io/rccs/internal/direct"
	"github.com/rccs-io/rccs/internal/envelope"
	"github.com/rccs-io/rccs/subjects"
	"github.com/rccs-io/rccs/wire"
)

// Message is a stored message of an inbox, as its device sees it.
type Message struct {
	Seq  uint64 `json:"seq"`
	Lane string `json:"lane"`
	ID   string `json:"id"`
	Type string `json:"type"`
	// Timestamp is when it was sent, as its sender said, else Stored.
	Timestamp string    `json:"timestamp"`
	From      string    `json:"from"`
	Stored    time.Time `json:"stored"`
	Bytes     int       `json:"bytes"` // of the payload
	Replay    bool      `json:"replay,omitempty"`

	lane   subjects.Lane
	header nats.Header
	data   []byte
}

// newMessage reads what was stored; lane is that of its subject.
func newMessage(s *direct.Stored, lane subjects.Lane) *Message {
	m := &Message{
		Seq: s.Seq, Lane: lane.String(), Stored: time.Unix(0, s.Time).UTC(), Bytes: len(s.Data),
		lane: lane, header: s.Header, data: s.Data,
	}
	m.describe()
	return m
}

// describe fills what headers say, with the defaults of the protocol.
func (m *Message) describe() {
	h := m.header
	stored := envelope.Message{Seq: m.Seq, Stored: m.Stored.UnixNano(), Header: h}
	m.ID, m.Type, m.Timestamp = stored.ID(), envelope.Type(h), stored.Timestamp()
	m.From = envelope.Value(h, subjects.HeaderFrom)
	if m.From == "" {
		m.From = envelope.Service
		if m.notice() {
			m.From = wire.Server
		}
	}
	m.Replay = envelope.Value(h, subjects.HeaderReplay) == "true"
}

// Summary is the message without payload and headers, for a list that is kept.
func (m *Message) Summary() *Message {
	c := *m
	c.header, c.data = nil, nil
	return &c
}

// notice says that RCCS itself made the message: an outcome or a gap.
func (m *Message) notice() bool {
	return envelope.Value(m.header, subjects.HeaderFrom) == "" && m.Type == wire.TypeAck
}
