package roster

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/rccs-io/rccs/internal/layout"
	"github.com/rccs-io/rccs/internal/reader"
)

// Edge is what an edge says about itself in its lease.
type Edge struct {
	ID      string `json:"id"`
	Name    string `json:"name"`
	Process string `json:"process,omitempty"` // see [EdgeInfo.Process]
	Address string `json:"address,omitempty"`
	// URL is where devices are told to connect, if operators have named it.
	URL     string    `json:"url,omitempty"`
	Version string    `json:"version,omitempty"`
	Started time.Time `json:"started"`
	Devices int       `json:"devices"`
	// Unready is the reason why the edge cannot serve, as on its /readyz.
	Unready string `json:"unready,omitempty"`
	// Unserved says which other tenants the process does not serve, and why. It is
	// in the first tenant's lease only, whose operators run the process.
	Unserved string `json:"unserved,omitempty"`
	// Draining: the edge takes no more devices, and sends those it has elsewhere.
	Draining bool `json:"draining,omitempty"`
	// TakenUp: the shard is not one of the edge's own, and the edge gives it back when
	// no device needs it there.
	TakenUp bool `json:"takenUp,omitempty"`
	// Heard is when a sign of life was last seen, by this process's clock.
	Heard time.Time `json:"-"`
}

// edgeState is what this roster knows of an edge.
type edgeState struct {
	Edge
	dead time.Time // since when; zero: it is alive
	gone int64     // when its lease was removed, by the store's clock; 0: not removed
}

func (st *edgeState) isDead() bool { return st != nil && !st.dead.IsZero() }

// beat is how often the server has to send something for the leases, so that
// silence is noticed well within a lease.
func (r *Roster) beat() time.Duration {
	return min(max(r.opts.Lease/5, 100*time.Millisecond), time.Second)
}

// onEdge applies one entry of the edges' bucket.
func (r *Roster) onEdge(e reader.Entry) {
	id, ok := layout.ParseEdgeSubject(e.Subject)
	if !ok {
		return
	}
	if deleted(&e) {
		if id == r.edge && !r.stopped.Load() {
			r.opts.Logger.Warn("another edge has taken this one's name: give each edge its own", "name", r.opts.Edge.Name)
			r.proveAlive()
			return
		}
		r.died(e.Time, id)
		return
	}
	var lease Edge
	if err := json.Unmarshal(e.Data, &lease); err != nil {
		r.opts.Logger.Warn("unreadable lease ignored", "edge", id, "err", err)
		return
	}
	lease.ID, lease.Heard = strings.Clone(id), time.Now()
	r.mu.Lock()
	defer r.mu.Unlock()
	r.edges[lease.ID] = &edgeState{Edge: lease}
}

// aliveLocked takes a session that an edge has written as a sign of life, since
// the lease comes by another reader and may arrive later. at is when the session
// was stored: one older than the removal of the edge's lease proves nothing.
func (r *Roster) aliveLocked(s *session, at int64) {
	if !s.online() || s.writer() != s.Edge {
		return
	}
	st := r.edges[s.Edge]
	if st == nil {
		st = &edgeState{Edge: Edge{ID: s.Edge}}
		r.edges[s.Edge] = st
	}
	if st.gone == 0 || at > st.gone {
		st.dead, st.gone, st.Heard = time.Time{}, 0, time.Now()
	}
}

// died marks edges as dead. gone is when their leases were removed; 0 if they ran
// out.
func (r *Roster) died(gone int64, ids ...string) {
	now := time.Now()
	r.mu.Lock()
	live := r.live
	for _, id := range ids {
		st := r.edges[id]
		if st == nil {
			st = &edgeState{Edge: Edge{ID: strings.Clone(id)}}
			r.edges[st.ID] = st
		}
		st.dead, st.gone = now, gone
	}
	r.mu.Unlock()
	if live && len(ids) > 0 && r.opts.Died != nil {
		r.opts.Died()
	}
}

// noteUnknownEdges marks edges as dead that sessions name and that have no lease.
// It is called when all buckets have been read, leases last.
func (r *Roster) noteUnknownEdges() {
	unknown := make(map[string]bool)
	r.mu.RLock()
	for _, devices := range r.users {
		for d := range devices.all() {
			if d.sess.online() && r.edges[d.sess.Edge] == nil {
				unknown[d.sess.Edge] = true
			}
		}
	}
	r.mu.RUnlock()
	r.died(0, slices.Collect(maps.Keys(unknown))...)
}

// EdgeID returns the id of this edge; empty if the roster only follows.
func (r *Roster) EdgeID() string { return r.edge }

// Alive reports whether an edge is known and not dead.
func (r *Roster) Alive(id string) bool {
	r.mu.RLock()
	defer r.mu.RUnlock()
	st := r.edges[id]
	return st != nil && !st.isDead()
}

// Edges returns the edges that are alive, by name. What they say of other tenants is
// left out: services ask for this list, too.
func (r *Roster) Edges() []Edge {
	r.mu.RLock()
	defer r.mu.RUnlock()
	var all []Edge
	for _, st := range r.edges {
		if !st.isDead() {
			e := st.Edge
			e.Unserved = ""
			all = append(all, e)
		}
	}
	slices.SortFunc(all, func(a, b Edge) int { return strings.Compare(a.Name+a.ID, b.Name+b.ID) })
	return all
}

// begin ends the leases and sessions that earlier processes of this edge's name
// have left, and takes the lease.
func (r *Roster) begin(ctx context.Context) error {
	var before []string
	r.mu.RLock()
	for id, st := range r.edges {
		if st.Name == r.opts.Edge.Name && !st.isDead() {
			before = append(before, id)
		}
	}
	r.mu.RUnlock()
	for _, id := range before {
		r.out.send(removal(layout.EdgeSubject(id)), func(_ uint64, err error) {
			if err != nil {
				r.opts.Logger.Warn("lease of an earlier process not removed", "edge", id, "err", err)
			}
		})
	}
	r.died(time.Now().UnixNano(), before...)
	if err := r.Sweep(ctx); err != nil {
		return err
	}
	taken := make(chan error, 1)
	r.renew(func(err error) { taken <- err })
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
func (r *Roster) renew(done func(error)) {
	sent := time.Since(r.started)
	r.renewed.Store(int64(sent))
	r.mu.RLock()
	devices := len(r.slots)
	r.mu.RUnlock()
	lease := Edge{
		ID: r.edge, Name: r.opts.Edge.Name, Process: r.opts.Edge.Process, Address: r.address(), URL: r.opts.Edge.URL, Version: r.opts.Edge.Version,
		Started: r.started.UTC(), Devices: devices, Unready: r.unready(), Unserved: r.unserved(), Draining: r.draining(),
		TakenUp: r.opts.Edge.TakenUp,
	}
	r.leased.Store(changes{lease.Address, lease.Unready != "", lease.Unserved != "", lease.Draining})
	data, err := json.Marshal(&lease)
	if err != nil {
		done(err)
		return
	}
	r.out.send(&nats.Msg{Subject: layout.EdgeSubject(r.edge), Data: data}, func(_ uint64, err error) {
		if err == nil {
			r.confirm(sent)
		}
		done(err)
	})
}

// confirm notes that a lease is stored.
func (r *Roster) confirm(sent time.Duration) {
	before := time.Duration(r.confirmed.Swap(int64(sent)))
	if before != 0 && sent-before > r.opts.Lease {
		r.doubted.Store(int64(time.Since(r.started)))
	}
}

// Doubtful reports whether others may take this edge for dead, or have done so a
// moment ago: it was stopped, or cut off, for the length of a lease. Somebody else may
// have given its devices messages then, and what ends their sessions here may not have
// been read yet.
func (r *Roster) Doubtful() bool {
	now := time.Since(r.started)
	if now-time.Duration(r.confirmed.Load()) > r.opts.Lease {
		return true
	}
	doubted := time.Duration(r.doubted.Load())
	return doubted != 0 && now-doubted < r.opts.Lease/2
}

// changes is the part of the lease whose changes are stored at once, before the
// next renewal is due.
type changes struct {
	address  string
	unready  bool
	unserved bool
	draining bool
}

// address returns where devices connect to this edge.
func (r *Roster) address() string {
	if r.opts.Edge.Address == nil {
		return ""
	}
	return r.opts.Edge.Address()
}

// unready returns why this edge cannot serve; empty if it can.
func (r *Roster) unready() string {
	if r.opts.Edge.Unready == nil {
		return ""
	}
	return r.opts.Edge.Unready()
}

// unserved returns which other tenants this process does not serve, and why.
func (r *Roster) unserved() string {
	if r.opts.Edge.Others == nil {
		return ""
	}
	return r.opts.Edge.Others()
}

// draining reports whether this edge takes no more devices.
func (r *Roster) draining() bool { return r.opts.Edge.Draining != nil && r.opts.Edge.Draining() }

func (r *Roster) renewNow() {
	r.renew(func(err error) {
		if err != nil && !r.stopped.Load() {
			r.opts.Logger.Warn("lease not renewed", "err", err)
		}
	})
}

// proveAlive renews the lease early, unless that was just done. What is sent
// afterwards is also stored afterwards.
func (r *Roster) proveAlive() {
	if last := r.renewed.Load(); time.Since(r.started)-time.Duration(last) > r.opts.Lease/20 && !r.stopped.Load() {
		r.renewNow()
	}
}

// watch renews the lease and notices edges that do not renew theirs.
func (r *Roster) watch() {
	tick := time.NewTicker(r.opts.Lease / 20)
	defer tick.Stop()
	hearing := hearing{since: time.Now(), looked: time.Now()}
	for {
		select {
		case <-r.quit:
			return
		case now := <-tick.C:
			if r.edge != "" && !r.stopped.Load() {
				if now.Sub(r.started)-time.Duration(r.renewed.Load()) >= r.opts.Lease/3 || r.leased.Load() != (changes{r.address(), r.unready() != "", r.unserved() != "", r.draining()}) {
					r.renewNow()
				}
			}
			r.expire(now, hearing.check(now, r.leases.Quiet(), r.opts.Lease/2))
		}
	}
}

// hearing is since when this process has heard of the leases without a break. It
// must not take others for dead when it was away itself: cut off, or stopped.
// Owned by watch.
type hearing struct {
	since, looked time.Time
}

// check returns since when there has been no break longer than most.
func (h *hearing) check(now time.Time, quiet, most time.Duration) time.Time {
	if quiet > most || now.Sub(h.looked) > most {
		h.since = now
	}
	h.looked = now
	return h.since
}

// expire marks edges as dead that were not heard of for the length of a lease.
// This process must have been able to hear them for all of that time.
func (r *Roster) expire(now, hearing time.Time) {
	if now.Sub(hearing) <= r.opts.Lease {
		return
	}
	var dead []string
	r.mu.RLock()
	for id, st := range r.edges {
		if !st.isDead() && id != r.edge && now.Sub(st.Heard) > r.opts.Lease {
			dead = append(dead, id)
		}
	}
	r.mu.RUnlock()
	r.died(0, dead...)
}

// finish ends this edge's sessions and its lease.
func (r *Roster) finish(ctx context.Context) error {
	r.mu.RLock()
	slots := slices.Collect(maps.Values(r.slots))
	r.mu.RUnlock()
	for _, sl := range slots {
		if s := sl.current.Load(); s != nil {
			s.Close(false, nil)
		}
		r.tidy(sl)
	}
	wait := make(chan struct{})
	r.mu.Lock()
	left := len(r.slots)
	if left == 0 {
		close(wait)
	} else {
		r.empty = wait
	}
	r.mu.Unlock()
	var err error
	select {
	case <-wait:
	case <-ctx.Done():
		return fmt.Errorf("roster: sessions of %d devices not ended: %w", left, ctx.Err())
	}
	gone := make(chan error, 1)
	r.out.send(removal(layout.EdgeSubject(r.edge)), func(_ uint64, err error) { gone <- err })
	select {
	case err = <-gone:
	case <-ctx.Done():
		err = ctx.Err()
	}
	if err != nil {
		return fmt.Errorf("roster: lease not given up: %w", err)
	}
	return nil
}
