package edge

import (
	"context"
	"encoding/json"
	"errors"
	"time"

	"github.com/rccs-io/rccs/internal/roster"
	"github.com/rccs-io/rccs/subjects"
	"github.com/rccs-io/rccs/wire"
)

// confirm answers a control message that needs no other answer than success.
func (c *conn) confirm(id string) {
	c.answer(wire.TypeAck, wire.AppendSuccessPayload(nil, id))
}

// setStatus stores the device's status, of which the user's other devices are
// told.
func (c *conn) setStatus(e *wire.Envelope) error {
	st, err := wire.DecodeDeviceStatus(e.Payload)
	if err != nil {
		return err
	}
	id := e.ID
	c.sess.SetStatus(st.Status, json.RawMessage(clone(st.Extra)), func(err error) {
		defer c.contain()
		if errors.Is(err, roster.ErrReplaced) {
			return // the device is told so, and the connection ends
		}
		if err != nil {
			c.tell(wire.NewError(wire.Unavailable, "the status is not known to be stored: send it again").For(id))
			return
		}
		c.confirm(id)
	})
	return nil
}

// listDevices answers with all devices of the user.
func (c *conn) listDevices(e *wire.Envelope) error {
	ask, err := wire.DecodeListDevices(e.Payload)
	if err != nil {
		return err
	}
	list := wire.DeviceList{OriginalID: e.ID}
	for _, d := range c.tenant.Roster.User(c.key) { // in the order of their names
		if d.ID < ask.From {
			continue
		}
		list.Devices = append(list.Devices, wire.Device{
			ID: d.ID, Type: d.Record.Type, Platform: d.Record.Platform, Version: d.Record.Version,
			Capabilities: d.Record.Capabilities, Status: d.Shown, LastSeen: wire.FormatTime(d.LastSeen), Extra: d.Extra,
		})
	}
	fitDevices(&list, c.maxFrame)
	c.answer(wire.TypeAck, list.AppendPayload(nil))
	return nil
}

// Presence tells the user's other devices on this edge of a change. It is the
// roster's callback.
func (t *Tenant) Presence(change roster.Change) {
	if change.Unseen {
		return
	}
	p := wire.Presence{
		DeviceID: change.ID, Status: change.Status, Type: change.Type, LastSeen: wire.FormatTime(change.LastSeen),
		Extra: change.Extra,
	}
	payload := p.AppendPayload(nil)
	p.Extra = nil
	bare := p.AppendPayload(nil)
	for _, key := range t.Roster.Devices(change.Key) {
		if key == change.Key {
			continue
		}
		if c := t.find(key); c != nil {
			c.contained(func() { c.presence(payload, bare) })
		}
	}
}

// presence passes a change on. If payload does not fit a frame, it sends bare,
// without the other device's extra fields.
func (c *conn) presence(payload, bare []byte) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if answerLen(len(payload)) > c.maxFrame {
		payload = bare
	}
	c.answerLocked(wire.TypePresence, payload)
}

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

// cancel gives up an open request of this device, or a message that it scheduled
// for later.
func (c *conn) cancel(e *wire.Envelope, id string) error {
	if c.cancelAsk(id) {
		return nil
	}
	ctx, stop := context.WithTimeout(c.s.ctx, forgetTimeout)
	defer stop()
	n, werr := c.tenant.intake.Cancel(ctx, c.identity(), id)
	if werr != nil {
		return werr
	}
	c.answer(wire.TypeAck, wire.AppendCancelledPayload(nil, id, n))
	return nil
}
