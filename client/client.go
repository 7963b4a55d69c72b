package client

import (
	"context"
	"crypto/rand"
	"errors"
	"sync"
	"sync/atomic"
	"time"

	"github.com/rccs-io/rccs/wire"
)

// ErrClosed is what methods return after [Client.Close].
var ErrClosed = errors.New("client: closed")

// Client is a device. Make one with [Dial], end it with [Client.Close].
type Client struct {
	// Static after construction.
	edges  edges
	opts   *Options
	in     *incoming
	out    *outbox
	ctx    context.Context // ends when Close is called
	cancel context.CancelFunc
	wake   chan struct{} // has the writer look
	nudge  chan struct{} // ends a wait between two tries
	done   chan struct{} // closed when all goroutines have ended

	topics   topics
	requests requests
	handlers handlers
	tracks   tracks
	spool    *spool
	probed   atomic.Bool // Retry was called for this connection: the next try is at once
	leaving  atomic.Bool // Unregister or Forget is under way
	asking   atomic.Bool // a request was made: responses that nobody awaits are late

	// Owned by run.
	epoch     string    // the last that an edge named
	abandoned time.Time // when a registration was given up that no edge had answered

	mu      sync.Mutex
	session Session
	status  []byte // payload of the last device_status that was agreed to; nil for none
	err     error  // why the client ended; set before done is closed
}

// Dial connects and registers a device. url is ws://HOST:PORT or wss://HOST,
// with the protocol's path added where there is none. ctx bounds Dial alone;
// afterwards the client lives until Close, and connects again by itself when
// the connection is lost and the edge did not forbid it.
//
// A refused registration is a [*CloseError] that wraps what the edge told:
// errors.Is(err, wire.AuthError) and the like work. With Options.Offline, Dial
// does not wait for the connection; what the client is asked meanwhile does.
func Dial(ctx context.Context, url string, opts *Options) (*Client, error) {
	full, err := opts.withDefaults()
	if err != nil {
		return nil, err
	}
	if url, err = endpoint(url); err != nil {
		return nil, err
	}
	c := &Client{
		edges: edges{home: url}, opts: full, wake: make(chan struct{}, 1), nudge: make(chan struct{}, 1), done: make(chan struct{}),
	}
	for method, handler := range full.Requests {
		c.HandleRequest(method, handler)
	}
	wake := func() { signal(c.wake) }
	c.in = newIncoming(full.AckMode == wire.AckExplicit, full.Window, wake, c.dropped)
	c.out = newOutbox(wake)
	if c.spool, err = newSpool(c); err != nil {
		return nil, err
	}
	var first *link
	if !full.Offline {
		if first, err = c.connect(ctx); err != nil {
			_ = c.spool.close()
			return nil, err
		}
		c.setSession(first.session)
	}
	c.ctx, c.cancel = context.WithCancel(context.WithoutCancel(ctx))
	c.spool.start()
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
// that the client does not deal with itself: a gap without Options.OnGap, a
// request without handlers, topics and responses that were asked for by SendNoWait.
// Acknowledge it with [Message.Ack] when it has been dealt with. With
// Options.Seal, sealed messages are opened first. After the
// client has ended, the messages that came before are still handed out, and
// then its error.
func (c *Client) Receive(ctx context.Context) (*Message, error) {
	for {
		m, err := c.receive(ctx)
		if err != nil || c.unseal(ctx, m) {
			return m, err
		}
	}
}

// receive waits for the next message as it came.
func (c *Client) receive(ctx context.Context) (*Message, error) {
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

// Retry ends a wait between two tries to connect. A connection that is up has to
// prove within seconds that it is alive. Call it when you learn that the network
// is back or is another one, or that the machine has slept.
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
