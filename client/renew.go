package client

import (
	"context"
	"fmt"
	"math/rand/v2"
	"time"

	"github.com/rccs-io/rccs/wire"
)

// lastRenewal is how long before the end of a credential it is not renewed any
// more: the next connection does it.
const lastRenewal = 100 * time.Millisecond

// renew registers again on the live connection before its credential ends,
// with what Options.Credentials answers then. ctx ends with the connection.
func (c *Client) renew(ctx context.Context, l *link) {
	for expires := l.session.Expires; !expires.IsZero(); {
		timer := time.NewTimer(renewIn(expires.Sub(l.now())))
		select {
		case <-timer.C:
		case <-ctx.Done():
			timer.Stop()
			return
		}
		if expires.Sub(l.now()) < lastRenewal {
			return
		}
		s, err := c.reregister(ctx, l)
		switch {
		case ctx.Err() != nil:
			return
		case err != nil:
			c.opts.Logger.Warn("credential not renewed, trying again", "expires", expires, "err", err)
		case s.Expires.Equal(expires):
			c.opts.Logger.Debug("there is no newer credential yet", "expires", expires)
		default:
			expires = s.Expires
			c.opts.Logger.Info("credential renewed", "expires", expires)
		}
	}
}

// renewIn is when to renew what ends after left: well before, and not all
// devices at the same moment.
func renewIn(left time.Duration) time.Duration {
	if left <= 0 {
		return 0
	}
	return left/2 + rand.N(left/4+1) //nolint:gosec // it spreads load, and nothing has to be unguessable
}

// now is the time at the edge, whose clock decides when a credential ends.
func (l *link) now() time.Time { return time.Now().Add(l.skew) }

// reregister registers again and keeps what the edge says.
func (c *Client) reregister(ctx context.Context, l *link) (Session, error) {
	asked, cancel := context.WithTimeout(ctx, c.opts.HandshakeTimeout)
	defer cancel()
	r, err := c.opts.register(asked, l.nonce)
	if err != nil {
		return Session{}, err
	}
	e := wire.Envelope{ID: newID(), Type: wire.TypeRegister, Payload: r.AppendPayload(nil)}
	o := &outgoing{id: e.ID, frame: e.Append(nil), bound: true}
	answer := make(chan reply, 1)
	o.done = func(r reply) { answer <- r }
	if err := c.out.push(o); err != nil {
		return Session{}, err
	}
	select {
	case r := <-answer:
		if r.err != nil {
			return Session{}, r.err
		}
		if r.answer.Status != wire.StatusSuccess {
			return Session{}, fmt.Errorf("client: the edge answered %q, want %q", r.answer.Status, wire.StatusSuccess)
		}
		s := newSession(&r.answer.Registered)
		c.mu.Lock()
		c.session.Expires, c.session.ServerTime = s.Expires, s.ServerTime
		c.mu.Unlock()
		return s, nil
	case <-asked.Done():
		c.out.forget(o)
		return Session{}, asked.Err()
	}
}
