package chaos_test

import (
	"fmt"
	"math/rand/v2"
	"os"
	"slices"
	"syscall"
	"testing"

	"github.com/rccs-io/rccs/internal/need"
	"github.com/rccs-io/rccs/internal/shard"
	"github.com/rccs-io/rccs/subjects"
)

// A tenant with several shards has as many edges, each of which serves two of the
// shards and tells devices of the others where to go.
const shards = 4

// Nothing that is accepted is lost in a tenant with several shards, whatever
// breaks, and while edges send devices to each other.
func TestFault_NothingAcceptedIsLostInAnyOfSeveralShards(t *testing.T) {
	t.Parallel()
	if !long() {
		need.Night(t, "it runs three servers and four edges")
	}
	c := layOutWith(t, t.TempDir(), shards, shards)
	c.begin()
	defer c.health()
	f := newFleetOf(t, target{data: c.plan.Data(), devices: c.devices.Addr(), edges: c.procs[servers:]}, oneUserOfEach())
	suffer(t, fmt.Sprintf("Three servers, %d edges, %d shards", shards, shards), f, append(c.faults(f),
		fault{"devices sent to other edges, servers killed", true, c.move},
		fault{"an edge is drained, a server killed", false, func(rnd *rand.Rand) { c.drain(rnd) }}))
	if c.moved == 0 && os.Getenv("RCCS_CHAOS_ONLY") == "" {
		t.Error("no device was sent to another edge")
	}
	t.Logf("%d times a device was sent to another edge", c.moved)
}

// oneUserOfEach returns users, one of each shard.
func oneUserOfEach() []string {
	users := make([]string, shards)
	for n := 0; slices.Contains(users, ""); n++ {
		name := fmt.Sprint("user", n)
		users[shard.OfUser(subjects.UserID(name), shards)] = name
	}
	return users
}

// share are the shards that an edge serves, by the turn of the cluster.
func (c *cluster) share(edge int) string {
	from := (edge + c.turn) % c.shards
	if to := from + 1; to < c.shards {
		return fmt.Sprintf("%d-%d", from, to)
	}
	return fmt.Sprintf("%d,0", from)
}

// move gives each edge the shards of another. Devices come back to the edge that
// they know, which sends them to one that serves them now. Meanwhile servers are
// killed.
func (c *cluster) move(rnd *rand.Rand) {
	c.t.Helper()
	c.turn += 1 + rnd.IntN(c.shards-1)
	for e, p := range c.procs[servers:] {
		down := c.server(rnd)
		down.signal(syscall.SIGKILL)
		p.Args[slices.Index(p.Args, "--shards")+1] = c.share(e)
		p.signal([]syscall.Signal{syscall.SIGKILL, syscall.SIGTERM}[rnd.IntN(2)])
		p.start()
		if rnd.IntN(2) == 0 {
			ready(c.t, c.procs[servers:])
		}
		down.start()
		ready(c.t, c.procs)
	}
	for _, p := range c.procs[servers:] { // since they were started
		c.moved += p.metric(`rccs_closes_total{code="4301"}`)
	}
}

// drain has an edge send its devices away, while a server is killed.
func (c *cluster) drain(rnd *rand.Rand) {
	c.t.Helper()
	p, down, by := c.edge(rnd), c.server(rnd), c.procs[0]
	if down == by {
		by = c.procs[1]
	}
	down.signal(syscall.SIGKILL)
	for _, args := range [][]string{{}, {"--undo"}} {
		out := ""
		eventually(c.t, "the edge hears of it", func() bool {
			var status int
			status, out = by.command(c.plan.Data(), append([]string{"edges", "drain", p.Name}, args...)...)
			return status == 0
		}, &out)
		hold(c.t, rnd)
	}
	down.start()
	ready(c.t, c.procs)
}
