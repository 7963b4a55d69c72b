package coordinator

import (
	"cmp"
	"context"
	"encoding/json"
	"slices"

	"github.com/nats-io/nats.go"

	"github.com/rccs-io/rccs/internal/roster"
	"github.com/rccs-io/rccs/internal/shard"
	"github.com/rccs-io/rccs/internal/share"
	"github.com/rccs-io/rccs/subjects"
	"github.com/rccs-io/rccs/wire"
)

// A tenant with several shards has a coordinator for each in one process. One of
// them, which was given the others, answers requests: it hands what is about a
// user to the coordinator of that user's shard, and asks all for lists.

// all returns the coordinators of the tenant's shards in this process, by number.
func (c *Coordinator) all() []*Coordinator {
	if c.opts.Shard.Alone() {
		return []*Coordinator{c}
	}
	all := append([]*Coordinator{c}, c.opts.Others...)
	slices.SortFunc(all, func(a, b *Coordinator) int { return cmp.Compare(a.opts.Shard.N(), b.opts.Shard.N()) })
	return all
}

// spread has endpoints answer for all shards.
func (c *Coordinator) spread(endpoints []*endpoint) {
	if c.opts.Shard.Alone() {
		return
	}
	all := c.all()
	handlers := make(map[string][]handler)
	for _, one := range all {
		for _, e := range slices.Concat(one.operatorEndpoints(), one.deviceEndpoints()) {
			e.pool.Stop() // the requests are in the turns of c's own
			handlers[e.name] = append(handlers[e.name], e.handle)
		}
	}
	merged := map[string]handler{ // the last three ask all rosters anyway
		"status": c.statusOfAll, "devices": c.listDevices, "sessions": c.listSessions, "edges": c.listEdges,
	}
	for _, e := range endpoints {
		if h := merged[e.name]; h != nil {
			e.handle = h
		} else if of := handlers[e.name]; of != nil {
			e.handle = func(ctx context.Context, req *request) (any, *wire.Error) {
				return of[shard.Of(req.userToken(), len(of))](ctx, req)
			}
		}
	}
}

// userToken returns the token of the user whom a request is about. What does not
// name one is refused wherever it is handled.
func (r *request) userToken() string {
	if r.key != "" {
		return r.key.User()
	}
	var q struct {
		User string `json:"user"`
	}
	_ = json.Unmarshal(r.Data, &q) // the handler refuses a bad body
	return subjects.Escape(q.User)
}

// allShares are the shares of all shards.
type allShares []*Coordinator

// Admit implements [guard.Shares].
func (all allShares) Admit(k share.Kind, key subjects.Key, size int) *wire.Error {
	return all[shard.Of(key.User(), len(all))].shares.Admit(k, key, size)
}

func (c *Coordinator) statusOfAll(ctx context.Context, req *request) (any, *wire.Error) {
	var sum *statusView
	for _, one := range c.all() {
		answer, werr := one.status(ctx, req)
		if werr != nil {
			return nil, werr
		}
		v := answer.(*statusView) //nolint:forcetypeassert // status returns nothing else
		if sum == nil {
			sum = v
			continue
		}
		sum.Devices, sum.Online = sum.Devices+v.Devices, sum.Online+v.Online
		sum.Edges = append(sum.Edges, v.Edges...)
		for _, s := range v.Streams {
			if !slices.ContainsFunc(sum.Streams, func(have streamView) bool { return have.Name == s.Name }) {
				sum.Streams = append(sum.Streams, s)
			}
		}
	}
	if !c.opts.Shard.Alone() {
		sum.Edges = roster.MergeEdges(sum.Edges)
	}
	work := c.members.load()
	sum.Routing.Fresh, sum.Routing.Users, sum.Routing.Read = work.Fresh, work.Users, work.Read
	sum.Deadlines = work.Deadlines
	return sum, nil
}

// rosters are those of all shards, by number.
func (c *Coordinator) rosters() []*roster.Roster {
	var all []*roster.Roster
	for _, one := range c.all() {
		all = append(all, one.roster)
	}
	return all
}

// edges returns the edges of all shards, each process once.
func (c *Coordinator) edges() []roster.Edge {
	if c.opts.Shard.Alone() {
		return c.roster.Edges()
	}
	var all []roster.Edge
	for _, r := range c.rosters() {
		all = append(all, r.Edges()...)
	}
	return roster.MergeEdges(all)
}

// onPublish is called for what is published to routes. NATS has mapped its subject to that
// of the shard.
func (r *router) onPublish(m *nats.Msg) {
	m.Subject = r.c.opts.Shard.Plain(m.Subject)
	r.senders.hear(m)
}
