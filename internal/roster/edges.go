package roster

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/rccs-io/rccs/internal/reader"
	"github.com/rccs-io/rccs/subjects"
	"github.com/rccs-io/rccs/wire"
)

// Edge is what an edge says of itself in its lease.
type Edge struct {
	ID      string    `json:"id"`
	Name    string    `json:"name"`
	Address string    `json:"address,omitempty"`
	Version string    `json:"version,omitempty"`
	Started time.Time `json:"started"`
	Devices int       `json:"devices"`
	// Heard is when the lease was last seen to be renewed, by this process's
	// clock.
	Heard time.Time `json:"-"`
}

// edgeState is what is known of an edge.
type edgeState struct {
	Edge
	dead bool
}

// sweptBy begins the edge of a session that a janitor has ended.
const sweptBy = "swept:"

// onEdge applies one entry of the edges' bucket.
func (r *Roster) onEdge(e reader.Entry) {
	id, ok := subjects.ParseEdgeSubject(e.Subject)
	if !ok {
		return
	}
	if deleted(&e) {
		r.died(id)
		return
	}
	var lease Edge
	if err := json.Unmarshal(e.Data, &lease); err != nil {
		r.opts.Logger.Warn("unreadable lease ignored", "edge", id, "err", err)
		return
	}
	lease.ID, lease.Heard = id, time.Now()
	r.mu.Lock()
	defer r.mu.Unlock()
	r.edges[id] = &edgeState{Edge: lease}
}

// died notes that an edge is no more.
func (r *Roster) died(ids ...string) {
	r.mu.Lock()
	live := r.live
	for _, id := range ids {
		if st := r.edges[id]; st != nil {
			st.dead = true
		} else {
			r.edges[id] = &edgeState{Edge: Edge{ID: id}, dead: true}
		}
	}
	r.mu.Unlock()
	if live && len(ids) > 0 && r.opts.Died != nil {
		r.opts.Died()
	}
}

// noteUnknownEdges finds the edges that sessions name and that have no lease.
// It is called when all buckets have been read, leases last.
func (r *Roster) noteUnknownEdges() {
	var unknown []string
	r.mu.RLock()
	for _, devices := range r.users {
		for _, d := range devices {
			if d.sess.online() && r.edges[d.sess.Edge] == nil && !slices.Contains(unknown, d.sess.Edge) {
				unknown = append(unknown, d.sess.Edge)
			}
		}
	}
	r.mu.RUnlock()
	r.died(unknown...)
}

// EdgeID is the id of this edge; empty when the roster only follows.
func (r *Roster) EdgeID() string { return r.edge }

// Alive says whether an edge is not known to be dead.
func (r *Roster) Alive(id string) bool {
	r.mu.RLock()
	defer r.mu.RUnlock()
	st := r.edges[id]
	return st != nil && !st.dead
}

// Edges are the edges that live, by name.
func (r *Roster) Edges() []Edge {
	r.mu.RLock()
	defer r.mu.RUnlock()
	var all []Edge
	for _, st := range r.edges {
		if !st.dead {
			all = append(all, st.Edge)
		}
	}
	slices.SortFunc(all, func(a, b Edge) int { return strings.Compare(a.Name+a.ID, b.Name+b.ID) })
	return all
}

// begin ends what earlier processes of this edge's name have left, and takes
// the lease.
func (r *Roster) begin(ctx context.Context) error {
	var before []string
	r.mu.RLock()
	for id, st := range r.edges {
		if st.Name == r.opts.Edge.Name && !st.dead {
			before = append(before, id)
		}
	}
	r.mu.RUnlock()
	for _, id := range before {
		m := &nats.Msg{Subject: subjects.EdgeSubject(id), Header: nats.Header{"KV-Operation": {"DEL"}}}
		r.opts.Put(m, func(_ uint64, err error) {
			if err != nil {
				r.opts.Logger.Warn("lease of an earlier process not removed", "edge", id, "err", err)
			}
		})
	}
	r.died(before...)
	if err := r.Sweep(ctx); err != nil {
		return err
	}
	taken := make(chan error, 1)
	r.renew(time.Now(), func(err error) { taken <- err })
	select {
	case err := <-taken:
		if err != nil {
			return fmt.Errorf("roster: take the edge's lease: %w", err)
		}
		return nil
	case <-ctx.Done():
		return fmt.Errorf("roster: take the edge's lease: %w", ctx.Err())
	}
}

// renew stores the lease.
func (r *Roster) renew(started time.Time, done func(error)) {
	r.mu.RLock()
	devices := len(r.slots)
	r.mu.RUnlock()
	data, err := json.Marshal(&Edge{
		ID: r.edge, Name: r.opts.Edge.Name, Address: r.opts.Edge.Address, Version: r.opts.Edge.Version,
		Started: started.UTC(), Devices: devices,
	})
	if err != nil {
		done(err)
		return
	}
	r.opts.Put(&nats.Msg{Subject: subjects.EdgeSubject(r.edge), Data: data}, func(_ uint64, err error) { done(err) })
}

// watchEdges renews the lease and notices edges that do not.
func (r *Roster) watchEdges() {
	started := time.Now()
	tick := time.NewTicker(r.opts.Lease / 10)
	defer tick.Stop()
	renewed := started
	for {
		select {
		case <-r.quit:
			return
		case now := <-tick.C:
			if r.edge != "" && now.Sub(renewed) >= r.opts.Lease/3 && !r.stopped.Load() {
				renewed = now
				r.renew(started, func(err error) {
					if err != nil {
						r.opts.Logger.Warn("lease not renewed", "err", err)
					}
				})
			}
			r.expire(now)
		}
	}
}

// expire notes edges that were not heard of for the length of a lease, unless
// it is this process that hears nothing.
func (r *Roster) expire(now time.Time) {
	if r.readers[2].Quiet() > r.opts.Lease/2 {
		return
	}
	var dead []string
	r.mu.RLock()
	for id, st := range r.edges {
		if !st.dead && id != r.edge && now.Sub(st.Heard) > r.opts.Lease {
			dead = append(dead, id)
		}
	}
	for _, devices := range r.users {
		for _, d := range devices {
			if d.sess.online() && r.edges[d.sess.Edge] == nil && now.Sub(d.sess.LastSeen) > r.opts.Lease && !slices.Contains(dead, d.sess.Edge) {
				dead = append(dead, d.sess.Edge)
			}
		}
	}
	r.mu.RUnlock()
	r.died(dead...)
}

// finish ends this edge's sessions and its lease.
func (r *Roster) finish(ctx context.Context) error {
	r.mu.RLock()
	slots := make([]*slot, 0, len(r.slots))
	for _, sl := range r.slots {
		slots = append(slots, sl)
	}
	r.mu.RUnlock()
	for _, sl := range slots {
		if s := sl.current.Load(); s != nil {
			s.Close(false, nil)
		}
		r.tidy(sl)
	}
	wait := make(chan struct{})
	r.mu.Lock()
	if len(r.slots) == 0 {
		close(wait)
	} else {
		r.empty = wait
	}
	r.mu.Unlock()
	gone := make(chan error, 1)
	select {
	case <-wait:
		m := &nats.Msg{Subject: subjects.EdgeSubject(r.edge), Header: nats.Header{"KV-Operation": {"DEL"}}}
		r.opts.Put(m, func(_ uint64, err error) { gone <- err })
	case <-ctx.Done():
		return fmt.Errorf("roster: sessions not stored: %w", ctx.Err())
	}
	select {
	case err := <-gone:
		return err
	case <-ctx.Done():
		return fmt.Errorf("roster: lease not given up: %w", ctx.Err())
	}
}

// Sweep ends every session of an edge that is dead, by compare-and-set, so
// that any number of processes may do so at once. It returns when that is
// stored.
func (r *Roster) Sweep(ctx context.Context) error {
	type found struct {
		key subjects.Key
		s   session
		rev uint64
	}
	var all []found
	r.mu.RLock()
	for _, devices := range r.users {
		for k, d := range devices {
			if st := edgeOf(r.edges, d.sess); d.sess.online() && st != nil && st.dead {
				all = append(all, found{k, *d.sess, d.rev})
			}
		}
	}
	r.mu.RUnlock()
	var wg sync.WaitGroup
	for _, f := range all {
		s := f.s
		s.Status, s.Edge, s.Extra, s.LastSeen = wire.Offline, sweptBy+r.id, nil, time.Now().UTC()
		data, err := json.Marshal(&s)
		if err != nil {
			return fmt.Errorf("roster: sweep: %w", err)
		}
		m := &nats.Msg{
			Subject: subjects.SessionSubject(f.key), Data: data,
			Header: nats.Header{"Nats-Expected-Last-Subject-Sequence": {strconv.FormatUint(f.rev, 10)}},
		}
		wg.Add(1)
		r.opts.Put(m, func(seq uint64, err error) {
			if err == nil {
				r.apply(f.key, &s, seq)
			}
			wg.Done()
		})
	}
	swept := make(chan struct{})
	go func() { wg.Wait(); close(swept) }()
	select {
	case <-swept:
		return nil
	case <-ctx.Done():
		return fmt.Errorf("roster: sweep: %w", ctx.Err())
	}
}

func edgeOf(edges map[string]*edgeState, s *session) *edgeState {
	if s == nil {
		return nil
	}
	return edges[s.Edge]
}
