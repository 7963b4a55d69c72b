package coordinator

import (
	"context"
	"errors"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/rccs-io/rccs/internal/envelope"
	"github.com/rccs-io/rccs/internal/inbox"
	"github.com/rccs-io/rccs/internal/roster"
	"github.com/rccs-io/rccs/subjects"
	"github.com/rccs-io/rccs/wire"
)

// maxUnacked is how many unacknowledged messages an inbox may hold before it
// is full, as for an edge.
const maxUnacked = 10_000

// dispatch routes and stores a message of a device, as an edge does.
func (c *Coordinator) dispatch(ctx context.Context, from subjects.Address, e *wire.Envelope) (*wire.Accepted, *wire.Error) {
	if werr := sensible(from, e); werr != nil {
		return nil, werr
	}
	sender := envelope.Sender{Key: from.Key(), Device: from.Device, Proof: c.pub.Proof}
	to, named := e.Target()
	if to.Service {
		return c.keep(ctx, e, nil, envelope.Up(e, sender, e.Payload))
	}
	m := roster.Message{Type: e.Type, To: to, HasTo: named, From: from.Device}
	task := ""
	if roster.IsTask(e.Type) && !named && !e.Ephemeral {
		task = wire.TaskID(e.Payload)
	}
	var d roster.Decision
	var werr *wire.Error
	if task != "" {
		d, werr = c.claim(ctx, from, m, task)
	} else {
		d, werr = roster.Route(m, c.roster.User(from.Key()))
	}
	switch {
	case werr != nil:
		return nil, werr
	case e.Ephemeral:
		return c.signal(e, sender, from.User, d.Targets)
	case d.Wait:
		return c.keep(ctx, e, nil, envelope.Wait(e, sender, to, task, e.Payload))
	}
	return c.sendTo(ctx, e, sender, from.User, d.Targets)
}

// sensible refuses an identity that is not the sender's, and what asks for two
// things that do not go together.
func sensible(from subjects.Address, e *wire.Envelope) *wire.Error {
	to, _ := e.Target()
	switch {
	case e.FromDeviceID != "" && e.FromDeviceID != string(from.Device):
		return wire.NewError(wire.IdentityMismatch, "fromDeviceId is not what the credential says")
	case e.UserID != "" && e.UserID != string(from.User):
		return wire.NewError(wire.IdentityMismatch, "userId is not what the credential says")
	case to.Service && e.Ephemeral:
		return wire.NewError(wire.BadMessage, "ephemeral: what goes to services is stored")
	case to.Service && !e.DeliverAt.IsZero():
		return wire.NewError(wire.BadMessage, "deliverAt: what goes to services goes now")
	case e.Ephemeral && !e.DeliverAt.IsZero():
		return wire.NewError(wire.BadMessage, "ephemeral and deliverAt: what is not stored cannot come later")
	}
	return nil
}

// claim finds the device of a task, and makes it the task's when it had none.
// While a task waits, or is being moved, all of it has to go the same way.
func (c *Coordinator) claim(ctx context.Context, from subjects.Address, m roster.Message, name string) (roster.Decision, *wire.Error) {
	for range taskTries {
		entry, err := c.tasks.get(ctx, from.User, name)
		if err != nil {
			return roster.Decision{}, c.wireError("task not looked up", err)
		}
		m.Holder = entry.Device
		d, werr := roster.Route(m, c.roster.User(from.Key()))
		switch {
		case werr != nil:
			return d, werr
		case entry.revision != 0 && entry.Device == "":
			return roster.Decision{Wait: true}, nil
		}
		var next task
		if !d.Wait {
			next.Device = d.Targets[0]
		}
		if entry.revision != 0 && next.Device == entry.Device {
			return d, nil
		}
		_, err = c.tasks.set(ctx, from.User, name, entry, next)
		switch {
		case err == nil:
			return d, nil
		case !errors.Is(err, errClaimed):
			return d, c.wireError("task not given to a device", err)
		}
	}
	return roster.Decision{}, unavailable()
}

// sendTo stores a message for each target, all or none, now or for later.
func (c *Coordinator) sendTo(ctx context.Context, e *wire.Envelope, from envelope.Sender, user subjects.UserID, targets []subjects.DeviceID) (*wire.Accepted, *wire.Error) {
	later := e.DeliverAt.After(time.Now())
	msgs := make([]*nats.Msg, len(targets))
	for n, device := range targets {
		to := subjects.Address{User: user, Device: device}.Key()
		if later {
			msgs[n] = envelope.Later(e, from, to, n, e.Payload)
			continue
		}
		if werr := c.admit(ctx, to, device); werr != nil {
			return nil, werr
		}
		msgs[n] = envelope.Inbox(e, from, to, n, e.Payload)
	}
	return c.keep(ctx, e, targets, msgs...)
}

// admit refuses a message for an inbox that is full.
func (c *Coordinator) admit(ctx context.Context, k subjects.Key, device subjects.DeviceID) *wire.Error {
	cursor, _, err := c.cursors.Load(ctx, k)
	if err != nil {
		return c.wireError("cursor not loaded", err)
	}
	n, err := c.cursors.Unacked(ctx, k, &cursor)
	switch {
	case err != nil:
		return c.wireError("inbox not counted", err)
	case n >= maxUnacked:
		return wire.NewError(wire.QueueFull, "the inbox of "+string(device)+" is full of unacknowledged messages")
	}
	return nil
}

// keep stores the copies of a message, all or none. targets are whom they are
// for, in the same order; none when that is not known yet.
func (c *Coordinator) keep(ctx context.Context, e *wire.Envelope, targets []subjects.DeviceID, copies ...*nats.Msg) (*wire.Accepted, *wire.Error) {
	r, err := c.store(ctx, copies...)
	switch {
	case err != nil && refusedForGood(err):
		c.log.Warn("message of a device refused by the store", "err", err)
		return nil, wire.NewError(wire.Internal, "the message could not be stored")
	case err != nil:
		werr := wire.NewError(wire.Unavailable, "the message is not known to be stored: send it again with the same id")
		werr.RetryAfter = retryAfter
		return nil, werr
	}
	later := e.DeliverAt.After(time.Now())
	if r.Duplicate && len(targets) > 0 && !later {
		return c.earlier(ctx, e.ID, r)
	}
	a := &wire.Accepted{OriginalID: e.ID, Duplicate: r.Duplicate}
	for n, device := range targets {
		to := wire.Recipient{DeviceID: string(device)}
		if !later {
			to.Seq = r.First + uint64(n)
		}
		a.Recipients = append(a.Recipients, to)
	}
	return a, nil
}

// earlier answers a repeat: it went to the first one's recipients, whomever it
// names now.
func (c *Coordinator) earlier(ctx context.Context, id string, r inbox.BatchReceipt) (*wire.Accepted, *wire.Error) {
	a := &wire.Accepted{OriginalID: id, Duplicate: true}
	first, err := c.cursors.Recipients(ctx, r.First)
	if err != nil {
		c.log.Warn("recipients of a repeated message not found", "seq", r.First, "err", err)
	}
	for _, to := range first {
		if address, err := to.Key.Address(); err == nil {
			a.Recipients = append(a.Recipients, wire.Recipient{DeviceID: string(address.Device), Seq: to.Seq})
		}
	}
	return a, nil
}

// signal sends an ephemeral message to those of the devices that are connected
// now.
func (c *Coordinator) signal(e *wire.Envelope, from envelope.Sender, user subjects.UserID, targets []subjects.DeviceID) (*wire.Accepted, *wire.Error) {
	a := &wire.Accepted{OriginalID: e.ID}
	for _, device := range targets {
		to := subjects.Address{User: user, Device: device}.Key()
		if err := c.core.PublishMsg(envelope.Signal(e, from, to, e.Payload)); err != nil {
			return nil, unavailable()
		}
		if c.roster.Online(to) {
			a.Recipients = append(a.Recipients, wire.Recipient{DeviceID: string(device)})
		}
	}
	return a, nil
}
