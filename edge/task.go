package edge

import (
	"context"
	"encoding/json"
	"errors"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/rccs-io/rccs/internal/roster"
	"github.com/rccs-io/rccs/subjects"
	"github.com/rccs-io/rccs/wire"
)

// holder is which device a task belongs to, as it is stored in the bucket of
// tasks. A task without a device waits for one: what else comes for it has to
// wait behind, so that it keeps its order.
type holder struct {
	Device subjects.DeviceID `json:"device"`
	At     time.Time         `json:"at"`
	// revision of the entry; 0 when there is none.
	revision uint64
}

// taskWithin bounds the look at a task's holder, which the device waits for.
const taskWithin = 5 * time.Second

// holder looks a task up.
func (t *Tenant) holder(ctx context.Context, user subjects.UserID, task string) (holder, *wire.Error) {
	ctx, cancel := context.WithTimeout(ctx, taskWithin)
	defer cancel()
	var h holder
	entry, err := t.tasks.Get(ctx, subjects.TaskEntry(user, task))
	switch {
	case errors.Is(err, jetstream.ErrKeyNotFound):
		return h, nil
	case err == nil:
		err = json.Unmarshal(entry.Value(), &h)
	}
	if err != nil {
		t.Logger.Warn("task's device not found out", "err", err)
		e := wire.NewError(wire.Unavailable, "the message store does not answer, try again")
		e.RetryAfter = retryAfter
		return h, e
	}
	h.revision = entry.Revision()
	return h, nil
}

// errClaimed says that another edge was faster.
var errClaimed = errors.New("edge: the task has got another device")

// claim makes device the holder of a task that had before; "" for none yet.
func (t *Tenant) claim(ctx context.Context, user subjects.UserID, task string, before holder, device subjects.DeviceID) error {
	ctx, cancel := context.WithTimeout(ctx, taskWithin)
	defer cancel()
	value, err := json.Marshal(holder{Device: device, At: time.Now().UTC()})
	if err != nil {
		return err
	}
	if before.revision == 0 {
		_, err = t.tasks.Create(ctx, subjects.TaskEntry(user, task), value)
	} else {
		_, err = t.tasks.Update(ctx, subjects.TaskEntry(user, task), value, before.revision)
	}
	if refused, ok := errors.AsType[*jetstream.APIError](err); errors.Is(err, jetstream.ErrKeyExists) ||
		ok && refused.ErrorCode == jetstream.JSErrCodeStreamWrongLastSequence {
		return errClaimed
	}
	return err
}

// keepTask is the age at which a holder that is in use is stored again, so
// that retention does not take it.
const keepTask = 24 * time.Hour

// claimTries bounds how often a claim is tried against others.
const claimTries = 5

// sendTask sends a task's message to the device that the task belongs to,
// which is found once and kept.
func (c *conn) sendTask(e *wire.Envelope, task string, held holder, d roster.Decision) {
	user := c.who.Address.User
	for range claimTries {
		chosen := subjects.DeviceID("")
		if !d.Wait && len(d.Targets) > 0 {
			chosen = d.Targets[0]
		}
		waiting := held.revision != 0 && held.Device == ""
		if waiting {
			c.wait(e, wire.To{}, task) // behind what waits already
			return
		}
		if held.Device == chosen && held.revision != 0 {
			if time.Since(held.At) > keepTask {
				_ = c.tenant.claim(c.s.ctx, user, task, held, chosen) // another time, if not now
			}
			c.sendTo(e, d.Targets)
			return
		}
		err := c.tenant.claim(c.s.ctx, user, task, held, chosen)
		switch {
		case err == nil && chosen == "":
			c.wait(e, wire.To{}, task)
			return
		case err == nil:
			c.sendTo(e, d.Targets)
			return
		case !errors.Is(err, errClaimed):
			c.log().Warn("task not given to a device", "err", err)
			c.fail(e, wire.NewError(wire.Unavailable, "the message store does not answer, try again"))
			return
		}
		var werr *wire.Error
		if held, werr = c.tenant.holder(c.s.ctx, user, task); werr != nil {
			c.fail(e, werr)
			return
		}
		m := roster.Message{Type: e.Type, From: c.who.Address.Device, Holder: held.Device}
		if d, werr = roster.Route(m, c.tenant.Roster.User(c.key)); werr != nil {
			c.fail(e, werr)
			return
		}
	}
	c.fail(e, wire.NewError(wire.Unavailable, "the task is being moved between devices, try again"))
}
