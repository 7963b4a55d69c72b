package client

import (
	"context"
	"encoding/json"
	"fmt"
	"time"

	"github.com/rccs-io/rccs/subjects"
	"github.com/rccs-io/rccs/wire"
)

// A SendOption says more about a message than its type and payload: for whom it
// is, by a [Recipients] of one of the To functions, or what one of the With
// functions says.
type SendOption interface{ apply(e *wire.Envelope) }

// sendOption is a SendOption that is a function.
type sendOption func(*wire.Envelope)

func (set sendOption) apply(e *wire.Envelope) { set(e) }

// Recipients are the devices that a message is for. It is a [SendOption].
// Without one the message's type decides, and mostly that is every other device
// of the user.
type Recipients struct{ to wire.To }

func (r Recipients) apply(e *wire.Envelope) { e.To = &r.to }

// To is one device of the user. Its inbox keeps the message while it is away.
func To(device subjects.DeviceID) Recipients { return Recipients{wire.To{Device: device}} }

// ToAll is every other device of the user.
func ToAll() Recipients { return Recipients{wire.To{Mode: wire.ModeAll}} }

// ToType is every device of a type, such as "desktop".
func ToType(deviceType string) Recipients {
	return Recipients{wire.To{DeviceType: deviceType, Mode: wire.ModeAll}}
}

// ToAnyOfType is one device of a type: the online one most recently active,
// else the first to come online.
func ToAnyOfType(deviceType string) Recipients {
	return Recipients{wire.To{DeviceType: deviceType, Mode: wire.ModeAny}}
}

// ToCapability is every device that holds a capability.
func ToCapability(name string) Recipients {
	return Recipients{wire.To{Capability: name, Mode: wire.ModeAll}}
}

// ToAnyWithCapability is one device that holds a capability, chosen as by
// [ToAnyOfType].
func ToAnyWithCapability(name string) Recipients {
	return Recipients{wire.To{Capability: name, Mode: wire.ModeAny}}
}

// ToService is the tenant's services, which read the message on NATS.
func ToService() Recipients { return Recipients{wire.To{Service: true}} }

// WithID gives the message an id. A repeat within two minutes is stored once.
// Without it an id is made.
func WithID(id string) SendOption { return sendOption(func(e *wire.Envelope) { e.ID = id }) }

// WithPriority puts the message into a lane: [subjects.Low] to
// [subjects.Critical], [subjects.Normal] without. A higher lane is delivered
// first.
func WithPriority(lane subjects.Lane) SendOption {
	return sendOption(func(e *wire.Envelope) { e.Priority = uint8(lane) })
}

// WithTTL is how long the message is worth delivering, in whole milliseconds.
// After that the sender hears [wire.StatusExpired].
func WithTTL(d time.Duration) SendOption {
	return sendOption(func(e *wire.Envelope) { e.TTLMs = max(d.Milliseconds(), 1) })
}

// WithDeliverAt stores the message now and delivers it then. [Client.Cancel]
// takes it back.
func WithDeliverAt(t time.Time) SendOption {
	return sendOption(func(e *wire.Envelope) { e.DeliverAt = t })
}

// WithCollapseKey replaces an earlier message to the same device with the same
// key that was not sent to it yet. The earlier one's sender hears
// [wire.StatusReplaced].
func WithCollapseKey(key string) SendOption {
	return sendOption(func(e *wire.Envelope) { e.CollapseKey = key })
}

// WithoutStoring makes the message ephemeral: it reaches devices that are
// connected now, or none.
func WithoutStoring() SendOption { return sendOption(func(e *wire.Envelope) { e.Ephemeral = true }) }

// WithCorrelationID carries an id of the application through to the recipient.
func WithCorrelationID(id string) SendOption {
	return sendOption(func(e *wire.Envelope) { e.CorrelationID = id })
}

// WithTraceparent carries W3C trace context through to the recipient.
func WithTraceparent(text string) SendOption {
	return sendOption(func(e *wire.Envelope) { e.Traceparent = text })
}

// Compose makes a message of normal priority with a new id. payload becomes
// JSON by encoding/json; a [json.RawMessage] goes as it is, byte for byte. The
// error is about the payload.
func Compose(typ string, payload any, opts ...SendOption) (wire.Envelope, error) {
	raw, err := encodeJSON(payload)
	if err != nil {
		return wire.Envelope{}, fmt.Errorf("client: payload of %s: %w", typ, err)
	}
	e := wire.NewEnvelope(newID(), typ, raw)
	for _, o := range opts {
		o.apply(&e)
	}
	return e, nil
}

func encodeJSON(v any) ([]byte, error) {
	if raw, ok := v.(json.RawMessage); ok && raw != nil {
		return raw, nil
	}
	return json.Marshal(v)
}

// Recipient is a device that a message was stored for.
type Recipient struct {
	Device subjects.DeviceID
	Seq    uint64 // in the recipient's inbox; 0 for a message that is not due yet ([WithDeliverAt]) or not stored ([WithoutStoring])
}

// Accepted says what the edge did with a message.
type Accepted struct {
	ID         string      // the message's
	Recipients []Recipient // empty while the message waits for a device to come online
	Duplicate  bool        // a message with this id was accepted before: this one was not stored
}

func acceptedOf(a *wire.Answer) Accepted {
	accepted := Accepted{ID: a.OriginalMessageID, Duplicate: a.Duplicate}
	for _, r := range a.Recipients {
		accepted.Recipients = append(accepted.Recipients, Recipient{r.DeviceID, r.Seq})
	}
	return accepted
}

// SendJSON sends a message whose payload becomes JSON by encoding/json, and
// waits until the edge has stored it. It is [Compose] and [Client.Send].
func (c *Client) SendJSON(ctx context.Context, typ string, payload any, opts ...SendOption) (Accepted, error) {
	e, err := Compose(typ, payload, opts...)
	if err != nil {
		return Accepted{}, err
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
func (c *Client) Send(ctx context.Context, e wire.Envelope) (Accepted, error) {
	if err := asMessage(&e); err != nil {
		return Accepted{}, err
	}
	r, err := c.call(ctx, &e)
	if err != nil {
		return Accepted{}, err
	}
	return acceptedOf(r.answer), nil
}

// asMessage has the edge answer e, or refuses it. A type to which RCCS gives a
// meaning is no message: "ack" would wait for an answer that never comes, and
// "device_unregister" end the session.
func asMessage(e *wire.Envelope) error {
	if wire.IsControl(e.Type) {
		return wire.NewError(wire.BadMessage, "type "+e.Type+" is not an application's").For(e.ID)
	}
	e.RequiresAck = true
	return nil
}

// SendNoWait sends a message and does not wait for an answer. It blocks only
// while too much waits to be written. What was written to a connection that is
// then lost is lost with it: see [Client.Enqueue]. A refusal goes to
// Options.OnError.
func (c *Client) SendNoWait(ctx context.Context, e wire.Envelope) error {
	o, err := encode(&e)
	if err != nil {
		return err
	}
	return c.out.add(ctx, o)
}

// Cancel takes back a message that was sent [WithDeliverAt] and is not due yet,
// at all its recipients. n is how many copies were taken back, and may be 0.
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
	return c.callThen(ctx, e, func(reply) {})
}

// callThen is call for what the next connection must know too. keep hears a
// good answer before any other message is read, and so before a connection
// that ends right after it: the caller itself may run long after the next one
// has begun.
func (c *Client) callThen(ctx context.Context, e *wire.Envelope, keep func(reply)) (reply, error) {
	o, err := encode(e)
	if err != nil {
		return reply{}, err
	}
	answer := make(chan reply, 1)
	o.done = func(r reply) {
		if r.err == nil {
			keep(r)
		}
		answer <- r
	}
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
	return c.controlThen(ctx, typ, payload, func(reply) {})
}

// controlThen is control as callThen is call.
func (c *Client) controlThen(ctx context.Context, typ string, payload []byte, keep func(reply)) (reply, error) {
	return c.callThen(ctx, &wire.Envelope{ID: newID(), Type: typ, Payload: payload}, keep)
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
