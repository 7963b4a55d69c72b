package envelope

import (
	"math"
	"strconv"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/rccs-io/rccs/internal/layout"
	"github.com/rccs-io/rccs/internal/proof"
	"github.com/rccs-io/rccs/subjects"
	"github.com/rccs-io/rccs/wire"
)

// Stored is one message as a stream holds it. What readers of streams hand out
// can be converted to it.
type Stored struct {
	Subject string
	Seq     uint64 // stream sequence
	Time    int64  // when it was stored, Unix nanoseconds
	Header  nats.Header
	Data    []byte
}

// Message is one stored message of an inbox. It is shared between whoever reads
// it and never changed.
type Message struct {
	Key    subjects.Key
	Lane   subjects.Lane
	Seq    uint64 // sequence in the inbox stream; 0 for what is never stored
	Stored int64  // when it was stored, Unix nanoseconds
	Header nats.Header
	Data   []byte
	// Authentic says that a part of RCCS wrote the message: that it is from whom
	// it says.
	Authentic bool
	lacks     rare // zero: it is not known
}

// rare are headers that few messages have. Each message is asked for them many
// times on its way, and each time costs a search in a map.
type rare uint8

const (
	rareTTL rare = 1 << iota
	rareAck
	rareCollapse
	rareCorrelation
	rareTrace
	rareReplay
	rareProof
)

// lacking are the rare headers that are not there.
func lacking(h nats.Header) rare {
	lacks := ^rare(0)
	for key := range h {
		switch key {
		case subjects.HeaderTTL:
			lacks &^= rareTTL
		case subjects.HeaderAck:
			lacks &^= rareAck
		case subjects.HeaderCollapse:
			lacks &^= rareCollapse
		case subjects.HeaderCorrelation:
			lacks &^= rareCorrelation
		case subjects.HeaderTrace:
			lacks &^= rareTrace
		case layout.HeaderReplay:
			lacks &^= rareReplay
		case layout.HeaderProof:
			lacks &^= rareProof
		}
	}
	return lacks
}

// rare is Value of a header that is seldom there.
func (m *Message) rare(what rare, key string) string {
	if m.lacks&what != 0 {
		return ""
	}
	return Value(m.Header, key)
}

// Delivery is a message on its way to a device.
type Delivery struct {
	*Message
	// Redelivered says that it may have been sent to this device before.
	Redelivered bool
}

// Parse reads what is stored in an inbox; false if its subject is of none. k is
// the tenant's key.
func Parse(k *proof.Key, s Stored) (*Message, bool) {
	key, lane, ok := subjects.ParseInbox(s.Subject)
	if !ok {
		return nil, false
	}
	m := &Message{Key: key, Lane: lane, Seq: s.Seq, Stored: s.Time, Header: s.Header, Data: s.Data, lacks: lacking(s.Header)}
	m.Authentic = k.Before(layout.StreamInbox, m.Seq)
	if tag := m.rare(rareProof, layout.HeaderProof); tag != "" {
		m.Authentic = m.hasProof(k, tag)
	}
	return m, true
}

// hasProof checks the tag of a message: of a device, or of RCCS itself.
func (m *Message) hasProof(k *proof.Key, tag string) bool {
	id := m.Value(subjects.HeaderID)
	if from := m.Value(subjects.HeaderFrom); from != "" {
		return k.Is(tag, proof.Sender, m.Key.User(), from, id)
	}
	return k.Is(tag, proof.Server, string(m.Key), id, string(m.Data))
}

// Value is [Value] of the message's headers.
func (m *Message) Value(key string) string { return Value(m.Header, key) }

// ID is the message's id as its device sees it.
func (m *Message) ID() string { return shownID(m.Header, m.Seq) }

// Timestamp is when the sender says that it sent the message, else when it was
// stored.
func (m *Message) Timestamp() string { return timestamp(m.Header, m.Stored) }

// TTL is the message's time to live; 0 for none.
func (m *Message) TTL() time.Duration {
	if m.lacks&rareTTL != 0 {
		return 0
	}
	return TTL(m.Header)
}

// Traceparent is the message's place in a trace; "" for none.
func (m *Message) Traceparent() string { return m.rare(rareTrace, subjects.HeaderTrace) }

// RequiresAck says that the sender wants to hear what becomes of the message.
func (m *Message) RequiresAck() bool { return m.rare(rareAck, subjects.HeaderAck) == "true" }

// CollapseKey is the key of which only the newest message counts; "" for none.
func (m *Message) CollapseKey() string { return m.rare(rareCollapse, subjects.HeaderCollapse) }

// Expires is when the message's time to live ends, in Unix nanoseconds; 0 means
// never.
func (m *Message) Expires() int64 {
	ttl := int64(m.TTL())
	if ttl == 0 || ttl > math.MaxInt64-m.Stored {
		return 0
	}
	return m.Stored + ttl
}

// Overhead stands for the headers and bookkeeping of a message that is kept in
// memory, in bytes.
const Overhead = 512

// Cost is what a message is counted for against bounds, in bytes.
func (m *Message) Cost() int { return len(m.Data) + Overhead }

// ID is the id that the publisher of a message gave it; "" for none.
func ID(h nats.Header) string {
	if id := Value(h, subjects.HeaderID); id != "" {
		return id
	}
	return Value(h, jetstream.MsgIDHeader)
}

// shownID is [ID], or one made of the sequence.
func shownID(h nats.Header, seq uint64) string {
	if id := ID(h); id != "" {
		return id
	}
	return "seq-" + strconv.FormatUint(seq, 10)
}

// TTL is the time to live that a message's sender gave it; 0 for none. A header
// that is no number of milliseconds is as good as none.
func TTL(h nats.Header) time.Duration {
	text := Value(h, subjects.HeaderTTL)
	if text == "" { // an error is allocated
		return 0
	}
	ms, err := strconv.ParseInt(text, 10, 64)
	if err != nil || ms <= 0 || ms > math.MaxInt64/int64(time.Millisecond) {
		return 0
	}
	return time.Duration(ms) * time.Millisecond
}

// Type is the type that a message is shown with. What is not valid is the
// default.
func Type(h nats.Header) string {
	if typ := Value(h, subjects.HeaderType); wire.ValidType(typ) {
		return typ
	}
	return DefaultType
}

func timestamp(h nats.Header, stored int64) string {
	if t := Value(h, subjects.HeaderTimestamp); t != "" {
		return t
	}
	return wire.FormatTime(time.Unix(0, stored))
}
