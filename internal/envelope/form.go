package envelope

import (
	"github.com/nats-io/nats.go"

	"github.com/rccs-io/rccs/internal/layout"
	"github.com/rccs-io/rccs/internal/proof"
	"github.com/rccs-io/rccs/subjects"
	"github.com/rccs-io/rccs/wire"
)

// Form makes one message for an inbox after the other in the same memory, so
// that a message costs one allocation: its subject and its dedup id. The zero
// Form is ready. A message is to be used up before the next is made.
type Form struct {
	msg     nats.Msg
	header  nats.Header
	values  [maxHeaders]string
	text    []byte
	dedupID string
	body    []byte
}

// Address begins a message e from a device to another, whose key it returns.
func (f *Form) Address(e *wire.Envelope, from Sender, to subjects.Address) subjects.Key {
	f.text = layout.AppendInbox(f.text[:0], to, subjects.Lane(e.Priority))
	n := len(f.text)
	f.text = from.Proof.AppendTag(f.text, proof.Inbox, string(from.Key), e.ID) // as DedupID has it
	text := string(f.text)
	f.msg.Subject, f.dedupID = text[:n], text[n:]
	key, _, _ := subjects.ParseInbox(f.msg.Subject)
	return key
}

// Inbox is the message that Address has begun; its body is a copy of the
// payload.
func (f *Form) Inbox(e *wire.Envelope, from Sender) *nats.Msg {
	if f.header == nil {
		f.header = make(nats.Header, maxHeaders/2)
	}
	h := headers{h: f.header, values: f.values[:0]}
	h.durable(e, from, f.dedupID)
	if len(f.header) != len(h.values) { // the message before had others
		clear(f.header)
		h.values = h.values[:0]
		h.durable(e, from, f.dedupID)
	}
	f.body = append(f.body[:0], e.Payload...)
	f.msg.Header, f.msg.Data = f.header, f.body
	return &f.msg
}

// Reset forgets the message, and keeps the memory unless that is more than
// keep bytes.
func (f *Form) Reset(keep int) {
	if cap(f.body) > keep {
		f.body = nil
	}
	// The headers stay: the next message most likely has the same, and writes over
	// them. Their values are gone.
	*f = Form{header: f.header, text: f.text[:0], body: f.body[:0]}
}
