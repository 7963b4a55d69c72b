package edge

import (
	"context"
	"errors"
	"time"

	"github.com/rccs-io/rccs/internal/roster"
	"github.com/rccs-io/rccs/subjects"
	"github.com/rccs-io/rccs/wire"
)

// forgetTimeout bounds how long forgetting a device, or a cancellation, may take.
const forgetTimeout = 10 * time.Second

// unregister ends the session and, with "forget", removes the device.
func (c *conn) unregister(e *wire.Envelope) error {
	u, err := wire.DecodeUnregister(e.Payload)
	if err != nil {
		return err
	}
	id := e.ID
	// Nothing more is taken from the device, and it is answered once others see
	// it as gone.
	c.mu.Lock()
	c.beginDrain(wire.CloseNormal, 0)
	c.inflight++
	c.mu.Unlock()
	c.detachInbox(c.currentMailbox()) // nothing more comes, and no cursor after it
	ended := make(chan struct{}, 1)
	c.endSession(true, func(error) { ended <- struct{}{} }) // a session that could not be ended runs out
	go c.contained(func() {
		err := c.forgetAfter(ended, u.Forget)
		_ = c.tenant.flush.wait() // NATS knows that nobody answers requests here
		c.unregistered(id, err)
	})
	return nil
}

// forgetAfter waits until the session has ended, for forgetTimeout at most. Then
// it has the device forgotten, if that was asked for.
func (c *conn) forgetAfter(ended <-chan struct{}, forget bool) error {
	select {
	case <-ended:
	case <-time.After(forgetTimeout): // the roster goes on trying
		if forget {
			return errNotEnded
		}
	case <-c.s.ctx.Done():
		return c.s.ctx.Err()
	}
	if !forget {
		return nil
	}
	return c.tenant.forget(c.s.ctx, c.who.Address)
}

// errNotEnded is why a device is not forgotten: its session would register it
// again.
var errNotEnded = errors.New("the end of the session is not stored yet")

// unregistered answers an unregistration and ends the connection.
func (c *conn) unregistered(id string, err error) {
	if err != nil {
		c.log().Warn("device not forgotten", "err", err)
		c.tell(wire.NewError(wire.Unavailable, "the device could not be forgotten now: connect and try again").For(id))
	} else {
		c.confirm(id)
	}
	c.stored(nil, nil)
}

// forget has the coordinator remove a device and everything that belongs to it.
func (t *Tenant) forget(ctx context.Context, a subjects.Address) error {
	ctx, cancel := context.WithTimeout(ctx, forgetTimeout)
	defer cancel()
	if err := t.Inbox.Release(ctx, a.Key()); err != nil { // its last cursor must not outlive it
		return err
	}
	return roster.Forget(ctx, t.Core, a)
}
