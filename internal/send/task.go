package send

import (
	"context"
	"encoding/json"
	"errors"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/rccs-io/rccs/internal/layout"
	"github.com/rccs-io/rccs/internal/roster"
	"github.com/rccs-io/rccs/internal/share"
	"github.com/rccs-io/rccs/internal/storeerr"
	"github.com/rccs-io/rccs/subjects"
	"github.com/rccs-io/rccs/wire"
)

// Task is which device a task belongs to, as it is stored in the bucket of
// tasks. As long as Device is empty, all that comes for the task is stored on
// the user's wait subject, in the order of its coming. Next is then the device
// that a coordinator gives what waits to: all coordinators, and one that takes
// over from another, must give it to the same.
type Task struct {
	Device subjects.DeviceID `json:"device"`
	Next   subjects.DeviceID `json:"next,omitempty"`
	At     time.Time         `json:"at"`

	Revision uint64 `json:"-"` // of the entry; 0: there is none
}

// To is the device that the task's messages go to, if that is decided.
func (t *Task) To() subjects.DeviceID {
	if t.Device != "" {
		return t.Device
	}
	return t.Next
}

// ErrClaimed says that a task's entry was changed by somebody else.
var ErrClaimed = errors.New("send: the task has been changed meanwhile")

// Tasks is the bucket of tasks.
type Tasks struct{ KV jetstream.KeyValue }

// Get looks a task up.
func (b Tasks) Get(ctx context.Context, user subjects.UserID, name string) (Task, error) {
	return b.Entry(ctx, layout.TaskEntry(user, name))
}

// Entry looks a task up by the key of its entry. One that cannot be read counts
// as none, and is replaced.
func (b Tasks) Entry(ctx context.Context, key string) (t Task, err error) {
	entry, err := b.KV.Get(ctx, key)
	switch {
	case errors.Is(err, jetstream.ErrKeyNotFound):
		return t, nil
	case err != nil:
		return t, err
	}
	if json.Unmarshal(entry.Value(), &t) != nil {
		t = Task{}
	}
	t.Revision = entry.Revision()
	return t, nil
}

// Set replaces before by next, unless somebody else has done so: [ErrClaimed].
func (b Tasks) Set(ctx context.Context, user subjects.UserID, name string, before, next Task) (Task, error) {
	next.At = time.Now().UTC()
	value, err := json.Marshal(next)
	if err != nil {
		return next, err
	}
	if before.Revision == 0 {
		next.Revision, err = b.KV.Create(ctx, layout.TaskEntry(user, name), value)
	} else {
		next.Revision, err = b.KV.Update(ctx, layout.TaskEntry(user, name), value, before.Revision)
	}
	if storeerr.Lost(err) {
		return next, ErrClaimed
	}
	return next, err
}

const (
	// claimTries bounds how often a claim is tried against others.
	claimTries = 5
	// keepTask is the age at which the entry of a task that is in use is stored
	// again, so that retention does not take it.
	keepTask = 24 * time.Hour
	// taskTimeout bounds the look at a task, which the sender waits for.
	taskTimeout = 5 * time.Second
)

// claim finds the device of a task, and makes it the task's when it had none.
// While a task waits, or is being moved, all of it has to wait behind.
func (in *Intake) claim(ctx context.Context, from *From, m roster.Message, name string) (roster.Decision, *wire.Error) {
	ctx, cancel := context.WithTimeout(ctx, taskTimeout)
	defer cancel()
	user := from.Address.User
	for range claimTries {
		entry, err := in.opts.Tasks.Get(ctx, user, name)
		if err != nil {
			return roster.Decision{}, in.unavailable("task not looked up", err)
		}
		m.Holder = entry.Device
		d, werr := roster.Route(m, in.opts.Roster.User(from.Key))
		switch {
		case werr != nil:
			return d, werr
		case entry.Revision != 0 && entry.Device == "":
			return roster.Decision{Wait: true}, nil
		}
		var next Task
		if !d.Wait {
			next.Device = d.Targets[0]
		}
		if entry.Revision != 0 && next.Device == entry.Device {
			if time.Since(entry.At) > keepTask {
				_, _ = in.opts.Tasks.Set(ctx, user, name, entry, next) // another time, if not now
			}
			return d, nil
		}
		if entry.Revision == 0 {
			if werr := in.opts.Shares.Admit(share.Task, from.Key, len(name)+len(next.Device)); werr != nil {
				return d, werr
			}
		}
		_, err = in.opts.Tasks.Set(ctx, user, name, entry, next)
		switch {
		case err == nil:
			return d, nil
		case !errors.Is(err, ErrClaimed):
			return d, in.unavailable("task not given to a device", err)
		}
	}
	e := wire.NewError(wire.Unavailable, "the task is being moved between devices, try again")
	e.RetryAfter = retrySoon
	return roster.Decision{}, e
}
