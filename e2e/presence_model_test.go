package e2e_test

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
	"time"
)

// crowd is what must be true of a user's devices, whatever happens to their
// sockets and to the edges: who is online, and what a witness was told.
type crowd struct {
	t       *testing.T
	user    string
	s       *server    // with the witness; it lives
	edges   [3]*server // the first is s's own
	witness *device
	all     []*member
	done    []string // for people
}

type member struct {
	name   string
	live   *device // nil: offline
	at     int     // which edge
	online bool
	due    []string // what the witness has to be told still
}

func (m *member) see(online bool) {
	if m.online == online {
		return
	}
	m.online = online
	m.due = append(m.due, map[bool]string{true: "online", false: "offline"}[online])
}

// Presence never says online for a dead socket nor offline for a live one: at
// random, devices connect, take over, leave, are cut and fall silent, and edges
// are killed and come back.
func TestProtocol_4_PresenceIsTrueWhateverHappens(t *testing.T) {
	t.Parallel()
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	rnd := rand.New(rand.NewPCG(seed, 0))
	s := start(t)
	c := &crowd{t: t, user: user(t), s: s, edges: [3]*server{s, s.edge(t, "one"), s.edge(t, "two")}}
	c.witness = connect(t, s, c.user+"/witness", object{"type": "watch"})
	for n := range 4 {
		c.all = append(c.all, &member{name: fmt.Sprint("device", n)})
	}
	for range 15 {
		c.step(rnd)
		c.check()
	}
	c.witness.unmoved(quiet)
}

func (c *crowd) step(rnd *rand.Rand) {
	m, edge := c.all[rnd.IntN(len(c.all))], rnd.IntN(len(c.edges))
	switch what := rnd.IntN(20); {
	case what < 11:
		c.note("%s connects to %d", m.name, edge)
		c.connect(m, edge, dialing{})
	case what < 14 && m.live != nil:
		c.note("%s is cut", m.name)
		m.live.close()
		m.live = nil
		m.see(false)
	case what < 17 && m.live != nil:
		c.note("%s leaves", m.name)
		m.live.leave()
		m.live = nil
		m.see(false)
	case what == 17:
		c.note("%s falls silent on %d", m.name, edge)
		c.connect(m, edge, dialing{deaf: true})
		m.live = nil
		m.see(false)
	case what >= 18 && edge > 0:
		c.kill(edge, rnd.IntN(2) == 0)
	}
}

func (c *crowd) note(format string, args ...any) {
	c.done = append(c.done, fmt.Sprintf(format, args...))
}

func (c *crowd) connect(m *member, edge int, how dialing) {
	c.t.Helper()
	old := m.live
	var extra object
	if how.deaf { // the others have time to answer on a machine that stalls
		extra = object{"heartbeatMs": 5000}
	}
	m.live, m.at = connectBy(c.t, c.edges[edge], c.user+"/"+m.name, how, extra), edge
	m.see(true)
	if old != nil {
		old.wantReplaced()
	}
}

// kill ends an edge without a word. It comes back under its name at once, or
// when its lease has ended.
func (c *crowd) kill(edge int, atOnce bool) {
	c.t.Helper()
	c.note("edge %d is killed, and back at once: %v", edge, atOnce)
	if err := c.edges[edge].kill(); err != nil {
		c.t.Fatal(err)
	}
	for _, m := range c.all {
		if m.live != nil && m.at == edge {
			m.live = nil
			m.see(false)
		}
	}
	if !atOnce {
		c.check()
	}
	c.edges[edge] = c.s.edge(c.t, []string{"", "one", "two"}[edge])
}

// check waits until the witness was told what it has to be, in the order of
// each device and nothing else, and sees the same in the list.
func (c *crowd) check() {
	c.t.Helper()
	due := 0
	for _, m := range c.all {
		due += len(m.due)
	}
	for ; due > 0; due-- {
		p := c.witness.heard()
		i := slices.IndexFunc(c.all, func(m *member) bool { return m.name == p.DeviceID })
		if i < 0 || len(c.all[i].due) == 0 || c.all[i].due[0] != p.Status {
			c.t.Fatalf("after %q: told %+v", c.done, p)
		}
		c.all[i].due = c.all[i].due[1:]
	}
	list := c.witness.list()
	for _, m := range c.all {
		if got := list[m.name].Status; (got == "online") != m.online {
			c.t.Fatalf("after %q: %s is listed as %q", c.done, m.name, got)
		}
		if m.live != nil {
			m.live.beat()
		}
	}
}
