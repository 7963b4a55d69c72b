package envelope

import (
	"math"
	"strconv"
	"time"
	"unicode/utf8"

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
	found     found
}

// found is what one walk over a message's headers found. A message is asked for
// its headers many times on its way, and each time costs a search in a map. The
// zero value knows nothing.
type found struct {
	// lacks are the rare headers that are not there.
	lacks rare
	// usable says that no header has a value that cannot be used, see [Value].
	usable bool
	// bytes are those of the headers' names and values.
	bytes int
}

// rare are headers that few messages have.
type rare uint16

const (
	rareTTL rare = 1 << iota
	rareAck
	rareCollapse
	rareCorrelation
	rareTrace
	rareReplay
	rareProof
	rareRedelivered
)

// walk finds what there is among the headers.
func walk(h nats.Header) found {
	f := found{lacks: ^rare(0), usable: true}
	for key, v := range h {
		if len(v) == 0 {
			continue
		}
		f.bytes += len(key) + len(v[0])
		f.usable = f.usable && (v[0] == "" || usable(key, v[0]) && utf8.ValidString(v[0]))
		f.lacks &^= rareHeader(key)
	}
	return f
}

// rareHeader returns the bit of a header that few messages have; 0 for others.
func rareHeader(key string) rare {
	switch key {
	case subjects.HeaderTTL:
		return rareTTL
	case subjects.HeaderAck:
		return rareAck
	case subjects.HeaderCollapse:
		return rareCollapse
	case subjects.HeaderCorrelation:
		return rareCorrelation
	case subjects.HeaderTrace:
		return rareTrace
	case layout.HeaderReplay:
		return rareReplay
	case layout.HeaderProof:
		return rareProof
	case subjects.HeaderRedelivered:
		return rareRedelivered
	}
	return 0
}

// rare is Value of a header that is seldom there.
func (m *Message) rare(what rare, key string) string {
	if m.found.lacks&what != 0 {
		return ""
	}
	return m.Value(key)
}

// Value is [Value] of the message's headers.
func (m *Message) Value(key string) string {
	if !m.found.usable {
		return Value(m.Header, key)
	}
	if v := m.Header[key]; len(v) > 0 {
		return v[0]
	}
	return ""
}

// BadHeader is [BadHeader] of the message's headers.
func (m *Message) BadHeader() string {
	if m.found.usable { // as those of nearly every message are
		return ""
	}
	return BadHeader(m.Header)
}

// HeaderBytes is how many bytes the names and first values of the headers have.
func (m *Message) HeaderBytes() int {
	if m.found.lacks == 0 { // nobody has walked over them: a walk leaves a bit that is no header's
		return walk(m.Header).bytes
	}
	return m.found.bytes
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
	m := &Message{Key: key, Lane: lane, Seq: s.Seq, Stored: s.Time, Header: s.Header, Data: s.Data, found: walk(s.Header)}
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

// ID is the message's id as its device sees it.
func (m *Message) ID() string {
	if id := m.Value(subjects.HeaderID); id != "" {
		return id
	}
	return shownID(m.Header, m.Seq)
}

// Timestamp is when the sender says that it sent the message, else when it was
// stored.
func (m *Message) Timestamp() string {
	if t := m.Value(subjects.HeaderTimestamp); t != "" {
		return t
	}
	return wire.FormatTime(time.Unix(0, m.Stored))
}

// TTL is the message's time to live; 0 for none.
func (m *Message) TTL() time.Duration {
	if m.found.lacks&rareTTL != 0 {
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

// overhead stands for the headers and bookkeeping of a message that is kept in
// memory, in bytes.
const overhead = 512

// Cost is what a message is counted for against bounds, in bytes.
func (m *Message) Cost() int { return len(m.Data) + overhead }

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
