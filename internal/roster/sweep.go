package roster

import (
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/rccs-io/rccs/internal/storeerr"
	"github.com/rccs-io/rccs/subjects"
)

// found is a session to end, and its revision.
type found struct {
	key subjects.Key
	s   session
	rev uint64
}

// Sweep ends every session of a dead edge by compare-and-set, so any number of
// processes may do so at once. The sessions can be resumed. It also reveals
// devices that are gone and held back if their edge has not done so. It returns
// when everything is stored. After an error some of it is not, and Sweep should
// be called again.
func (r *Roster) Sweep(ctx context.Context) error {
	began := time.Now()
	var mu sync.Mutex
	var failed error
	var wg sync.WaitGroup
	for _, f := range r.orphans() {
		s := f.s
		if s.online() {
			s.loseConnection(began.UTC())
		} else {
			s.Until = 0
		}
		s.By, s.Write = r.id, r.writes.Add(1)
		m, err := sessionMsg(f.key, &s, f.rev)
		if err != nil {
			return fmt.Errorf("roster: sweep: %w", err)
		}
		wg.Add(1)
		r.out.send(m, func(seq uint64, err error) {
			defer wg.Done()
			switch {
			case err == nil:
				r.apply(f.key, &s, seq, time.Now().UnixNano())
				r.tellTurn(f.key, &f.s, &s, seq)
			case !storeerr.Lost(err): // else somebody else ended it, or it is alive
				mu.Lock()
				failed = err
				mu.Unlock()
			}
		})
	}
	swept := make(chan struct{})
	go func() { wg.Wait(); close(swept) }()
	select {
	case <-swept:
	case <-ctx.Done():
		return fmt.Errorf("roster: sweep: %w", ctx.Err())
	}
	if failed != nil {
		return fmt.Errorf("roster: sweep: %w", failed)
	}
	r.forgetDead(began)
	return nil
}

// Supersede has an edge lose the session of a device that was ended because the edge
// was taken for dead. An edge that was stopped for a while would take it back. Call it
// before anybody else gives the device messages, or acknowledges any for it. It returns
// the epoch of the device's last session; 0 if none is known.
func (r *Roster) Supersede(ctx context.Context, k subjects.Key) (epoch uint64, err error) {
	seen, rev := r.known(k)
	if seen == nil {
		return 0, nil
	}
	if seen.online() || seen.Edge == "" || seen.writer() == seen.Edge {
		return seen.Epoch, nil
	}
	next := *seen
	next.Epoch, next.Edge, next.By, next.Write = seen.Epoch+1, "", r.id, r.writes.Add(1)
	m, err := sessionMsg(k, &next, rev)
	if err != nil {
		return 0, fmt.Errorf("roster: supersede: %w", err)
	}
	stored := make(chan error, 1)
	r.out.send(m, func(seq uint64, err error) {
		if err == nil {
			r.apply(k, &next, seq, time.Now().UnixNano())
		}
		stored <- err
	})
	select {
	case err = <-stored:
	case <-ctx.Done():
		err = ctx.Err()
	}
	switch {
	case err == nil:
		return next.Epoch, nil
	case storeerr.Lost(err): // somebody else did it, or the device has connected
		return seen.Epoch, nil
	}
	return 0, fmt.Errorf("roster: supersede: %w", err)
}

// revealSlack is how much later than its edge a sweep reveals that a device is
// gone.
const revealSlack = 3 * time.Second

// orphans returns the online sessions of dead edges, with LastSeen set to when
// the edge was last heard, and the sessions that were held back for too long.
func (r *Roster) orphans() []found {
	now := time.Now().UTC()
	var all []found
	r.mu.RLock()
	defer r.mu.RUnlock()
	for _, devices := range r.users {
		for d := range devices.all() {
			if d.sess.heldBack() && now.Sub(d.sess.Until.time()) > revealSlack {
				all = append(all, found{d.key, *d.sess, d.rev})
				continue
			}
			if !d.sess.online() || !r.edges[d.sess.Edge].isDead() {
				continue
			}
			f := found{d.key, *d.sess, d.rev}
			f.s.LastSeen = stampOf(now)
			if heard := r.edges[d.sess.Edge].Heard; !heard.IsZero() {
				f.s.LastSeen = stampOf(heard)
			}
			all = append(all, f)
		}
	}
	return all
}

// forgetDead drops edges that were dead long before the sweep began. The sweep
// has ended all their sessions.
func (r *Roster) forgetDead(began time.Time) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for id, st := range r.edges {
		if st.isDead() && began.Sub(st.dead) > 10*r.opts.Lease {
			delete(r.edges, id)
		}
	}
}
