package coordinator_test

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"slices"
	"strconv"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/rccs-io/rccs/coordinator"
	"github.com/rccs-io/rccs/internal/layout"
	"github.com/rccs-io/rccs/internal/natstest"
	"github.com/rccs-io/rccs/internal/shard"
	"github.com/rccs-io/rccs/subjects"
)

// team is a process with a coordinator for each shard.
type team struct {
	*coordinator.Coordinator // which answers requests
	registry                 *prometheus.Registry
	stop                     func()
}

// team runs the coordinators of so many shards.
func (p *place) team(shards int) team {
	p.t.Helper()
	reg := prometheus.NewRegistry()
	opts := coordinator.Options{Dial: p.dial, Metrics: coordinator.NewMetrics(reg), Logger: slog.New(slog.NewTextHandler(p.t.Output(), nil))}
	var others []*coordinator.Coordinator
	stop := func() {
		for _, c := range others {
			if err := c.Stop(context.WithoutCancel(p.t.Context())); err != nil {
				p.t.Errorf("stop: %v", err)
			}
		}
	}
	p.t.Cleanup(stop)
	for n := 1; n < shards; n++ {
		opts.Shard, opts.Quiet = shard.At(n, shards), true
		c, err := coordinator.New(opts)
		if err != nil {
			p.t.Fatal(err)
		}
		if err := c.Start(p.ctx()); err != nil {
			p.t.Fatal(err)
		}
		others = append(others, c)
	}
	opts.Shard, opts.Quiet, opts.Others = shard.At(0, shards), false, others
	c, first := p.coordinateWith(opts)
	return team{c, reg, func() { first(); stop() }}
}

// dropped is how many messages this team has dropped that name no route.
func (m team) dropped(t *testing.T) (n int) {
	t.Helper()
	all, err := m.registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, family := range all {
		for _, one := range family.GetMetric() {
			if family.GetName() == "rccs_routed_total" && one.GetLabel()[0].GetValue() == "bad" {
				n += int(one.GetCounter().GetValue())
			}
		}
	}
	return n
}

func TestTwoCoordinatorsShareTheShards(t *testing.T) {
	t.Parallel()
	const shards = 4
	p := newPlace(t)
	natstest.StreamsOfShards(t, p.nc, shards)
	a := p.team(shards)
	if got := a.Works(); len(got) != shards {
		t.Fatalf("the only one works %v", got)
	}
	b := p.team(shards)
	p.eventually("each works half of them", func() bool {
		all := append(a.Works(), b.Works()...)
		slices.Sort(all)
		return len(a.Works()) == shards/2 && slices.Equal(all, []int{0, 1, 2, 3})
	})
	route := func(each int) {
		for n := range shards * each {
			p.publish(shard.At(n%shards, shards).Subject("rccs.route.user:42.all"), strconv.Itoa(n))
		}
	}
	route(5)
	p.eventually("all is done", func() bool { return a.dropped(t)+b.dropped(t) >= 5*shards })
	if a, b := a.dropped(t), b.dropped(t); a != b {
		t.Errorf("they did %d and %d", a, b)
	}
	var status struct {
		Routing struct{ Read uint64 }
	}
	p.eventually("whoever is asked knows of all", func() bool {
		p.ask("status", nil, &status)
		return status.Routing.Read == 5*shards
	})
	b.stop()
	p.eventually("who stops hands its shards over", func() bool { return len(a.Works()) == shards })
	done := a.dropped(t)
	route(1)
	p.eventually("all is done by the other", func() bool { return a.dropped(t) == done+shards })
}

func TestTheDeathOfACoordinatorHandsItsShardOver(t *testing.T) {
	t.Parallel()
	p, e := placeWithEdge(t)
	p.connect(e, "alice/phone", "mobile")
	type one struct {
		*coordinator.Coordinator
		crash func()
	}
	var all [2]one
	for n := range all {
		all[n].Coordinator, all[n].crash = p.fragile()
	}
	p.eventually("one of them works the shard", func() bool { return len(all[0].Works())+len(all[1].Works()) == 1 })
	dies, lives := all[0], all[1]
	if len(lives.Works()) == 1 {
		dies, lives = lives, dies
	}
	dies.crash()
	p.publish(subjects.Route("alice", subjects.Selector{}), "after")
	p.eventually("the other gives out what comes", func() bool { return slices.Equal(p.inbox("alice/phone"), []string{"after"}) })
	p.eventually("it works the shard", func() bool { return len(lives.Works()) == 1 })
	lives.crash()
}

// One that cannot do its work, but hears and could tell others that it is there, has
// no shard.
func TestTheShardOfACoordinatorThatIsNotWellIsTaken(t *testing.T) {
	t.Parallel()
	p, e := placeWithEdge(t)
	p.connect(e, "alice/phone", "mobile")
	a, connA, crashA := p.frail()
	b, connB, crashB := p.frail()
	defer crashA()
	defer crashB()
	p.eventually("one of them works the shard", func() bool { return len(a.Works())+len(b.Works()) == 1 })
	conn, other := connA, b
	if len(b.Works()) == 1 {
		conn, other = connB, a
	}
	conn("read").Close()
	p.publish(subjects.Route("alice", subjects.Selector{}), "after")
	p.eventually("the other gives out what comes", func() bool { return slices.Equal(p.inbox("alice/phone"), []string{"after"}) })
	answers, err := p.nc.SubscribeSync(p.nc.NewInbox())
	if err != nil {
		t.Fatal(err)
	}
	p.eventually("whoever asks is not told of it", func() bool { // when what it said before has come
		if err := p.nc.PublishRequest(layout.Members(), answers.Subject, []byte(`{"id":"new"}`)); err != nil {
			t.Fatal(err)
		}
		ok := true
		for range 2 { // both hear who is new, and answer
			m, err := answers.NextMsg(patience)
			if err != nil {
				t.Fatal(err)
			}
			var all []struct{ ID string }
			if err := json.Unmarshal(m.Data, &all); err != nil {
				t.Fatal(err)
			}
			for _, one := range all {
				ok = ok && (one.ID == "new" || one.ID == other.ID())
			}
		}
		return ok
	})
}

// A coordinator whose process is paused neither hears nor says anything. When it
// goes on, it finishes what it was about to do, though another has its shard.
func TestAPauseOfACoordinatorDoesNoHarm(t *testing.T) {
	t.Parallel()
	p := newPlace(t, natstest.Listen())
	e := p.edge("e")
	p.connect(e, "alice/phone", "mobile")
	p.connect(e, "alice/desk", "desktop")
	var all [2]*coordinator.Coordinator
	var ways [2]*natstest.Proxy
	for n := range all {
		ways[n] = natstest.NewProxy(t, p.env.Addr())
		all[n], _ = p.coordinateBeating(coordinator.Options{Dial: func(_ string, opts ...nats.Option) (*nats.Conn, error) {
			return natstest.Connect(ways[n].URL(), append([]nats.Option{nats.CustomInboxPrefix(layout.PartReplyPrefix), nats.Timeout(patience)}, opts...)...)
		}}, 100*time.Millisecond)
	}
	works := func() string { return fmt.Sprint(len(all[0].Works()), len(all[1].Works())) }
	var want []string
	send := func(n int) {
		for range n {
			want = append(want, strconv.Itoa(len(want)))
			p.publish(subjects.Route("alice", subjects.Selector{}), want[len(want)-1])
		}
	}
	for range 3 {
		p.eventually("one of them works the shard", func() bool { return works() == "1 0" || works() == "0 1" })
		paused := slices.Index([]string{"1 0", "0 1"}, works())
		if paused < 0 {
			continue // it was just handed over
		}
		send(50)
		ways[paused].Freeze()
		send(50)
		p.eventually("the other works it as well", func() bool { return len(all[1-paused].Works()) == 1 })
		p.eventually("all is given out", func() bool { return p.routesLeft() == 0 })
		send(50)
		ways[paused].Heal()
		send(50)
	}
	p.eventually("all is given out", func() bool { return p.routesLeft() == 0 })
	for _, d := range []string{"alice/phone", "alice/desk"} {
		if got := p.inbox(d); !slices.Equal(got, want) {
			t.Errorf("%s got %v", d, got)
		}
	}
	p.eventually("one of them works the shard again", func() bool { return works() == "1 0" || works() == "0 1" })
}
