package client

import (
	"encoding/base64"
	"encoding/json"
	"fmt"
	"sync/atomic"

	"github.com/rccs-io/rccs/subjects"
	"github.com/rccs-io/rccs/wire"
)

// Message is a message to this device. It stays valid for as long as you like.
type Message struct {
	wire.Envelope

	// Sealed says that the payload came sealed to this device and was opened:
	// nobody between the two could read or change it. SealedBy is then the
	// public curve key of the device that FromDeviceID names, which has been
	// proved to be that device's, or was pinned.
	Sealed   bool
	SealedBy string

	in       *incoming // nil for what needs no acknowledgement
	answered atomic.Bool

	epoch int // of incoming, when it came

	// Guarded by incoming.mu.
	tries   int  // failed ones
	delayed bool // waits to be handed on again
}

// From is who sent the message: a device of the same user, which [To] answers,
// or service:NAME.
func (m *Message) From() subjects.DeviceID { return m.FromDeviceID }

// User is whose device this is.
func (m *Message) User() subjects.UserID { return m.UserID }

// durable reports whether the device has to acknowledge it. A topic's message has
// a seq and needs no acknowledgement.
func (m *Message) durable() bool { return m.Seq != 0 && m.Type != wire.TypeTopic }

// Ack says that the message has been dealt with and need not come again. It
// does not block, does nothing the second time, and nothing for a message
// without a seq. Many are told to the edge at once.
func (m *Message) Ack() {
	if m.in != nil && !m.answered.Swap(true) {
		m.in.ack(m)
	}
}

// Reject refuses the message: it does not come again, holds up nothing behind
// it, and its sender is told the reason, of which 256 bytes are sent. An
// operator can still see the message and have it delivered once more. Like Ack
// it does not block, and does nothing for a message that was acknowledged or
// refused before, or has no seq.
func (m *Message) Reject(reason string) {
	if m.in != nil && !m.answered.Swap(true) {
		m.in.reject(m, reason)
	}
}

// Decode reads the payload into v, as encoding/json does.
func (m *Message) Decode(v any) error {
	if err := json.Unmarshal(m.Payload, v); err != nil {
		return fmt.Errorf("client: payload of %s: %w", m.Type, err)
	}
	return nil
}

// Data is the body as its sender published it: the payload, or, for what is
// not JSON, the bytes that the payload holds as base64.
func (m *Message) Data() ([]byte, error) {
	if m.Encoding != wire.EncodingBase64 {
		return m.Payload, nil
	}
	text := m.Payload
	if len(text) < 2 || text[0] != '"' || text[len(text)-1] != '"' {
		return nil, wire.NewError(wire.BadMessage, "payload must be a base64 string, as encoding says")
	}
	return base64.StdEncoding.AppendDecode(nil, text[1:len(text)-1])
}
