package edge

import (
	"time"

	"github.com/rccs-io/rccs/internal/envelope"
	"github.com/rccs-io/rccs/internal/roster"
	"github.com/rccs-io/rccs/subjects"
	"github.com/rccs-io/rccs/wire"
)

func (c *conn) sender() envelope.Sender {
	return envelope.Sender{Key: c.key, Device: c.who.Address.Device, Proof: c.tenant.Proof}
}

func (c *conn) peer(device subjects.DeviceID) subjects.Key {
	return subjects.Address{User: c.who.Address.User, Device: device}.Key()
}

// send finds out whom an application's message is for and passes it on.
func (c *conn) send(e *wire.Envelope) {
	to, named := e.Target()
	if werr := sensible(e, to); werr != nil {
		c.fail(e, werr)
		return
	}
	if to.Device != "" && !e.Ephemeral && !roster.IsHandoff(e.Type) && c.sendNamed(e, subjects.DeviceID(to.Device)) {
		return
	}
	if to.Service {
		c.store(e, nil, envelope.Up(e, c.sender(), clone(e.Payload)))
		return
	}
	m := roster.Message{Type: e.Type, To: to, HasTo: named, From: c.who.Address.Device}
	task := ""
	if roster.IsTask(e.Type) && !named {
		task = wire.TaskID(e.Payload)
	}
	var held holder
	if task != "" && !e.Ephemeral {
		var werr *wire.Error
		if held, werr = c.tenant.holder(c.s.ctx, c.who.Address.User, task); werr != nil {
			c.fail(e, werr)
			return
		}
		m.Holder = held.Device
	}
	d, werr := roster.Route(m, c.tenant.Roster.User(c.key))
	switch {
	case werr != nil:
		c.fail(e, werr)
	case e.Ephemeral:
		c.signal(e, d.Targets)
	case task != "":
		c.sendTask(e, task, held, d)
	case d.Wait:
		c.wait(e, to, "")
	default:
		c.sendTo(e, d.Targets)
	}
}

// sendNamed is the common case, a message for one registered device, without a
// look at the user's others. It does what [roster.Route] says of it; false
// leaves it to that.
func (c *conn) sendNamed(e *wire.Envelope, device subjects.DeviceID) bool {
	if e.DeliverAt.After(time.Now()) {
		return false
	}
	o := newSingle()
	key := o.form.Address(e, c.sender(), subjects.Address{User: c.who.Address.User, Device: device})
	if c.tenant.Roster.Get(key) == nil {
		o.release()
		return false
	}
	if err := c.tenant.Inbox.Admit(c.s.ctx, key, 1); err != nil {
		o.release()
		c.fail(e, fullError(device, err))
		return true
	}
	c.storeSingle(e, device, o)
	return true
}

// sensible refuses what asks for two things that do not go together.
func sensible(e *wire.Envelope, to wire.To) *wire.Error {
	switch {
	case to.Service && e.Ephemeral:
		return wire.NewError(wire.BadMessage, "ephemeral: what goes to services is stored")
	case to.Service && !e.DeliverAt.IsZero():
		return wire.NewError(wire.BadMessage, "deliverAt: what goes to services goes now")
	case e.Ephemeral && !e.DeliverAt.IsZero():
		return wire.NewError(wire.BadMessage, "ephemeral and deliverAt: what is not stored cannot come later")
	}
	return nil
}

// sendTo stores a message for each target, now or for later.
func (c *conn) sendTo(e *wire.Envelope, targets []subjects.DeviceID) {
	body := clone(e.Payload)
	if e.DeliverAt.After(time.Now()) {
		c.store(e, targets, c.copies(targets, func(to subjects.Key, n int) *natsMsg { return envelope.Later(e, c.sender(), to, n, body) })...)
		return
	}
	for _, device := range targets {
		if err := c.tenant.Inbox.Admit(c.s.ctx, c.peer(device), 1); err != nil {
			c.fail(e, fullError(device, err))
			return
		}
	}
	if len(targets) > 1 {
		c.fanOut(e, targets, body)
		return
	}
	c.store(e, targets, envelope.Inbox(e, c.sender(), c.peer(targets[0]), 0, body))
}

func (c *conn) copies(targets []subjects.DeviceID, one func(to subjects.Key, n int) *natsMsg) []*natsMsg {
	msgs := make([]*natsMsg, len(targets))
	for n, device := range targets {
		msgs[n] = one(c.peer(device), n)
	}
	return msgs
}

// wait stores a message until the coordinator finds a device for it.
func (c *conn) wait(e *wire.Envelope, to wire.To, task string) {
	c.store(e, nil, envelope.Wait(e, c.sender(), to, task, clone(e.Payload)))
}

// clone copies a payload, which aliases the frame that it came in.
func clone(b []byte) []byte { return append(make([]byte, 0, len(b)), b...) }
