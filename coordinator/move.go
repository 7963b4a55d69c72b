package coordinator

import (
	"context"
	"errors"
	"slices"
	"time"

	"github.com/rccs-io/rccs/internal/layout"
	"github.com/rccs-io/rccs/internal/roster"
	"github.com/rccs-io/rccs/internal/send"
	"github.com/rccs-io/rccs/subjects"
	"github.com/rccs-io/rccs/wire"
)

// A waiting task gets its device in two steps, so that no message of the task
// overtakes another. First the entry names the device as the next one, and all
// waiting messages are given to it. Edges still store new messages on the route
// stream. When none has come for moveQuiet, the entry names the device as the
// task's, and edges store straight into its inbox. The pause is for an edge that
// read the entry just before the second step and stores on the route stream just
// after it.
//
// If a coordinator dies between the steps, the first stands: the next message of
// the task is given to the same device. The second step follows in any case: see
// [unfinished].

// moveQuiet is for how long no message of a task must have come before its device
// is final.
const moveQuiet = 300 * time.Millisecond

// taskTries bounds how often an update of a task's entry is tried against others
// in a pass.
const taskTries = 5

// move is a task between the two steps.
type move struct {
	entry send.Task
	last  time.Time // when something of it was given out
}

// decideTask sends a task's message to the device that the task belongs to or is
// being moved to. A task without a device gets the one that the routing table
// picks.
func (r *router) decideTask(ctx context.Context, q *queue, m *routed, devices []roster.Device) (roster.Decision, *wire.Error, error) {
	registered := func(id subjects.DeviceID) bool {
		return id != "" && slices.ContainsFunc(devices, func(d roster.Device) bool { return d.ID == id })
	}
	for range taskTries {
		entry, err := r.taskEntry(ctx, q, m.task)
		if err != nil {
			return roster.Decision{}, nil, err
		}
		if to := entry.To(); registered(to) {
			if entry.Device == "" {
				q.moves[m.task] = &move{entry: entry, last: time.Now()}
			}
			return roster.Decision{Targets: []subjects.DeviceID{to}}, nil, nil
		}
		d, werr := roster.Route(m.msg, devices)
		var next send.Task
		if werr == nil && !d.Wait {
			next.Next = d.Targets[0]
		}
		if next.Next == "" && entry.Revision != 0 && entry.To() == "" {
			return d, werr, nil // it waits, and the entry says so
		}
		set, err := r.c.tasks.Set(ctx, q.user, m.task, entry, next)
		delete(q.looked, m.task)
		if errors.Is(err, send.ErrClaimed) {
			continue // by another coordinator: what it decided is what counts
		}
		if err != nil {
			return roster.Decision{}, nil, err
		}
		q.looked[m.task] = set
	}
	return roster.Decision{}, nil, send.ErrClaimed
}

// taskEntry returns a task's entry, which it reads once a pass.
func (r *router) taskEntry(ctx context.Context, q *queue, name string) (send.Task, error) {
	if t, ok := q.looked[name]; ok {
		return t, nil
	}
	t, err := r.c.tasks.Get(ctx, q.user, name)
	if err == nil {
		q.looked[name] = t
	}
	return t, err
}

// finishMoves makes the second step for tasks of which no message has come for
// moveQuiet.
func (r *router) finishMoves(q *queue) {
	for name, mv := range q.moves {
		read := r.reader.Last()                 // a message up to it is among those that wait or that no worker has
		entry := layout.TaskEntry(q.user, name) // one of two names may be a hash
		ofTask := func(m *routed) bool { return m.task != "" && layout.TaskEntry(q.user, m.task) == entry }
		if slices.ContainsFunc(q.waiting, ofTask) || r.comes(q, ofTask) {
			q.soon(time.Now().Add(retryPause))
			continue
		}
		if due := mv.last.Add(moveQuiet); time.Now().Before(due) {
			q.soon(due)
			continue
		}
		if err := r.finish(q, name, mv, read); err != nil {
			r.log.Warn("task not given to its device yet, trying again", "user", q.user, "err", err)
			q.soon(time.Now().Add(retryPause))
		}
	}
}

// comes reports whether a message that no worker has yet is one that is looked for.
func (r *router) comes(q *queue, is func(*routed) bool) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.ContainsFunc(q.fresh, func(l *line) bool { return slices.ContainsFunc(l.waiting, is) })
}

var errBehind = errors.New("coordinator: the route stream has more than was read")

// finish makes the second step, unless the stream has more than was read.
func (r *router) finish(q *queue, name string, mv *move, read uint64) error {
	ctx, cancel := context.WithTimeout(r.ctx, routeTimeout)
	defer cancel()
	// Messages that another coordinator has stored and removed do not matter, so
	// the stream's last sequence is not the one to compare with.
	more, err := r.c.direct.Holds(ctx, layout.StreamRoute, ">", read+1)
	switch {
	case err != nil:
		return err
	case more:
		return errBehind
	}
	_, err = r.c.tasks.Set(ctx, q.user, name, mv.entry, send.Task{Device: mv.entry.Next})
	if err != nil && !errors.Is(err, send.ErrClaimed) {
		return err
	}
	delete(q.moves, name) // send.ErrClaimed: somebody else has finished it, or begun anew
	return nil
}
