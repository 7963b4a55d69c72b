package coordinator

import (
	"slices"
	"time"
)

const (
	// passMost is how many messages of a user are done before other users have
	// their turn.
	passMost = 256
	// passFresh is how many fresh messages of a user are taken at once, and how many
	// of those that wait are done before a sender that has come meanwhile has its
	// turn.
	passFresh = 16
	// retryPause is how long after a failure a user's messages are tried again.
	retryPause = time.Second
)

// work gives out some of a user's messages, and then lets other users and other
// senders have their turn.
func (r *router) work(q *queue, sender string) {
	r.mu.Lock()
	delete(q.queued, sender)
	if q.running { // one that came in another's turn
		r.mu.Unlock()
		return
	}
	if r.closed || len(q.fresh) == 0 && !q.again {
		r.restLocked(q)
		r.mu.Unlock()
		return
	}
	q.running = true
	fresh, again := q.fresh.take(passFresh), q.again
	q.again = false
	for _, m := range fresh {
		m.fresh = false
	}
	for _, m := range q.waiting {
		if m.sender == unknown {
			m.sender = m.heard
		}
	}
	r.mu.Unlock()
	r.pass(q, fresh, again)
	r.mu.Lock()
	defer r.mu.Unlock()
	q.running = false
	for _, l := range q.fresh {
		r.runLocked(q, l.sender)
	}
	r.runLocked(q, sender) // also to come to rest
}

// pass tries to give out fresh messages. If the user's devices have changed or
// again is set, it also tries those that wait. All of them meet the same devices,
// so that of two messages for the same device the earlier one goes first.
func (r *router) pass(q *queue, fresh []*routed, again bool) {
	q.next = time.Time{}
	r.takeAdopted(q)
	devices := r.c.roster.User(q.key)
	r.checkPendingDevices(q, devices)
	before := len(q.waiting)
	todo, still := q.take(fresh, again || q.news(devices))
	todo, senders := inTurns(todo)
	behind := make(map[string]bool) // senders of which a message is held
	last := lastOf(todo, senders)
	ended := 0
	var full []*routed // for which there is no room to wait
	for i, m := range todo {
		if behind[m.sender] || senders == 1 && len(behind) > 0 {
			still = append(still, m)
			continue
		}
		v, err := blocked, errPanicked
		r.c.contained("route", func() { v, err = r.routeMessage(q, m, devices) })
		if err != nil {
			if r.ctx.Err() == nil {
				r.log.Warn("routing interrupted, trying again", "user", q.user, "seq", m.seq, "err", err)
			}
			// Later messages keep their place, and have not been looked at.
			q.soon(time.Now().Add(retryPause))
			still = append(still, todo[i:]...)
			q.seen = nil
			break
		}
		if v == blocked {
			behind[m.sender] = true
			still = append(still, m)
			q.seen = nil
			continue
		}
		r.release(m)
		if v == waiting {
			if r.admit(m) {
				q.await(m)
				still = append(still, m)
			} else {
				full = append(full, m)
			}
			continue
		}
		r.left(m)
		if ended++; i+1 < len(todo) && (ended == passMost || ended >= passFresh && r.newcomer(q, last, i)) {
			q.soon(time.Now())
			still = append(still, todo[i+1:]...)
			q.seen = nil
			break
		}
	}
	if left := r.endFull(full); len(left) > 0 {
		q.soon(time.Now().Add(retryPause))
		still, q.seen = append(still, left...), nil
	}
	q.waiting = still
	r.c.metrics.waiting.Add(float64(len(still) - before))
	r.finishMoves(q)
}

// lastOf returns the index of the last message of each sender.
func lastOf(todo []*routed, senders int) map[string]int {
	last := make(map[string]int, senders)
	for i, m := range todo {
		last[m.sender] = i
	}
	return last
}

// newcomer reports whether a sender has fresh messages and none among those of the
// pass that come behind the index at.
func (r *router) newcomer(q *queue, last map[string]int, at int) bool {
	if _, ok := last[unknown]; ok {
		return false // there are no turns
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.ContainsFunc(q.fresh, func(l *line) bool {
		n, ok := last[l.sender]
		return !ok || n <= at
	})
}
