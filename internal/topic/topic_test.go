package topic_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/rccs-io/rccs/internal/layout"
	"github.com/rccs-io/rccs/internal/natstest"
	"github.com/rccs-io/rccs/internal/testkit"
	"github.com/rccs-io/rccs/internal/topic"
	"github.com/rccs-io/rccs/subjects"
)

func TestMain(m *testing.M) { natstest.VerifyTestMain(m) }

const waitTimeout = testkit.Patience

type place struct {
	env *natstest.Env
	js  jetstream.JetStream
	hub *topic.Hub
}

func newPlace(t *testing.T) *place {
	t.Helper()
	env := natstest.Server(t)
	natstest.Streams(t, env.Conn(t))
	return startPlace(t, env)
}

func startPlace(t *testing.T, env *natstest.Env) *place {
	t.Helper()
	p := &place{env: env}
	var err error
	if p.js, err = jetstream.New(env.Conn(t), jetstream.WithDefaultTimeout(testkit.Patience)); err != nil {
		t.Fatal(err)
	}
	if p.hub, err = topic.New(topic.Options{Read: p.env.Conn(t), Fetch: p.env.Conn(t)}); err != nil {
		t.Fatal(err)
	}
	if err := p.hub.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(t.Context()), testkit.Patience)
		defer cancel()
		if err := p.hub.Stop(ctx); err != nil {
			t.Error(err)
		}
	})
	return p
}

func (p *place) publish(t *testing.T, name string, n int) uint64 {
	t.Helper()
	seq, err := p.store(name, n, "")
	if err != nil {
		t.Fatal(err)
	}
	return seq
}

// store stores a number once, however often the connection is cut, if it has
// an id.
func (p *place) store(name string, n int, id string) (uint64, error) {
	subject, err := subjects.Topic(name)
	if err != nil {
		return 0, err
	}
	msg := &nats.Msg{Subject: subject, Data: strconv.AppendInt(nil, int64(n), 10)}
	if id != "" {
		msg.Header = nats.Header{jetstream.MsgIDHeader: {id}}
	}
	try := waitTimeout
	if id != "" {
		try = time.Second // what is sent while a connection breaks is lost without a word
	}
	for deadline := time.Now().Add(waitTimeout); ; try = min(2*try, waitTimeout/10) { // a busy machine may need longer
		ctx, cancel := context.WithTimeout(context.Background(), try)
		ack, err := p.js.PublishMsg(ctx, msg)
		cancel()
		if err == nil {
			return ack.Sequence, nil
		}
		if id == "" || time.Now().After(deadline) {
			return 0, err
		}
	}
}

// bound sets how many messages of a topic the stream keeps.
func (p *place) bound(t *testing.T, n int64) {
	t.Helper()
	info, err := p.js.Stream(t.Context(), subjects.StreamTopic)
	if err != nil {
		t.Fatal(err)
	}
	config := info.CachedInfo().Config
	config.MaxMsgsPerSubject = n
	if _, err := p.js.UpdateStream(t.Context(), config); err != nil {
		t.Fatal(err)
	}
}

// purge removes what is stored below seq, of all topics.
func (p *place) purge(t *testing.T, seq uint64) {
	t.Helper()
	stream, err := p.js.Stream(t.Context(), subjects.StreamTopic)
	if err != nil {
		t.Fatal(err)
	}
	if err := stream.Purge(t.Context(), jetstream.WithPurgeSequence(seq)); err != nil {
		t.Fatal(err)
	}
}

// follower reads a subscription at its own pace.
type follower struct {
	sub  *topic.Subscription
	wake chan struct{}
}

// beginAt subscribes to a topic and says where the subscription begins.
func (p *place) beginAt(t *testing.T, name string, since topic.Since) (*follower, topic.Beginning) {
	t.Helper()
	f := &follower{wake: make(chan struct{}, 1)}
	var at topic.Beginning
	var err error
	f.sub, at, err = p.hub.Subscribe(t.Context(), "test", name, since, func(*topic.Subscription) {
		select {
		case f.wake <- struct{}{}:
		default:
		}
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(f.sub.Close)
	return f, at
}

// begin subscribes to topic a.
func (p *place) begin(t *testing.T, since topic.Since) (*follower, topic.Beginning) {
	t.Helper()
	return p.beginAt(t, "a", since)
}

// follow subscribes, and returns the last sequence of the topic.
func (p *place) follow(t *testing.T, name string, since topic.Since) (*follower, uint64) {
	t.Helper()
	f, at := p.beginAt(t, name, since)
	return f, at.Last
}

// take is the next n messages.
func (f *follower) take(t *testing.T, n, limit int) []*topic.Message {
	t.Helper()
	var all []*topic.Message
	late := time.After(waitTimeout)
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
			if n%(total/5) == total/10 {
				p.env.Cut()
			}
			var err error
			if seqs[n], err = p.store("a.b", n, "b"+strconv.Itoa(n)); err == nil {
				_, err = p.store("a.other", n, "o"+strconv.Itoa(n))
			}
			if err != nil {
				t.Error(err)
				close(published)
				return
			}
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
	if first := p.publish(t, "first", 0); first != layout.FirstTopicSeq {
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

// Retention of one topic overtakes a subscriber that does not read.
func TestASlowSubscriberIsToldWhatItLost(t *testing.T) {
	t.Parallel()
	p := newPlace(t)
	const kept, total = 50, 6000 // far more than a queue and the tail hold
	p.bound(t, kept)
	slow, _ := p.follow(t, "busy", topic.Since{})
	quick, _ := p.follow(t, "busy", topic.Since{})
	quiet := p.publish(t, "quiet", 0) // keeps the stream's beginning where it is
	var seqs []uint64
	for n := range total {
		seqs = append(seqs, p.publish(t, "busy", n))
		if m := quick.take(t, 1, 10)[0]; m.LostFrom != 0 || m.Seq != seqs[n] {
			t.Fatalf("the quick subscriber got %d lost from %d, want %d", m.Seq, m.LostFrom, seqs[n])
		}
	}
	last := seqs[:0:0]
	var lost []*topic.Message
	for len(last) == 0 || last[len(last)-1] != seqs[total-1] {
		m := slow.take(t, 1, 1)[0]
		if m.LostFrom != 0 {
			lost = append(lost, m)
			continue
		}
		last = append(last, m.Seq)
	}
	if len(lost) != 1 || quiet > lost[0].LostFrom {
		t.Fatalf("%d notices", len(lost))
	}
	// Each message came, or lies in the notice, never both.
	for _, seq := range seqs {
		if seq >= lost[0].LostFrom && seq <= lost[0].Seq {
			continue
		}
		if len(last) == 0 || last[0] != seq {
			t.Fatalf("%d neither came nor was told of", seq)
		}
		last = last[1:]
	}
	if len(last) != 0 {
		t.Errorf("%d messages came that were told to be lost", len(last))
	}
}

func TestASubscriberThatWasAwayIsToldWhatItLost(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		lose  func(t *testing.T, p *place, seqs []uint64)
		told  bool
		first int // message that comes then
	}{
		"too old":               {func(t *testing.T, p *place, seqs []uint64) { p.purge(t, seqs[6]) }, true, 6},
		"too many":              {func(t *testing.T, p *place, _ []uint64) { p.bound(t, 3) }, true, 7},
		"all":                   {func(t *testing.T, p *place, seqs []uint64) { p.purge(t, seqs[9]+2) }, true, 10},
		"only what it had":      {func(t *testing.T, p *place, seqs []uint64) { p.purge(t, seqs[2]+1) }, false, 3},
		"what came long before": {func(t *testing.T, p *place, seqs []uint64) { p.purge(t, seqs[2]) }, false, 3},
		"nothing":               {func(*testing.T, *place, []uint64) {}, false, 3},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			const had = 2 // the message that the subscriber had last
			p := newPlace(t)
			var seqs []uint64
			for n := range 10 {
				seqs = append(seqs, p.publish(t, "a", n))
				p.publish(t, "other", n)
			}
			c.lose(t, p, seqs)
			again := p.restart(t)
			f, _ := again.follow(t, "a", topic.Since{FromSeq: true, Seq: seqs[had]})
			seqs = append(seqs, again.publish(t, "a", 10))
			if c.told {
				if m := f.take(t, 1, 1)[0]; m.LostFrom != seqs[had]+1 || m.Seq < seqs[c.first-1] || m.Seq >= seqs[c.first] || m.Topic != "a" {
					t.Fatalf("notice from %d to %d of %d", m.LostFrom, m.Seq, seqs)
				}
			}
			for i, m := range f.take(t, len(seqs)-c.first, 100) {
				if m.LostFrom != 0 || m.Seq != seqs[c.first+i] {
					t.Errorf("got %d lost from %d, want %d", m.Seq, m.LostFrom, seqs[c.first+i])
				}
			}
		})
	}
}

// restart is the same server with another hub, as another process would have.
func (p *place) restart(t *testing.T) *place {
	t.Helper()
	if err := p.hub.Stop(t.Context()); err != nil {
		t.Fatal(err)
	}
	return startPlace(t, p.env)
}

func TestSubscriptionsOutliveTheServer(t *testing.T) {
	t.Parallel()
	p := newPlace(t)
	f, _ := p.follow(t, "a", topic.Since{})
	var want []uint64
	for round, fault := range []func(){func() {}, p.env.Restart, func() { p.env.Kill(); p.env.Start() }} {
		fault()
		for n := range 20 {
			seq, err := p.store("a", n, fmt.Sprint(round, "-", n))
			if err != nil {
				t.Fatal(err)
			}
			want = append(want, seq)
		}
	}
	for i, m := range f.take(t, len(want), 7) {
		if m.Seq != want[i] || m.LostFrom != 0 {
			t.Fatalf("message %d has seq %d, want %d", i, m.Seq, want[i])
		}
	}
}

func TestAClosedSubscriptionHearsNothing(t *testing.T) {
	t.Parallel()
	p := newPlace(t)
	closed, _ := p.follow(t, "a", topic.Since{})
	open, _ := p.follow(t, "a", topic.Since{})
	p.publish(t, "a", 0)
	open.take(t, 1, 1)
	closed.sub.Close()
	closed.sub.Close()
	p.publish(t, "a", 1)
	open.take(t, 1, 1)
	if got, more := closed.sub.Next(nil, 10, 1<<20); len(got) > 0 || more {
		t.Errorf("%d messages after the end", len(got))
	}
}

func TestBadTopicsAreRefused(t *testing.T) {
	t.Parallel()
	p := newPlace(t)
	for _, name := range []string{"", ".", "a..b", "a.", ".a", "a\x00b", string([]byte{0xff})} {
		if _, _, err := p.hub.Subscribe(t.Context(), "test", name, topic.Since{}, func(*topic.Subscription) {}); !errors.Is(err, subjects.ErrName) {
			t.Errorf("subscribe %q: %v", name, err)
		}
		if _, _, err := p.hub.History(t.Context(), name, 0, 1, 1); !errors.Is(err, subjects.ErrName) {
			t.Errorf("history %q: %v", name, err)
		}
	}
}

// The wildcards of NATS are names like any other.
func TestWildcardsHaveNoMeaning(t *testing.T) {
	t.Parallel()
	p := newPlace(t)
	star, _ := p.follow(t, "a.*", topic.Since{})
	all, _ := p.follow(t, ">", topic.Since{})
	p.publish(t, "a.b", 0)
	one, two := p.publish(t, "a.*", 1), p.publish(t, ">", 2)
	if m := star.take(t, 1, 1)[0]; m.Seq != one || m.Topic != "a.*" {
		t.Errorf("a.*: got %q seq %d", m.Topic, m.Seq)
	}
	if m := all.take(t, 1, 1)[0]; m.Seq != two || m.Topic != ">" {
		t.Errorf(">: got %q seq %d", m.Topic, m.Seq)
	}
}

func TestNothingWorksAfterStop(t *testing.T) {
	t.Parallel()
	p := newPlace(t)
	for range 2 {
		if err := p.hub.Stop(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	if _, _, err := p.hub.Subscribe(t.Context(), "test", "a", topic.Since{}, func(*topic.Subscription) {}); !errors.Is(err, topic.ErrStopped) {
		t.Errorf("subscribe: %v", err)
	}
}
