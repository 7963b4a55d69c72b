package coordinator

import (
	"hash/maphash"
	"time"

	"github.com/rccs-io/rccs/internal/roster"
	"github.com/rccs-io/rccs/internal/send"
	"github.com/rccs-io/rccs/subjects"
)

const (
	// unknownPause is how often the router looks for the record of a device that
	// came online, which is read from another bucket.
	unknownPause = 20 * time.Millisecond
	// unknownPatience is for how long it does so.
	unknownPatience = 5 * time.Second
)

// queue has the messages for one user that are stored and not given out yet.
type queue struct {
	user subjects.UserID
	key  subjects.Key // any of the user, for the roster

	// Guarded by router.mu.
	fresh   lines
	again   bool            // look at waiting messages, too
	queued  map[string]bool // the senders in whose turns a worker will come
	running bool            // a worker is there
	timer   *time.Timer
	came    map[subjects.Key]time.Time // came online, and may not be in the roster yet
	adopted map[string]send.Task       // tasks for which another coordinator has not made the second step

	// Of the worker.
	waiting []*routed
	seen    []deviceState // the devices when waiting messages were looked at last
	moves   map[string]*move
	looked  map[string]send.Task // entries of tasks that were read in this pass
	next    time.Time            // when to look again; zero: when something happens
}

// deviceState is what decides whether a message that waited has to wait on.
type deviceState struct {
	id     subjects.DeviceID
	online bool
	record *roster.Record
}

func (r *router) queueLocked(user subjects.UserID) *queue {
	token := subjects.Escape(string(user))
	q := r.users[token]
	if q == nil {
		q = &queue{user: user, key: subjects.Address{User: user, Device: "-"}.Key(), moves: make(map[string]*move), queued: make(map[string]bool)}
		q.timer = time.AfterFunc(time.Hour, func() { r.wake(token) })
		q.timer.Stop()
		r.users[token] = q
	}
	return q
}

// runLocked has a worker come to a queue in the turn of a sender. If one is
// there, that one sees to it.
func (r *router) runLocked(q *queue, sender string) {
	if !q.running && !r.closed && !q.queued[sender] {
		if r.pool.RunInTurn(sender, func() { r.work(q, sender) }) {
			q.queued[sender] = true
		}
	}
}

// wake has a user's waiting messages looked at.
func (r *router) wake(token string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if q := r.users[token]; q != nil {
		q.again = true
		r.runLocked(q, "")
	}
}

// changed is the roster's callback for a change of a device.
func (r *router) changed(c roster.Change) {
	if !c.Came {
		return
	}
	_, known := r.c.roster.Device(c.Key)
	r.mu.Lock()
	defer r.mu.Unlock()
	q := r.users[c.Key.User()]
	if q == nil {
		a, err := c.Key.Address()
		if known || err != nil {
			return // nothing waits
		}
		// A message that comes before the record would wait, and nobody would
		// look at it again.
		q = r.queueLocked(a.User)
	}
	if q.came == nil {
		q.came = make(map[subjects.Key]time.Time)
	}
	q.came[c.Key] = time.Now()
	q.again = true
	r.runLocked(q, "")
}

// review has waiting messages looked at, those of one part of the users. parts is
// how many parts there are.
func (r *router) review(part, parts uint64) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for token, q := range r.users {
		if maphash.String(r.seed, token)%parts == part%parts {
			q.again = true
			r.runLocked(q, "")
		}
	}
}

// restLocked sets the timer of an idle queue, or drops the queue.
func (r *router) restLocked(q *queue) {
	q.timer.Stop()
	if len(q.queued) > 0 {
		return // a worker will come
	}
	if len(q.waiting) == 0 && len(q.moves) == 0 && len(q.came) == 0 {
		delete(r.users, q.key.User())
		return
	}
	if !q.next.IsZero() && !r.closed {
		q.timer.Reset(max(time.Until(q.next), time.Millisecond))
	}
}

// soon has the queue looked at again at a time, or earlier.
func (q *queue) soon(at time.Time) {
	if q.next.IsZero() || at.Before(q.next) {
		q.next = at
	}
}

// await has the queue looked at when the message ends.
func (q *queue) await(m *routed) {
	if !m.ends.IsZero() {
		q.soon(m.ends)
	}
}

// take empties the queue. It returns the messages to look at, which are fresh and,
// if all is set, those that waited; and the messages that go on waiting.
func (q *queue) take(fresh []*routed, all bool) (todo, still []*routed) {
	waiting := q.waiting
	q.waiting, q.looked = nil, make(map[string]send.Task)
	if all {
		return append(waiting, fresh...), nil
	}
	for _, m := range waiting {
		q.await(m)
	}
	return fresh, waiting
}

// news reports whether the devices differ from those at the last pass.
func (q *queue) news(devices []roster.Device) bool {
	same := len(devices) == len(q.seen) && q.seen != nil
	for i := range devices {
		d := &devices[i]
		same = same && q.seen[i] == deviceState{d.ID, d.Online, d.Record}
	}
	if same {
		return false
	}
	q.seen = make([]deviceState, len(devices))
	for i := range devices {
		q.seen[i] = deviceState{devices[i].ID, devices[i].Online, devices[i].Record}
	}
	return true
}

// checkPendingDevices looks whether devices that came online are known by now.
func (r *router) checkPendingDevices(q *queue, devices []roster.Device) {
	known := make(map[subjects.Key]bool, len(devices))
	for i := range devices {
		known[devices[i].Key] = true
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	for key, at := range q.came {
		if known[key] || time.Since(at) > unknownPatience {
			delete(q.came, key)
			continue
		}
		q.soon(time.Now().Add(unknownPause))
	}
}
