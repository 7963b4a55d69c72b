package inbox_test

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/rccs-io/rccs/internal/envelope"
	"github.com/rccs-io/rccs/internal/inbox"
	"github.com/rccs-io/rccs/internal/layout"
	"github.com/rccs-io/rccs/internal/natstest"
	"github.com/rccs-io/rccs/internal/testkit"
	"github.com/rccs-io/rccs/subjects"
)

// readers is the names of the consumers that read the inbox stream.
func (s *system) readers() []string {
	s.t.Helper()
	stream, err := s.js.Stream(s.t.Context(), layout.StreamInbox)
	if err != nil {
		s.t.Fatal(err)
	}
	var names []string
	for name := range stream.ConsumerNames(s.t.Context()).Name() {
		names = append(names, name)
	}
	return names
}

// repairs runs a fault between two bursts of messages and expects that
// nothing is missing, doubled or out of order, and that the reading was
// repaired.
func repairs(t *testing.T, s *system, fault func()) {
	t.Helper()
	d := s.attach(phone, 10000)
	s.put(phone, subjects.Normal, 0, 50)
	expect(t, d.receive(50), numbers(0, 50))
	fault()
	s.put(phone, subjects.Normal, 50, 50)
	expect(t, d.receive(50), numbers(50, 50))
	s.none(d)
	s.eventually("the reading is repaired", func() bool { return s.repaired() > 0 })
	s.put(phone, subjects.Normal, 100, 1)
	expect(t, d.receive(1), "100")
}

func TestHubRepairsALostBatch(t *testing.T) {
	t.Parallel()
	// A busy machine may hear nothing for a while, which is another reason to repair.
	s := newSystem(t, func(o *inbox.Options) { o.Heartbeat = 10 * time.Second })
	repairs(t, s, func() {
		// Another client's pull takes messages away from the hub's consumer:
		// the hub sees a hole in the consumer's sequence. Its own request is
		// the older one, so it is used up first: ask often enough.
		reader := s.readers()[0]
		lost := must(s.nc.SubscribeSync(s.nc.NewInbox()))
		request := []byte(`{"batch":5,"expires":90000000000}`)
		if err := s.nc.PublishRequest("$JS.API.CONSUMER.MSG.NEXT."+layout.StreamInbox+"."+reader, lost.Subject, request); err != nil {
			t.Fatal(err)
		}
		if err := s.nc.Flush(); err != nil {
			t.Fatal(err)
		}
		s.put(subjects.Address{User: "bob", Device: "x"}.Key(), subjects.Normal, 0, 4100)
		if m, err := lost.NextMsg(waitTimeout); err != nil || m.Header.Get("Status") != "" {
			t.Fatalf("no message was taken away: %v, %v", m, err)
		}
	})
	if !strings.Contains(strings.Join(s.reasons(), "\n"), "hole") {
		t.Errorf("repaired for another reason: %q", s.reasons())
	}
}

func (s *system) reasons() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return append([]string(nil), s.restarts...)
}

func TestHubRepairsAConsumerThatVanished(t *testing.T) {
	t.Parallel()
	s := newSystem(t, nil)
	repairs(t, s, func() {
		for _, name := range s.readers() {
			err := s.js.DeleteConsumer(t.Context(), layout.StreamInbox, name)
			if err != nil && !errors.Is(err, jetstream.ErrConsumerNotFound) { // the hub has replaced it meanwhile
				t.Fatal(err)
			}
		}
	})
}

func TestHubRepairsADroppedConnection(t *testing.T) {
	t.Parallel()
	s := newSystem(t, nil)
	repairs(t, s, s.env.Cut)
}

func TestHubRepairsAfterAServerRestart(t *testing.T) {
	t.Parallel()
	s := newSystem(t, nil)
	repairs(t, s, s.env.Restart)
}

func TestHubRepairsAfterAServerIsKilled(t *testing.T) {
	t.Parallel()
	s := newSystem(t, nil)
	repairs(t, s, func() {
		s.env.Kill()
		s.env.Start()
	})
}

// A network that is frozen keeps the connection open: only the missing
// heartbeats show it.
func TestHubRepairsAfterAFrozenNetwork(t *testing.T) {
	t.Parallel()
	env := natstest.Server(t, natstest.Listen())
	proxy := natstest.NewProxy(t, env.Addr())
	s := newSystemOn(t, env, func(o *inbox.Options) {
		o.Read = natstest.Dial(t, proxy.URL(), nats.ReconnectWait(10*time.Millisecond))
	})
	repairs(t, s, func() {
		proxy.Freeze()
		s.eventually("the silence is noticed", func() bool { return s.repaired() > 0 })
		proxy.Heal()
	})
}

// What a device sees of attach, reconnect, take-over, hub restart and broken
// connections, in any order, while messages are stored the whole time: each
// message at least once, in the order of its lane, and nothing again that was
// acknowledged before a detach.
func TestNoGapNoSwapNoDoubleWhileEverythingMoves(t *testing.T) {
	t.Parallel()
	for _, seed := range []uint64{1, 2, 3} {
		t.Run(fmt.Sprint("seed ", seed), func(t *testing.T) {
			t.Parallel()
			churn(t, rand.New(rand.NewPCG(seed, 7)))
		})
	}
}

func churn(t *testing.T, rnd *rand.Rand) {
	const total = 3000
	s := newSystem(t, func(o *inbox.Options) { o.TailMessages = 32 })
	stored := make(chan error, 1)
	go func() {
		for i := range total {
			if err := s.store(phone, subjects.Lane(i%subjects.Lanes), i); err != nil {
				stored <- err
				return
			}
		}
		stored <- nil
	}()
	acked := map[string]bool{}
	var last [subjects.Lanes]uint64 // per connection
	d := s.attachNow(phone, 40)
	var open []envelope.Delivery
	var cut time.Time // leaves time to recover from one before the next
	reattach := func() {
		d = s.attachNow(phone, 1+rnd.IntN(60))
		open, last = nil, [subjects.Lanes]uint64{}
	}
	newest := time.Now() // a message that was not there before
	for len(acked) < total {
		if time.Since(newest) > testkit.Patience {
			t.Fatalf("only %d of %d messages came, and no other for %s", len(acked), total, testkit.Patience)
		}
		for _, m := range d.mailbox.Next(nil, 1+rnd.IntN(30), 1<<20) {
			if m.Seq <= last[m.Lane] {
				t.Fatalf("lane %s: %d came after %d", m.Lane, m.Seq, last[m.Lane])
			}
			last[m.Lane] = m.Seq
			if acked[string(m.Data)] {
				t.Fatalf("%s came again after it was acknowledged", m.Data)
			}
			open = append(open, m)
		}
		rnd.Shuffle(len(open), func(i, j int) { open[i], open[j] = open[j], open[i] })
		for n := rnd.IntN(len(open) + 1); n > 0; n-- {
			m := open[len(open)-1]
			open = open[:len(open)-1]
			d.mailbox.Ack(m.Seq)
			acked[string(m.Data)] = true
			newest = time.Now()
		}
		fault := rnd.IntN(400)
		switch {
		case fault < 6:
			d.mailbox.Detach()
			reattach()
		case fault < 12:
			reattach() // take-over
		case fault == 12 && time.Since(cut) > 300*time.Millisecond:
			s.env.Cut()
			cut = time.Now()
		case fault == 13:
			s.stop()
			s.start(func(o *inbox.Options) { o.TailMessages = 32 })
			reattach()
		default:
			if len(open) == 0 {
				select {
				case <-d.woken:
				case <-time.After(time.Millisecond):
				}
			}
		}
	}
	if err := <-stored; err != nil {
		t.Fatal(err)
	}
	s.none(d)
}
