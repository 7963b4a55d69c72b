package coordinator

import (
	"context"
	"encoding/json"
	"sync"
	"time"

	"github.com/rccs-io/rccs/internal/layout"
	"github.com/rccs-io/rccs/internal/reader"
	"github.com/rccs-io/rccs/internal/send"
	"github.com/rccs-io/rccs/subjects"
)

// A coordinator that dies between the two steps of a task's move leaves the
// first. Perhaps no further message comes that would have another coordinator
// make the second. So each coordinator follows the bucket of tasks, and makes the
// second step where nobody has made it in time.

// unfinishedAge is how long a task may be between the steps before any
// coordinator that sees it makes the second one. If two try, the entry's revision
// lets one succeed.
const unfinishedAge = 3 * time.Second

// unfinished are the tasks between the two steps.
type unfinished struct {
	router *router
	reader *reader.Reader

	mu    sync.Mutex
	tasks map[string]halfMove // by the subject of the entry
}

// halfMove is a task that names a next device and is not that device's yet.
type halfMove struct {
	user  subjects.UserID
	name  string
	entry send.Task
	seen  time.Time
}

func newUnfinished(c *Coordinator, r *router) (*unfinished, error) {
	u := &unfinished{router: r, tasks: make(map[string]halfMove)}
	var err error
	u.reader, err = reader.New(reader.Options{
		Conn: c.read, Stream: "KV_" + layout.BucketTasks, Shard: c.opts.Shard, FromStart: true, Logger: c.log,
		Handle: func(e reader.Entry) { c.contained("task", func() { u.onEntry(e) }) },
	})
	return u, err
}

func (u *unfinished) start(ctx context.Context) error { return u.reader.Start(ctx) }

func (u *unfinished) stop(ctx context.Context) error { return u.reader.Stop(ctx) }

// onEntry handles an entry from the reader.
func (u *unfinished) onEntry(e reader.Entry) {
	u.mu.Lock()
	defer u.mu.Unlock()
	delete(u.tasks, e.Subject)
	m := halfMove{seen: time.Now()}
	var ok bool
	if m.user, m.name, ok = layout.ParseTaskSubject(e.Subject); !ok || json.Unmarshal(e.Data, &m.entry) != nil || m.entry.Device != "" || m.entry.Next == "" {
		return
	}
	m.entry.Revision = e.Seq
	u.tasks[e.Subject] = m
}

// review has the router make the second step for tasks that have been unfinished
// for too long.
func (u *unfinished) review() {
	u.mu.Lock()
	var late []halfMove
	for subject, m := range u.tasks {
		if time.Since(m.seen) >= unfinishedAge {
			late = append(late, m)
			m.seen = time.Now() // it is the router's turn now
			u.tasks[subject] = m
		}
	}
	u.mu.Unlock()
	for i := range late {
		u.router.adopt(&late[i])
	}
}

// adopt makes the second step for a task that another coordinator has left.
func (r *router) adopt(m *halfMove) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.closed {
		return
	}
	q := r.queueLocked(m.user)
	if q.adopted == nil {
		q.adopted = make(map[string]send.Task)
	}
	q.adopted[m.name] = m.entry
	q.again = true
	r.runLocked(q, "")
}

// takeAdopted starts moves for adopted tasks, unless they are under way here.
func (r *router) takeAdopted(q *queue) {
	r.mu.Lock()
	adopted := q.adopted
	q.adopted = nil
	r.mu.Unlock()
	for name, entry := range adopted {
		if q.moves[name] == nil {
			q.moves[name] = &move{entry: entry, last: time.Now()}
		}
	}
}
