package topic_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/rccs-io/rccs/internal/natstest"
	"github.com/rccs-io/rccs/internal/topic"
	"github.com/rccs-io/rccs/subjects"
)

func TestMain(m *testing.M) { natstest.VerifyTestMain(m) }

const within = 20 * time.Second

type place struct {
	env *natstest.Env
	js  jetstream.JetStream
	hub *topic.Hub
}

func newPlace(t *testing.T) *place {
	t.Helper()
	p := &place{env: natstest.Server(t)}
	p.js = natstest.Streams(t, p.env.Conn(t))
	var err error
	if p.hub, err = topic.New(topic.Options{Read: p.env.Conn(t), Fetch: p.env.Conn(t)}); err != nil {
		t.Fatal(err)
	}
	if err := p.hub.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(t.Context()), within)
		defer cancel()
		if err := p.hub.Stop(ctx); err != nil {
			t.Error(err)
		}
	})
	return p
}

func (p *place) publish(t *testing.T, name string, n int) uint64 {
	t.Helper()
	subject, err := subjects.Topic(name)
	if err != nil {
		t.Fatal(err)
	}
	ack, err := p.js.Publish(context.WithoutCancel(t.Context()), subject, fmt.Append(nil, n))
	if err != nil {
		t.Fatal(err)
	}
	return ack.Sequence
}

// follower reads a subscription at its own pace.
type follower struct {
	sub  *topic.Subscription
	wake chan struct{}
}

func (p *place) follow(t *testing.T, name string, since topic.Since) (*follower, uint64) {
	t.Helper()
	f := &follower{wake: make(chan struct{}, 1)}
	var last uint64
	var err error
	f.sub, last, err = p.hub.Subscribe(t.Context(), name, since, func(*topic.Subscription) {
		select {
		case f.wake <- struct{}{}:
		default:
		}
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(f.sub.Close)
	return f, last
}

// take is the next n messages.
func (f *follower) take(t *testing.T, n, limit int) []*topic.Message {
	t.Helper()
	var all []*topic.Message
	late := time.After(within)
	for len(all) < n {
		before := len(all)
		all, _ = f.sub.Next(all, min(limit, n-len(all)), 1<<20)
		if len(all) > before {
			continue
		}
		select {
		case <-f.wake:
		case <-late:
			t.Fatalf("%d of %d messages came", len(all), n)
		}
	}
	return all
}

// Subscribers that come and go at any time, fast and slow, with the past or
// without, each get every message from where they began, once and in order,
// while the connections are cut again and again.
func TestNoGapNoSwapNoDouble(t *testing.T) {
	t.Parallel()
	p := newPlace(t)
	const total = 3000
	seqs := make([]uint64, total)
	stored := make(chan struct{})
	published := make(chan int, total)
	go func() {
		defer close(stored)
		for n := range total {
			seqs[n] = p.publish(t, "a.b", n)
			p.publish(t, "a.other", n)
			published <- n
		}
	}()
	var wg sync.WaitGroup
	for i := range 12 {
		for range total / 40 {
			<-published // the next subscriber comes in the middle
		}
		random := rand.New(rand.NewPCG(uint64(i), 1))
		since := topic.Since{FromSeq: true, Seq: seqs[random.IntN(10*(i+1))]}
		f, _ := p.follow(t, "a.b", since)
		wg.Go(func() {
			<-stored
			var want []uint64
			for _, seq := range seqs {
				if seq > since.Seq {
					want = append(want, seq)
				}
			}
			for len(want) > 0 {
				n := min(1+random.IntN(200), len(want))
				for k, m := range f.take(t, n, 1+random.IntN(50)) {
					if m.Seq != want[k] || m.Topic != "a.b" {
						t.Errorf("subscriber %d: got %d, want %d", i, m.Seq, want[k])
						return
					}
				}
				want = want[n:]
			}
		})
	}
	wg.Wait()
}

func TestSubscriptionsBeginWhereTheySay(t *testing.T) {
	t.Parallel()
	p := newPlace(t)
	if first := p.publish(t, "first", 0); first != subjects.FirstTopicSeq {
		t.Errorf("the first sequence is %d", first)
	}
	const stored, middle = 20, 10
	for name, c := range map[string]struct {
		since func(seqs []uint64, middle time.Time) topic.Since
		first int
	}{
		"a sequence": {func(seqs []uint64, _ time.Time) topic.Since { return topic.Since{FromSeq: true, Seq: seqs[3]} }, 4},
		"zero":       {func([]uint64, time.Time) topic.Since { return topic.Since{FromSeq: true} }, 0},
		"a time":     {func(_ []uint64, at time.Time) topic.Since { return topic.Since{Time: at} }, middle},
		"the last":   {func([]uint64, time.Time) topic.Since { return topic.Since{Last: true} }, stored - 1},
		"the end":    {func(seqs []uint64, _ time.Time) topic.Since { return topic.Since{FromSeq: true, Seq: seqs[stored-1]} }, stored},
		"the future": {func(_ []uint64, at time.Time) topic.Since { return topic.Since{Time: at.Add(time.Hour)} }, stored},
		"now":        {func([]uint64, time.Time) topic.Since { return topic.Since{} }, stored},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var seqs []uint64
			var at time.Time
			for n := range stored {
				if n == middle {
					at = time.Now()
				}
				seqs = append(seqs, p.publish(t, name, n))
			}
			f, last := p.follow(t, name, c.since(seqs, at))
			if last != seqs[stored-1] {
				t.Errorf("last is %d, want %d", last, seqs[stored-1])
			}
			want := append(seqs[c.first:], p.publish(t, name, stored))
			for i, m := range f.take(t, len(want), 100) {
				if m.Seq != want[i] {
					t.Errorf("message %d has seq %d, want %d", i, m.Seq, want[i])
				}
			}
		})
	}
}

func TestHistoryIsReadInPages(t *testing.T) {
	t.Parallel()
	p := newPlace(t)
	var seqs []uint64
	for n := range 25 {
		seqs = append(seqs, p.publish(t, "h", n))
		p.publish(t, "else", n)
	}
	var got []uint64
	for from := uint64(0); ; {
		msgs, next, err := p.hub.History(t.Context(), "h", from, 10, 1<<20)
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range msgs {
			got = append(got, m.Seq)
		}
		if from = next; next == 0 {
			break
		}
	}
	if fmt.Sprint(got) != fmt.Sprint(seqs) {
		t.Errorf("got %d, want %d", got, seqs)
	}
}
