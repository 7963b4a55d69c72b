package client

import (
	"context"
	"errors"
	"fmt"
	"sync"
)

// A Handler deals with a message. The message is acknowledged when it returns
// nil, or an error that wraps [ErrDiscard].
type Handler func(context.Context, *Message) error

// ErrDiscard is wrapped by the error of a handler that will never be able to
// deal with the message: it is acknowledged, so that it does not come again,
// and Options.OnDiscard hears of it.
var ErrDiscard = errors.New("client: message discarded")

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
		default:
			c.opts.Logger.Warn("message not handled, it will come again", "type", m.Type, "id", m.ID, "seq", m.Seq, "err", err)
			c.in.retry(m)
		}
	}
}

func (c *Client) discard(m *Message, err error) {
	c.opts.Logger.Warn("message discarded", "type", m.Type, "id", m.ID, "seq", m.Seq, "err", err)
	if c.opts.OnDiscard != nil {
		c.opts.OnDiscard(m, err)
	}
	m.Ack()
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
// payload that it cannot read is discarded, see [ErrDiscard].
func HandleJSON[T any](c *Client, typ string, handler func(context.Context, T, *Message) error) {
	c.Handle(typ, func(ctx context.Context, m *Message) error {
		var v T
		if err := m.Decode(&v); err != nil {
			return fmt.Errorf("%w: %w", ErrDiscard, err)
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
// A message whose type has no handler is discarded.
func (c *Client) Serve(ctx context.Context) error {
	return c.serveMessages(ctx, func(ctx context.Context, m *Message) error {
		c.handlers.mu.RLock()
		handler := c.handlers.all[m.Type]
		if handler == nil {
			handler = c.handlers.all[""]
		}
		c.handlers.mu.RUnlock()
		if handler == nil {
			return fmt.Errorf("%w: no handler for its type", ErrDiscard)
		}
		return handler(ctx, m)
	})
}
