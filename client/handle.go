package client

import (
	"context"
	"errors"
	"strings"
	"sync"
)

// A Handler deals with a message. The message is acknowledged when the handler
// returns nil or an error that wraps [ErrDiscard], and refused when it returns
// [Reject].
type Handler func(context.Context, *Message) error

// ErrDiscard is wrapped by the error of a handler that has no use for the
// message: it is acknowledged, as if it had been dealt with, and
// Options.OnDiscard hears of it. [Reject] also tells the sender.
var ErrDiscard = errors.New("client: message discarded")

// Reject is the error of a handler that will never be able to deal with the
// message: the message is refused with this reason, as by [Message.Reject], and
// Options.OnDiscard hears of it. The error may be wrapped.
func Reject(reason string) error { return &rejection{reason} }

// rejection is the error that Reject makes.
type rejection struct{ reason string }

// Error implements error.
func (r *rejection) Error() string { return "client: message rejected: " + r.reason }

// serveMessages gives messages to handler, one at a time, until ctx ends or the client
// does, and returns why.
func (c *Client) serveMessages(ctx context.Context, handler Handler) error {
	for {
		m, err := c.Receive(ctx)
		if err != nil {
			return err
		}
		switch err := handler(ctx, m); {
		case err == nil:
			m.Ack()
		case errors.Is(err, ErrDiscard):
			c.discard(m, err)
			m.Ack()
		case errors.As(err, new(*rejection)):
			c.reject(m, err)
		default:
			c.opts.Logger.Warn("message not handled, it will come again", "type", m.Type, "id", m.ID, "seq", m.Seq, "err", err)
			c.in.retry(m)
		}
	}
}

// discard tells of a message that is not handed on.
func (c *Client) discard(m *Message, err error) {
	c.opts.Logger.Warn("message discarded", "type", m.Type, "id", m.ID, "seq", m.Seq, "err", err)
	if c.opts.OnDiscard != nil {
		c.opts.OnDiscard(m, err)
	}
}

// reject refuses a message with the reason in err.
func (c *Client) reject(m *Message, err error) {
	c.discard(m, err)
	reason := err.Error()
	if r, ok := errors.AsType[*rejection](err); ok {
		reason = r.reason
	}
	m.Reject(reason)
}

// handlers are by type.
type handlers struct {
	mu  sync.RWMutex
	all map[string]Handler
}

// Handle has handler deal with the messages of a type in [Client.Serve]; "" is
// for every type that has none. It replaces the handler that the type had.
func (c *Client) Handle(typ string, handler Handler) {
	h := &c.handlers
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.all == nil {
		h.all = make(map[string]Handler)
	}
	h.all[typ] = handler
}

// HandleJSON is [Client.Handle] for payloads that encoding/json reads into a T. A
// message whose payload it cannot read is refused, see [Reject].
func HandleJSON[T any](c *Client, typ string, handler func(context.Context, T, *Message) error) {
	c.Handle(typ, func(ctx context.Context, m *Message) error {
		var v T
		if err := m.Decode(&v); err != nil {
			return Reject("payload: " + strings.TrimPrefix(errors.Unwrap(err).Error(), "json: "))
		}
		return handler(ctx, v, m)
	})
}

// Serve receives messages and gives each to the handler of its type, one at a
// time, until ctx ends or the client does, and returns why. Call it several
// times for several at a time.
//
// A message is acknowledged when its handler returns nil. When the handler
// returns an error the message is not acknowledged, keeps its place in the
// window, and is handed on again: after a second, then ever more seldom, and
// with each new connection. [Reject] and [ErrDiscard] are errors that end that.
// A message whose type has no handler is refused.
func (c *Client) Serve(ctx context.Context) error {
	return c.serveMessages(ctx, func(ctx context.Context, m *Message) error {
		c.handlers.mu.RLock()
		handler := c.handlers.all[m.Type]
		if handler == nil {
			handler = c.handlers.all[""]
		}
		c.handlers.mu.RUnlock()
		if handler == nil {
			return Reject("this device has no handler for the type " + m.Type)
		}
		return handler(ctx, m)
	})
}
