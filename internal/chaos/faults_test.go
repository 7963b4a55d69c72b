package chaos_test

import (
	"context"
	"math/rand/v2"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/rccs-io/rccs/auth"
	"github.com/rccs-io/rccs/internal/layout"
	"github.com/rccs-io/rccs/internal/natstest"
	"github.com/rccs-io/rccs/internal/shard"
)

// faults are all ways to break a cluster that a fleet uses.
func (c *cluster) faults(f *fleet) []fault {
	anyServer := func(rnd *rand.Rand) int { return rnd.IntN(servers) }
	return []fault{
		{"SIGKILL of an edge", true, func(rnd *rand.Rand) { c.restart(c.edge(rnd), rnd) }},
		{"SIGKILL of a server", false, func(rnd *rand.Rand) { c.restart(c.server(rnd), rnd) }},
		{"SIGKILL of the inbox's leader", true, func(rnd *rand.Rand) { c.restart(c.leader(c.stream(layout.StreamInbox, rnd), rnd), rnd) }},
		{"SIGKILL of the cursors' leader", false, func(rnd *rand.Rand) { c.restart(c.leader(c.stream(layout.StreamCursor, rnd), rnd), rnd) }},
		{"SIGKILL of all at once, servers first", false, func(rnd *rand.Rand) { c.killAll(rnd, c.procs[:servers], c.procs[servers:]) }},
		{"SIGKILL of all at once, edges first", false, func(rnd *rand.Rand) { c.killAll(rnd, c.procs[servers:], c.procs[:servers]) }},
		{"SIGSTOP of an edge, and back", false, func(rnd *rand.Rand) { c.pause(c.edge(rnd), rnd) }},
		{"SIGSTOP of a server, and back", false, func(rnd *rand.Rand) { c.pause(c.server(rnd), rnd) }},
		{"a server cut off from all", false, func(rnd *rand.Rand) { c.isolate(anyServer(rnd), true, rnd) }},
		{"a server cut off from the servers", false, func(rnd *rand.Rand) { c.isolate(anyServer(rnd), false, rnd) }},
		{"an edge cut off from the servers", true, c.strand},
		{"all devices cut off", false, func(rnd *rand.Rand) { c.apart(rnd, c.allDoors()...) }},
		{"all connections of devices lost", true, func(*rand.Rand) { c.dropAll() }},
		{"a new leader of the inbox", true, func(rnd *rand.Rand) { c.stepDown(c.stream(layout.StreamInbox, rnd)) }},
		{"rolling restart of the edges", false, func(rnd *rand.Rand) { c.roll(c.procs[servers:], rnd) }},
		{"rolling restart of the servers", false, func(rnd *rand.Rand) { c.roll(c.procs[:servers], rnd) }},
		{"files of a server damaged", false, func(rnd *rand.Rand) { c.damageOne(rnd) }},
		{"a server that can write no more", false, func(rnd *rand.Rand) { c.fillOne(rnd) }},
		{"the clock of a process jumps", false, func(rnd *rand.Rand) { c.jump(rnd, c.procs[rnd.IntN(len(c.procs))]) }},
		{"all clocks jump", false, func(rnd *rand.Rand) { c.jump(rnd, c.procs...) }},
		{"a purge of what waits", false, func(rnd *rand.Rand) { f.purge(rnd, c.plan.Data(), c.procs[anyServer(rnd)]) }},
	}
}

func (c *cluster) server(rnd *rand.Rand) *proc { return c.procs[rnd.IntN(servers)] }
func (c *cluster) edge(rnd *rand.Rand) *proc   { return c.procs[servers+rnd.IntN(len(c.clients))] }

// stream is the name of a stream of package layout in any of the shards.
func (c *cluster) stream(name string, rnd *rand.Rand) string {
	return shard.At(rnd.IntN(c.shards), c.shards).Stream(name)
}

// allDoors are all ways of devices to the edges.
func (c *cluster) allDoors() []*natstest.Proxy {
	return append([]*natstest.Proxy{c.devices}, c.doors...)
}

func (c *cluster) dropAll() {
	for _, p := range c.allDoors() {
		p.Drop()
	}
}

// hold waits for as long as a fault stands: shorter and longer than leases and
// elections take.
func hold(t *testing.T, rnd *rand.Rand) {
	lasts := time.NewTimer(time.Second + time.Duration(rnd.Int64N(int64(14*time.Second))))
	defer lasts.Stop()
	select {
	case <-lasts.C:
	case <-t.Context().Done():
	}
}

// restart kills a process and starts it again.
func (c *cluster) restart(p *proc, rnd *rand.Rand) {
	c.t.Helper()
	p.signal(syscall.SIGKILL)
	if rnd.IntN(2) == 0 {
		hold(c.t, rnd)
	}
	p.start()
	ready(c.t, c.procs)
}

func (c *cluster) pause(p *proc, rnd *rand.Rand) {
	c.t.Helper()
	p.signal(syscall.SIGSTOP)
	hold(c.t, rnd)
	p.signal(syscall.SIGCONT)
	ready(c.t, c.procs)
}

// roll restarts processes in the orderly way, one after the other.
func (c *cluster) roll(list []*proc, _ *rand.Rand) {
	c.t.Helper()
	for _, p := range list {
		p.signal(syscall.SIGTERM)
		p.start()
		ready(c.t, c.procs)
		if p.isServer() {
			c.current()
		}
	}
}

// apart breaks ways for a while: bytes are held, or connections are refused.
func (c *cluster) apart(rnd *rand.Rand, ways ...*natstest.Proxy) {
	c.t.Helper()
	held := rnd.IntN(2) == 0
	for _, p := range ways {
		if held {
			p.Freeze()
		} else {
			p.Cut()
		}
	}
	hold(c.t, rnd)
	for _, p := range ways {
		p.Heal()
	}
	ready(c.t, c.procs)
}

// isolate cuts a server off from the others and, if all, from the edges.
func (c *cluster) isolate(s int, all bool, rnd *rand.Rand) {
	c.t.Helper()
	var ways []*natstest.Proxy
	for other := range servers {
		if other != s {
			ways = append(ways, c.routes[s][other], c.routes[other][s])
		}
	}
	for _, edge := range c.clients {
		if all {
			ways = append(ways, edge[s])
		}
	}
	c.apart(rnd, ways...)
}

// strand cuts an edge off from all servers.
func (c *cluster) strand(rnd *rand.Rand) {
	c.t.Helper()
	c.apart(rnd, c.clients[rnd.IntN(len(c.clients))][:]...)
}

// jetStream asks the servers directly.
func (c *cluster) jetStream() (jetstream.JetStream, *nats.Conn) {
	c.t.Helper()
	var urls []string
	for _, p := range c.procs[:servers] {
		urls = append(urls, "nats://"+p.NATS)
	}
	return part(c.t, c.plan.Data(), strings.Join(urls, ","))
}

// part connects as a part of RCCS, which may see all that is stored.
func part(t *testing.T, data, url string) (jetstream.JetStream, *nats.Conn) {
	t.Helper()
	keys, err := auth.OpenKeystore(data)
	if err != nil {
		t.Fatal(err)
	}
	cred, err := keys.IssuePart("chaos")
	if err != nil {
		t.Fatal(err)
	}
	nc, err := nats.Connect(url, cred.Option(), nats.CustomInboxPrefix(layout.PartReplyPrefix), nats.MaxReconnects(-1))
	if err != nil {
		t.Fatal(err)
	}
	js, err := jetstream.New(nc)
	if err != nil {
		t.Fatal(err)
	}
	return js, nc
}

// leader is the server that leads a stream.
func (c *cluster) leader(name string, rnd *rand.Rand) *proc {
	c.t.Helper()
	js, nc := c.jetStream()
	defer nc.Close()
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	if stream, err := js.Stream(ctx, name); err == nil && stream.CachedInfo().Cluster != nil {
		for _, p := range c.procs[:servers] {
			if p.Name == stream.CachedInfo().Cluster.Leader {
				return p
			}
		}
	}
	return c.server(rnd)
}

func (c *cluster) stepDown(stream string) {
	c.t.Helper()
	_, nc := c.jetStream()
	defer nc.Close()
	if _, err := nc.Request("$JS.API.STREAM.LEADER.STEPDOWN."+stream, nil, 5*time.Second); err != nil {
		c.t.Logf("no new leader: %v", err)
	}
	ready(c.t, c.procs)
}

// current waits until every copy of every stream is up to date: to stop a server
// before would leave a majority that lacks messages, and wait for it.
func (c *cluster) current() {
	c.t.Helper()
	js, nc := c.jetStream()
	defer nc.Close()
	state := ""
	eventually(c.t, "all copies are current", func() bool {
		ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
		defer cancel()
		list := js.ListStreams(ctx)
		state = ""
		for info := range list.Info() {
			if info.Cluster == nil || info.Cluster.Leader == "" {
				state = info.Config.Name + " has no leader"
				continue
			}
			for _, r := range info.Cluster.Replicas {
				if !r.Current || r.Offline {
					state = info.Config.Name + " lags on " + r.Name
				}
			}
		}
		if err := list.Err(); err != nil {
			state = err.Error()
		}
		return state == ""
	}, &state)
}
