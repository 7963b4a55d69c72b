package client

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/rccs-io/rccs/subjects"
	"github.com/rccs-io/rccs/wire"
)

// Device is a device of the user, as its other devices see it.
type Device struct {
	ID                      subjects.DeviceID
	Type, Platform, Version string
	Capabilities            json.RawMessage // an object; nil when it gave none
	Status                  string          // [wire.Online], [wire.Away], [wire.Busy] or [wire.Offline]
	LastSeen                time.Time       // zero when it is not known
	Extra                   json.RawMessage // an object: what [Client.SetStatus] said beside the status; nil for nothing
}

// Presence is a change of another device: it came online, went offline, or
// changed its status.
type Presence struct {
	Device   subjects.DeviceID
	Status   string // as in [Device]
	Type     string // of the device; "" when it gave none
	LastSeen time.Time
	Extra    json.RawMessage
}

func deviceOf(d *wire.Device) Device {
	device := Device{
		ID: d.ID, Type: d.Type, Platform: d.Platform, Version: d.Version,
		Capabilities: d.Capabilities, Status: d.Status, Extra: d.Extra,
	}
	device.LastSeen, _ = time.Parse(time.RFC3339, d.LastSeen) // for people: left out when it cannot be read
	return device
}

func presenceOf(p *wire.Presence) Presence {
	presence := Presence{Device: p.DeviceID, Status: p.Status, Type: p.Type, Extra: p.Extra}
	presence.LastSeen, _ = time.Parse(time.RFC3339, p.LastSeen)
	return presence
}

// Devices lists all devices of the user, this one among them, online or not.
func (c *Client) Devices(ctx context.Context) ([]Device, error) {
	var devices []Device
	var page wire.ListDevices
	for {
		var payload []byte
		if page.From != "" {
			payload = page.AppendPayload(nil)
		}
		r, err := c.control(ctx, wire.TypeDeviceList, payload)
		if err != nil {
			return nil, err
		}
		list, err := wire.DecodeDeviceList(r.payload)
		if err != nil {
			return nil, fmt.Errorf("client: answer to device_list: %w", err)
		}
		for i := range list.Devices {
			devices = append(devices, deviceOf(&list.Devices[i]))
		}
		if list.Next == "" || list.Next == page.From {
			return devices, nil
		}
		page.From = list.Next
	}
}

// SetStatus shows the user's other devices how this one is: [wire.Online],
// [wire.Away] or [wire.Busy]. extra is nil, or becomes a JSON object that they
// see beside it. The status is told again after each reconnect.
func (c *Client) SetStatus(ctx context.Context, status string, extra any) error {
	s := wire.DeviceStatus{Status: status}
	if extra != nil {
		object, err := encodeJSON(extra)
		if err != nil {
			return fmt.Errorf("client: extra of the status: %w", err)
		}
		if len(object) == 0 || object[0] != '{' {
			return errors.New("client: extra of the status must become a JSON object")
		}
		s.Extra = object
	}
	payload := s.AppendPayload(nil)
	_, err := c.controlThen(ctx, wire.TypeStatus, payload, func(reply) {
		c.mu.Lock()
		defer c.mu.Unlock()
		c.status = payload
	})
	return err
}

// restatus tells a new connection the status that was set.
func (c *Client) restatus() {
	c.mu.Lock()
	payload := c.status
	c.mu.Unlock()
	if payload == nil {
		return
	}
	c.background(wire.TypeStatus, payload, func(r reply) {
		if r.err != nil && !errors.Is(r.err, c.Err()) {
			c.opts.Logger.Warn("status not told again", "err", r.err)
		}
	})
}

// background sends a control message of the client's own, which ends with the
// connection. done must not wait.
func (c *Client) background(typ string, payload []byte, done func(reply)) {
	if err := c.pushControl(typ, payload, done); err != nil {
		done(reply{err: err})
	}
}

// pushControl is background, but done does not hear of an error that it
// returns.
func (c *Client) pushControl(typ string, payload []byte, done func(reply)) error {
	e := wire.Envelope{ID: newID(), Type: typ, Payload: payload}
	return c.out.push(&outgoing{id: e.ID, frame: e.Append(nil), done: done, bound: true})
}

// Unregister ends the session, so that the user's other devices see this one
// offline and the next connection begins a new session, and then ends the
// client as Close does. What comes meanwhile waits in the inbox.
func (c *Client) Unregister(ctx context.Context) error { return c.leave(ctx, wire.Unregister{}) }

// Forget removes the device with its inbox and all that is known of it, and
// ends the client. Connecting again registers a new one.
func (c *Client) Forget(ctx context.Context) error {
	return c.leave(ctx, wire.Unregister{Forget: true})
}

func (c *Client) leave(ctx context.Context, u wire.Unregister) error {
	c.leaving.Store(true)
	defer c.leaving.Store(false)
	if _, err := c.control(ctx, wire.TypeUnregister, u.AppendPayload(nil)); err != nil {
		return err
	}
	return c.Close()
}
