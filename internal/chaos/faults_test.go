package chaos_test

import (
	"context"
	"math/rand/v2"
	"syscall"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/rccs-io/rccs/auth"
	"github.com/rccs-io/rccs/internal/natstest"
	"github.com/rccs-io/rccs/subjects"
)

// fault is one way to break the cluster. It returns when it is mended.
type fault struct {
	name string
	make func(c *cluster, rnd *rand.Rand)
}

var faults = []fault{
	{"SIGKILL of an edge", func(c *cluster, rnd *rand.Rand) { c.restart(c.edge(rnd), syscall.SIGKILL, rnd) }},
	{"SIGKILL of a server", func(c *cluster, rnd *rand.Rand) { c.restart(c.server(rnd), syscall.SIGKILL, rnd) }},
	{"SIGKILL of the inbox's leader", func(c *cluster, rnd *rand.Rand) { c.restart(c.leader(rnd), syscall.SIGKILL, rnd) }},
	{"SIGSTOP of an edge, and back", func(c *cluster, rnd *rand.Rand) { c.pause(c.edge(rnd), rnd) }},
	{"SIGSTOP of a server, and back", func(c *cluster, rnd *rand.Rand) { c.pause(c.server(rnd), rnd) }},
	{"a server cut off from all", func(c *cluster, rnd *rand.Rand) { c.isolate(rnd.IntN(servers), true, rnd) }},
	{"a server cut off from the servers", func(c *cluster, rnd *rand.Rand) { c.isolate(rnd.IntN(servers), false, rnd) }},
	{"an edge cut off from the servers", func(c *cluster, rnd *rand.Rand) { c.strand(rnd) }},
	{"all devices cut off", func(c *cluster, rnd *rand.Rand) { c.apart(rnd, c.devices) }},
	{"all connections of devices lost", func(c *cluster, _ *rand.Rand) { c.devices.Drop() }},
	{"a new leader of the inbox", func(c *cluster, _ *rand.Rand) { c.stepDown() }},
	{"rolling restart of the edges", func(c *cluster, rnd *rand.Rand) { c.roll(c.procs[servers:], rnd) }},
	{"rolling restart of the servers", func(c *cluster, rnd *rand.Rand) { c.roll(c.procs[:servers], rnd) }},
}

func (c *cluster) server(rnd *rand.Rand) *proc { return c.procs[rnd.IntN(servers)] }
func (c *cluster) edge(rnd *rand.Rand) *proc   { return c.procs[servers+rnd.IntN(edges)] }

// hold is how long a fault stands: shorter and longer than leases and elections
// take.
func (c *cluster) hold(rnd *rand.Rand) {
	lasts := time.NewTimer(time.Second + time.Duration(rnd.Int64N(int64(14*time.Second))))
	defer lasts.Stop()
	select {
	case <-lasts.C:
	case <-c.t.Context().Done():
	}
}

// restart ends a process and starts it again.
func (c *cluster) restart(p *proc, how syscall.Signal, rnd *rand.Rand) {
	c.t.Helper()
	p.signal(how)
	if rnd.IntN(2) == 0 {
		c.hold(rnd)
	}
	p.start()
	c.ready(c.procs)
}

func (c *cluster) pause(p *proc, rnd *rand.Rand) {
	c.t.Helper()
	p.signal(syscall.SIGSTOP)
	c.hold(rnd)
	p.signal(syscall.SIGCONT)
	c.ready(c.procs)
}

// roll restarts processes in the orderly way, one after the other.
func (c *cluster) roll(list []*proc, _ *rand.Rand) {
	c.t.Helper()
	for _, p := range list {
		p.signal(syscall.SIGTERM)
		p.start()
		c.ready(c.procs)
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
	c.hold(rnd)
	for _, p := range ways {
		p.Heal()
	}
	c.ready(c.procs)
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
	for e := range edges {
		if all {
			ways = append(ways, c.clients[e][s])
		}
	}
	c.apart(rnd, ways...)
}

// strand cuts an edge off from all servers.
func (c *cluster) strand(rnd *rand.Rand) {
	c.t.Helper()
	c.apart(rnd, c.clients[rnd.IntN(edges)][:]...)
}

// jetStream asks a server directly.
func (c *cluster) jetStream() (jetstream.JetStream, *nats.Conn) {
	c.t.Helper()
	keys, err := auth.OpenKeystore(c.plan.Data())
	if err != nil {
		c.t.Fatal(err)
	}
	cred, err := keys.IssuePart("chaos")
	if err != nil {
		c.t.Fatal(err)
	}
	url := ""
	for _, p := range c.procs[:servers] {
		url += ",nats://" + p.NATS
	}
	nc, err := nats.Connect(url[1:], cred.Option(), nats.CustomInboxPrefix(subjects.PartReplyPrefix), nats.MaxReconnects(-1))
	if err != nil {
		c.t.Fatal(err)
	}
	js, err := jetstream.New(nc)
	if err != nil {
		c.t.Fatal(err)
	}
	return js, nc
}

// leader is the server that leads the inbox stream.
func (c *cluster) leader(rnd *rand.Rand) *proc {
	c.t.Helper()
	js, nc := c.jetStream()
	defer nc.Close()
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	if stream, err := js.Stream(ctx, subjects.StreamInbox); err == nil && stream.CachedInfo().Cluster != nil {
		for _, p := range c.procs[:servers] {
			if p.Name == stream.CachedInfo().Cluster.Leader {
				return p
			}
		}
	}
	return c.server(rnd)
}

func (c *cluster) stepDown() {
	c.t.Helper()
	_, nc := c.jetStream()
	defer nc.Close()
	if _, err := nc.Request("$JS.API.STREAM.LEADER.STEPDOWN."+subjects.StreamInbox, nil, 5*time.Second); err != nil {
		c.t.Logf("no new leader: %v", err)
	}
	c.ready(c.procs)
}

// current waits until every copy of every stream is up to date: to stop a server
// before would leave a majority that lacks messages, and wait for it.
func (c *cluster) current() {
	c.t.Helper()
	js, nc := c.jetStream()
	defer nc.Close()
	state := ""
	c.eventually("all copies are current", func() bool {
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
