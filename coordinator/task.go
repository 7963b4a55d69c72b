package coordinator

import (
	"context"
	"encoding/json"
	"errors"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/rccs-io/rccs/subjects"
)

// task is which device a task belongs to, as it is stored in the bucket of
// tasks. As long as Device is empty, edges store all that comes for the task
// on the user's wait subject, in the order of its coming. Next is then the
// device that a coordinator gives what waits to: all coordinators, and one
// that takes over from another, must give it to the same. Edges do not look at
// Next.
type task struct {
	Device subjects.DeviceID `json:"device"`
	Next   subjects.DeviceID `json:"next,omitempty"`
	At     time.Time         `json:"at"`

	revision uint64 // of the entry; 0: there is none
}

// to is the device that the task's messages go to, if that is decided.
func (t *task) to() subjects.DeviceID {
	if t.Device != "" {
		return t.Device
	}
	return t.Next
}

// errClaimed says that the task's entry was changed by somebody else.
var errClaimed = errors.New("coordinator: the task has been changed meanwhile")

// tasks is the bucket of tasks.
type tasks struct{ kv jetstream.KeyValue }

// get looks a task up. One that cannot be read counts as none, and is
// replaced.
func (b tasks) get(ctx context.Context, user subjects.UserID, name string) (task, error) {
	t, revision, err := b.entry(ctx, subjects.TaskEntry(user, name))
	t.revision = revision
	return t, err
}

// entry reads an entry by its key. revision is 0 when there is none.
func (b tasks) entry(ctx context.Context, key string) (t task, revision uint64, err error) {
	entry, err := b.kv.Get(ctx, key)
	switch {
	case errors.Is(err, jetstream.ErrKeyNotFound):
		return t, 0, nil
	case err != nil:
		return t, 0, err
	}
	if json.Unmarshal(entry.Value(), &t) != nil {
		t = task{}
	}
	return t, entry.Revision(), nil
}

// set replaces before by next, unless somebody else has done so: errClaimed.
func (b tasks) set(ctx context.Context, user subjects.UserID, name string, before, next task) (task, error) {
	next.At = time.Now().UTC()
	value, err := json.Marshal(next)
	if err != nil {
		return next, err
	}
	if before.revision == 0 {
		next.revision, err = b.kv.Create(ctx, subjects.TaskEntry(user, name), value)
	} else {
		next.revision, err = b.kv.Update(ctx, subjects.TaskEntry(user, name), value, before.revision)
	}
	if claimed(err) {
		return next, errClaimed
	}
	return next, err
}

// claimed says that a compare-and-set of the bucket has lost.
func claimed(err error) bool {
	refused, ok := errors.AsType[*jetstream.APIError](err)
	return errors.Is(err, jetstream.ErrKeyExists) || ok && refused.ErrorCode == jetstream.JSErrCodeStreamWrongLastSequence
}
