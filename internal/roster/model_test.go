package roster_test

import (
	"context"
	"fmt"
	"slices"
	"sync/atomic"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/rccs-io/rccs/internal/roster"
	"github.com/rccs-io/rccs/internal/testkit"
	"github.com/rccs-io/rccs/subjects"
	"github.com/rccs-io/rccs/wire"
)

// model is what must be true: which edge holds each device and how it is seen,
// and what everybody has to be told of it.
type model struct {
	s     *site
	edges [2]*part
	watch *part // follows from the first to the last
	devs  []*modelDevice
	done  []string // for people
}

type modelDevice struct {
	key    subjects.Key
	at     *part // nil: offline
	sess   *roster.Session
	epoch  uint64
	id     subjects.SessionID
	ended  bool
	status string
	was    string // the status with which a resume goes on
	told   []string
}

func (d *modelDevice) see(status string) {
	if d.status != wire.Offline {
		d.was = d.status
	}
	if d.status != status {
		d.status = status
		d.told = append(d.told, status)
	}
}

// Whatever happens: presence is what the sessions are, and each change is told
// once, to all who run, in the order in which it happened.
func TestPresenceIsWhatAModelSays(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	var run atomic.Int64
	rapid.Check(t, func(rt *rapid.T) {
		m := &model{s: s}
		n := run.Add(1)
		name := func(i int) string { return fmt.Sprintf("%d-%d", n, i) }
		m.watch = s.start("")
		defer m.watch.end()
		for i := range m.edges {
			m.edges[i] = s.start(name(i))
		}
		defer func() {
			for _, p := range m.edges {
				p.end()
			}
		}()
		for i := range 3 {
			k := subjects.Address{User: subjects.UserID(fmt.Sprint("user", n)), Device: subjects.DeviceID(fmt.Sprint(i))}.Key()
			m.devs = append(m.devs, &modelDevice{key: k, status: wire.Offline, ended: true})
		}
		for range rapid.IntRange(1, 8).Draw(rt, "steps") {
			m.step(rt, name)
			m.check(rt)
		}
	})
}

// steps are what can happen; openings more often than the rest.
var steps = []string{"open", "open", "open", "status", "close", "end", "forget", "kill", "restart", "cut"}

// step does one thing, and waits until it is done.
func (m *model) step(rt *rapid.T, name func(int) string) {
	d := rapid.SampledFrom(m.devs).Draw(rt, "device")
	i := rapid.IntRange(0, 1).Draw(rt, "edge")
	what := rapid.SampledFrom(steps).Draw(rt, "what")
	m.done = append(m.done, fmt.Sprintf("%s %s %d", what, d.key, i))
	switch {
	case what == "open":
		m.open(rt, d, m.edges[i])
	case what == "status" && d.sess != nil:
		status := rapid.SampledFrom([]string{wire.Online, wire.Away, wire.Busy}).Draw(rt, "status")
		do(m.s.t, func(done func(error)) { d.sess.SetStatus(status, nil, done) })
		d.see(status)
	case (what == "close" || what == "end") && d.sess != nil:
		d.ended = what == "end"
		do(m.s.t, func(done func(error)) { d.sess.Close(d.ended, done) })
		d.sess, d.at = nil, nil
		d.see(wire.Offline)
	case what == "forget" && d.sess == nil && d.epoch > 0:
		do(m.s.t, func(done func(error)) { m.watch.Forget(d.key, done) })
		d.ended = true
	case what == "kill", what == "restart":
		m.replace(i, what == "kill", name(i))
	case what == "cut": // of what is under way, the answers are lost
		m.edges[i].proxy.Drop()
	}
}

func (m *model) open(rt *rapid.T, d *modelDevice, p *part) {
	ctx, cancel := context.WithTimeout(m.s.t.Context(), 30*time.Second)
	defer cancel()
	old := d.sess
	sess, err := p.Open(ctx, d.key, roster.SessionOptions{Record: &roster.Record{Type: "desktop"}})
	if err != nil {
		rt.Fatalf("open: %v", err)
	}
	if sess.Epoch <= d.epoch || sess.Resumed != !d.ended || sess.Resumed != (sess.ID == d.id) {
		rt.Fatalf("session %s epoch %d resumed %v after %+v", sess.ID, sess.Epoch, sess.Resumed, d)
	}
	if old != nil {
		testkit.Eventually(m.s.t, "the old session is lost", func() bool { return !old.Current() })
	}
	d.at, d.sess, d.epoch, d.id, d.ended = p, sess, sess.Epoch, sess.ID, false
	if d.status == wire.Offline {
		if !sess.Resumed {
			d.was = wire.Online
		}
		d.see(d.was)
	}
}

// replace ends an edge, one way or the other, and starts the next of its name.
func (m *model) replace(i int, kill bool, name string) {
	old := m.edges[i]
	if kill {
		old.kill()
	}
	old.end()
	m.edges[i] = m.s.start(name)
	for _, d := range m.devs {
		if d.at == old {
			d.sess, d.at = nil, nil
			d.see(wire.Offline)
		}
		if seen := m.edges[i].status(d.key); seen != d.status && seen != "unknown" {
			m.s.t.Errorf("after its start edge %s sees %s as %s, and it is %s", name, d.key, seen, d.status)
		}
	}
}

// check compares with the model what each part sees, and what it was told: the
// one that was there from the beginning all of it, the others the end of it.
func (m *model) check(rt *rapid.T) {
	for _, d := range m.devs {
		for n, p := range []*part{m.watch, m.edges[0], m.edges[1]} {
			what := fmt.Sprintf("after %q part %d sees %s as %s, and was told %q", m.done, n, d.key, d.status, d.told)
			testkit.Eventually(m.s.t, what, func() bool {
				got := p.status(d.key)
				if got != d.status && (got != "unknown" || d.status != wire.Offline) {
					return false
				}
				heard := p.heard(d.key) // just behind what is seen
				missed := len(d.told) - len(heard)
				return missed >= 0 && slices.Equal(heard, d.told[missed:]) && (p != m.watch || missed == 0)
			})
		}
		if d.sess != nil && !d.sess.Current() {
			rt.Fatalf("after %q %s has lost its session to nobody", m.done, d.key)
		}
	}
}
