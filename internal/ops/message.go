package ops

import (
	"time"

	"github.com/nats-io/nats.go"

	"github.com/rccs-io/rccs/internal/direct"
	"github.com/rccs-io/rccs/internal/envelope"
	"github.com/rccs-io/rccs/internal/layout"
	"github.com/rccs-io/rccs/internal/proof"
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
	Timestamp string            `json:"timestamp"`
	From      subjects.DeviceID `json:"from"`
	Stored    time.Time         `json:"stored"`
	Bytes     int               `json:"bytes"` // of the payload
	Replay    bool              `json:"replay,omitempty"`

	lane   subjects.Lane
	header nats.Header
	data   []byte
}

// newMessage reads what was stored. What is not shown by p, the tenant's key, to
// be RCCS's is not shown as such.
func newMessage(p *proof.Key, s *direct.Stored) *Message {
	_, lane, _ := subjects.ParseInbox(s.Subject)
	m := &Message{
		Seq: s.Seq, Lane: lane.String(), Stored: time.Unix(0, s.Time).UTC(), Bytes: len(s.Data),
		lane: lane, header: s.Header, data: s.Data,
	}
	parsed, ok := envelope.Parse(p, envelope.Stored(*s))
	m.describe(ok && parsed.Authentic)
	return m
}

// describe fills what headers say, with the defaults of the protocol.
func (m *Message) describe(authentic bool) {
	stored := envelope.Message{Seq: m.Seq, Stored: m.Stored.UnixNano(), Header: m.header, Authentic: authentic}
	m.ID, m.Timestamp = stored.ID(), stored.Timestamp()
	m.Type, _, m.From = stored.TypeAndSender()
	m.Replay = stored.Value(layout.HeaderReplay) == "true"
}

// Summary is the message without payload and headers, for a list that is kept.
func (m *Message) Summary() *Message {
	c := *m
	c.header, c.data = nil, nil
	return &c
}

// notice reports whether RCCS itself made the message: an outcome or a gap.
func (m *Message) notice() bool { return m.From == wire.Server }
