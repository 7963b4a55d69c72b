package client

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"sync"

	"github.com/rccs-io/rccs/wire"
)

// ErrClosed is what methods return after [Client.Close].
var ErrClosed = errors.New("client: closed")

// Client is a device. Make one with [Dial], end it with [Client.Close].
type Client struct {
	// Static after construction.
	url    string
	opts   *Options
	in     *incoming
	out    *outbox
	ctx    context.Context // ends when Close is called
	cancel context.CancelFunc
	wake   chan struct{} // has the writer look
	nudge  chan struct{} // ends a wait between two tries
	done   chan struct{} // closed when all goroutines have ended

	mu      sync.Mutex
	session Session
	err     error // why the client ended; set before done is closed
}

// Dial connects and registers a device. url is ws://HOST:PORT or wss://HOST,
// with the protocol's path added where there is none. ctx bounds Dial alone;
// afterwards the client lives until Close, and connects again by itself when
// the connection is lost and the edge did not forbid it.
//
// A refused registration is a [*CloseError] that wraps what the edge told:
// errors.Is(err, wire.AuthError) and the like work.
func Dial(ctx context.Context, url string, opts *Options) (*Client, error) {
	full, err := opts.withDefaults()
	if err != nil {
		return nil, err
	}
	if url, err = endpoint(url); err != nil {
		return nil, err
	}
	first, err := connect(ctx, url, full)
	if err != nil {
		return nil, err
	}
	c := &Client{
		url: url, opts: full, wake: make(chan struct{}, 1), nudge: make(chan struct{}, 1), done: make(chan struct{}),
	}
	c.ctx, c.cancel = context.WithCancel(context.WithoutCancel(ctx))
	wake := func() { signal(c.wake) }
	c.in = newIncoming(full.AckMode == wire.AckExplicit, wake, c.dropped)
	c.out = newOutbox(wake)
	c.setSession(first.session)
	go c.run(first)
	return c, nil
}

// dropped is told of every ephemeral message that nobody received in time, and
// logs ever more seldom.
func (c *Client) dropped(total uint64) {
	if total&(total-1) == 0 {
		c.opts.Logger.Warn("ephemeral messages dropped: call Receive more often", "total", total)
	}
}

// Receive waits for the next message: an application's, or a control message
// that is for the application (presence, gap, topic, request, response).
// Acknowledge it with [Message.Ack] when it has been dealt with. After the
// client has ended, the messages that came before are still handed out, and
// then its error.
func (c *Client) Receive(ctx context.Context) (*Message, error) {
	for {
		if m := c.in.pop(); m != nil {
			return m, nil
		}
		select {
		case <-c.in.ready:
		case <-ctx.Done():
			return nil, ctx.Err()
		case <-c.done:
			if m := c.in.pop(); m != nil {
				return m, nil
			}
			return nil, c.Err()
		}
	}
}

// Handle receives messages and gives them to handler, one at a time, until
// ctx ends or the client does, and returns why. A message is acknowledged when
// handler returns nil. When it returns an error the message is not
// acknowledged: it keeps its place in the window, and comes again with the
// next connection.
func (c *Client) Handle(ctx context.Context, handler func(context.Context, *Message) error) error {
	for {
		m, err := c.Receive(ctx)
		if err != nil {
			return err
		}
		if err := handler(ctx, m); err != nil {
			c.opts.Logger.Warn("message not handled, it will come again", "type", m.Type, "id", m.ID, "seq", m.Seq, "err", err)
			m.release()
			continue
		}
		m.Ack()
	}
}

// Send sends a message and waits until the edge has stored it, through lost
// connections: it is sent again under its id, and stored once. An id is made
// when e has none. A refusal is a [*wire.Error].
//
// When ctx ends first the message may have been stored or not: send it again
// with the same id to be sure.
func (c *Client) Send(ctx context.Context, e wire.Envelope) (wire.Accepted, error) {
	e.RequiresAck = true
	o, err := encode(&e)
	if err != nil {
		return wire.Accepted{}, err
	}
	o.reply = make(chan reply, 1)
	if err := c.out.add(ctx, o); err != nil {
		return wire.Accepted{}, err
	}
	select {
	case r := <-o.reply:
		return r.accepted, r.err
	case <-ctx.Done():
		c.out.forget(o)
		return wire.Accepted{}, fmt.Errorf("client: no answer to message %s: %w", o.id, ctx.Err())
	}
}

// Post sends a message and does not wait for an answer. It blocks only while
// too much waits to be written. What was written to a connection that is then
// lost is lost with it; a refusal goes to Options.OnError.
func (c *Client) Post(ctx context.Context, e wire.Envelope) error {
	o, err := encode(&e)
	if err != nil {
		return err
	}
	return c.out.add(ctx, o)
}

// encode checks the message as the edge will: one that is malformed must not
// spoil the frame it shares with others.
func encode(e *wire.Envelope) (*outgoing, error) {
	if e.ID == "" {
		e.ID = newID()
	}
	if e.Payload != nil && !wire.Embeddable(e.Payload) {
		return nil, wire.NewError(wire.BadMessage, "payload must be one JSON value").For(e.ID)
	}
	frame := e.Append(nil)
	items, err := wire.DecodeFrame(nil, frame)
	if err != nil {
		return nil, err
	}
	if items[0].Err != nil {
		return nil, items[0].Err
	}
	return &outgoing{id: e.ID, frame: frame}, nil
}

// newID is an id that no other message has: 26 letters and digits, 130 bits.
func newID() string { return rand.Text() }

// Session is what the edge said when the device registered last.
func (c *Client) Session() Session {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.session
}

func (c *Client) setSession(s Session) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.session = s
}

// Retry ends a wait between two tries to connect. Call it when you learn that
// the network is back.
func (c *Client) Retry() { signal(c.nudge) }

// Done is closed when the client has ended: closed, or told by the edge not to
// come back. Err says why.
func (c *Client) Done() <-chan struct{} { return c.done }

// Err is why the client ended: [ErrClosed], a [*CloseError], or what ended its
// only connection; nil while it lives.
func (c *Client) Err() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.err
}

// Close sends what is queued, closes the connection, and returns when all
// goroutines have ended, within a few seconds. It is idempotent. Messages that
// were not acknowledged come again with the next connection of the device.
func (c *Client) Close() error {
	c.cancel()
	<-c.done
	return nil
}
