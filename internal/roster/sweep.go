package roster

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/rccs-io/rccs/subjects"
)

// found is a session to be ended, and its revision.
type found struct {
	key subjects.Key
	s   session
	rev uint64
}

// Sweep ends every session of an edge that is dead, by compare-and-set, so
// that any number of processes may do so at once. They can be resumed. It also
// shows those that were gone and held back, where their edge did not. It
// returns when that is stored; an error says that some of it is not, and that
// Sweep should be called again.
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
			s.Until = time.Time{}
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
			case !errors.Is(err, ErrConflict): // then somebody else has, or it lives
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

// revealSlack is how much later than its edge a sweep shows that a device is
// gone.
const revealSlack = 3 * time.Second

// orphans are the online sessions of dead edges, as they are to be left: last
// seen when their edge was; and those that are held back for too long.
func (r *Roster) orphans() []found {
	now := time.Now().UTC()
	var all []found
	r.mu.RLock()
	defer r.mu.RUnlock()
	for _, devices := range r.users {
		for k, d := range devices {
			if d.sess.heldBack() && now.Sub(d.sess.Until) > revealSlack {
				all = append(all, found{k, *d.sess, d.rev})
				continue
			}
			if !d.sess.online() || !r.edges[d.sess.Edge].isDead() {
				continue
			}
			f := found{k, *d.sess, d.rev}
			f.s.LastSeen = now
			if heard := r.edges[d.sess.Edge].Heard; !heard.IsZero() {
				f.s.LastSeen = heard.UTC()
			}
			all = append(all, f)
		}
	}
	return all
}

// forgetDead drops edges that were dead when a sweep began, which has ended
// all that they had, and are long past coming back.
func (r *Roster) forgetDead(began time.Time) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for id, st := range r.edges {
		if st.isDead() && began.Sub(st.dead) > 10*r.opts.Lease {
			delete(r.edges, id)
		}
	}
}
