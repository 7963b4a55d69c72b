package client

import (
	"context"
	"encoding/json"
	"fmt"
	"time"

	"github.com/rccs-io/rccs/subjects"
	"github.com/rccs-io/rccs/wire"
)

// A SendOption says more about a message than its type and payload.
type SendOption func(*wire.Envelope)

// To is for one device of the user. Without any of the To options the
// message's type decides, and mostly that is every other device.
func To(device subjects.DeviceID) SendOption {
	return func(e *wire.Envelope) { e.To = &wire.To{Device: string(device)} }
}

// ToAll is for every other device of the user.
func ToAll() SendOption {
	return func(e *wire.Envelope) { e.To = &wire.To{Mode: wire.ModeAll} }
}

// ToType is for every device of a type, such as "desktop".
func ToType(deviceType string) SendOption {
	return func(e *wire.Envelope) { e.To = &wire.To{DeviceType: deviceType, Mode: wire.ModeAll} }
}

// ToAnyOfType is for one device of a type: the online one most recently
// active, else the first to come online.
func ToAnyOfType(deviceType string) SendOption {
	return func(e *wire.Envelope) { e.To = &wire.To{DeviceType: deviceType, Mode: wire.ModeAny} }
}

// ToCapability is for every device that holds a capability.
func ToCapability(name string) SendOption {
	return func(e *wire.Envelope) { e.To = &wire.To{Capability: name, Mode: wire.ModeAll} }
}

// ToAnyWithCapability is for one device that holds a capability, chosen as by
// [ToAnyOfType].
func ToAnyWithCapability(name string) SendOption {
	return func(e *wire.Envelope) { e.To = &wire.To{Capability: name, Mode: wire.ModeAny} }
}

// ToService is for the tenant's services, which read it on NATS.
func ToService() SendOption {
	return func(e *wire.Envelope) { e.To = &wire.To{Service: true} }
}

// WithID is the message's id. A repeat within two minutes is stored once.
// Without it one is made.
func WithID(id string) SendOption { return func(e *wire.Envelope) { e.ID = id } }

// Priority is the lane: [wire.Low] to [wire.Critical], [wire.Normal] without.
func Priority(p uint8) SendOption { return func(e *wire.Envelope) { e.Priority = p } }

// TTL is how long the message is worth delivering, in whole milliseconds. The
// sender then hears [wire.StatusExpired].
func TTL(d time.Duration) SendOption {
	return func(e *wire.Envelope) { e.TTLMs = max(d.Milliseconds(), 1) }
}

// DeliverAt stores the message now and delivers it then. See [Client.Cancel].
func DeliverAt(t time.Time) SendOption { return func(e *wire.Envelope) { e.DeliverAt = t } }

// Collapse replaces an earlier message to the same device with the same key
// that was not sent to it yet. Its sender hears [wire.StatusReplaced].
func Collapse(key string) SendOption { return func(e *wire.Envelope) { e.CollapseKey = key } }

// Ephemeral is never stored: the message reaches devices that are connected
// now, or none.
func Ephemeral() SendOption { return func(e *wire.Envelope) { e.Ephemeral = true } }

// Correlation is carried through to the recipient.
func Correlation(id string) SendOption { return func(e *wire.Envelope) { e.CorrelationID = id } }

// Traceparent is W3C trace context, carried through to the recipient.
func Traceparent(text string) SendOption { return func(e *wire.Envelope) { e.Traceparent = text } }

// Compose makes a message of normal priority with a new id. payload becomes
// JSON by encoding/json; a [json.RawMessage] goes as it is, byte for byte. The
// error is about the payload.
func Compose(typ string, payload any, opts ...SendOption) (wire.Envelope, error) {
	raw, err := encodeJSON(payload)
	if err != nil {
		return wire.Envelope{}, fmt.Errorf("client: payload of %s: %w", typ, err)
	}
	e := wire.NewEnvelope(newID(), typ, raw)
	for _, set := range opts {
		set(&e)
	}
	return e, nil
}

func encodeJSON(v any) ([]byte, error) {
	if raw, ok := v.(json.RawMessage); ok && raw != nil {
		return raw, nil
	}
	return json.Marshal(v)
}

// SendJSON is [Compose] and [Client.Send].
func (c *Client) SendJSON(ctx context.Context, typ string, payload any, opts ...SendOption) (wire.Accepted, error) {
	e, err := Compose(typ, payload, opts...)
	if err != nil {
		return wire.Accepted{}, err
	}
	return c.Send(ctx, e)
}

// Send sends a message and waits until the edge has stored it, through lost
// connections: it is sent again under its id, and stored once. An id is made
// when e has none. A refusal is a [*wire.Error].
//
// When ctx ends first the message may have been stored or not: send it again
// with the same id to be sure. What became of it at each recipient goes to
// Options.OnOutcome; see also [Client.Track].
func (c *Client) Send(ctx context.Context, e wire.Envelope) (wire.Accepted, error) {
	e.RequiresAck = true
	r, err := c.call(ctx, &e)
	if err != nil {
		return wire.Accepted{}, err
	}
	return r.answer.Accepted(), nil
}

// Post sends a message and does not wait for an answer. It blocks only while
// too much waits to be written. What was written to a connection that is then
// lost is lost with it, see [Client.Queue]; a refusal goes to Options.OnError.
func (c *Client) Post(ctx context.Context, e wire.Envelope) error {
	o, err := encode(&e)
	if err != nil {
		return err
	}
	return c.out.add(ctx, o)
}

// Cancel takes back what was sent with [DeliverAt] and is not due yet, at all
// its recipients. n says at how many it was; 0 says that there was none.
func (c *Client) Cancel(ctx context.Context, id string) (n int, err error) {
	e := cancellation(id)
	r, err := c.call(ctx, &e)
	if err != nil {
		return 0, err
	}
	var told struct {
		Cancelled int `json:"cancelled"`
	}
	if err := json.Unmarshal(r.payload, &told); err != nil {
		return 0, fmt.Errorf("client: answer to a cancellation: %w", err)
	}
	return told.Cancelled, nil
}

// cancellation gives up the request or the delayed message with this id. It
// has the same id itself, so that an error about it names it too.
func cancellation(id string) wire.Envelope {
	payload := append(wire.AppendString([]byte(`{"cancel":`), id), '}')
	return wire.Envelope{ID: id, Type: wire.TypeAck, Payload: payload}
}

// call sends a message and waits for the answer that names its id.
func (c *Client) call(ctx context.Context, e *wire.Envelope) (reply, error) {
	o, err := encode(e)
	if err != nil {
		return reply{}, err
	}
	answer := make(chan reply, 1)
	o.done = func(r reply) { answer <- r }
	if err := c.out.add(ctx, o); err != nil {
		return reply{}, err
	}
	select {
	case r := <-answer:
		return r, r.err
	case <-ctx.Done():
		c.out.forget(o)
		return reply{}, fmt.Errorf("client: no answer to %s %s: %w", e.Type, o.id, ctx.Err())
	}
}

// control sends a control message and waits for its answer.
func (c *Client) control(ctx context.Context, typ string, payload []byte) (reply, error) {
	return c.call(ctx, &wire.Envelope{ID: newID(), Type: typ, Payload: payload})
}

// envelopeBytes is room for an envelope without its payload, as most are.
const envelopeBytes = 256

// encode checks the message as the edge will: one that is malformed must not
// spoil the frame it shares with others.
func encode(e *wire.Envelope) (*outgoing, error) {
	if e.ID == "" {
		e.ID = newID()
	}
	if e.Payload != nil && !wire.Embeddable(e.Payload) {
		return nil, wire.NewError(wire.BadMessage, "payload must be one JSON value").For(e.ID)
	}
	frame := e.Append(make([]byte, 0, len(e.Payload)+envelopeBytes))
	items, err := wire.DecodeFrame(nil, frame)
	if err != nil {
		return nil, err
	}
	if items[0].Err != nil {
		return nil, items[0].Err
	}
	return &outgoing{id: e.ID, frame: frame}, nil
}
