package edge

import (
	"context"
	"encoding/json"
	"errors"

	"github.com/rccs-io/rccs/internal/roster"
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

// cancel gives up an open request of this device, or a message that it scheduled
// for later.
func (c *conn) cancel(id string) error {
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
