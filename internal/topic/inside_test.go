package topic

import (
	"testing"

	"github.com/rccs-io/rccs/internal/natstest"
	"github.com/rccs-io/rccs/internal/reader"
	"github.com/rccs-io/rccs/subjects"
)

// still is a hub that no stream feeds: the test hands it its messages.
func still(tb testing.TB) *Hub {
	tb.Helper()
	env := natstest.Server(tb)
	h, err := New(Options{Read: env.Conn(tb), Fetch: env.Conn(tb)})
	if err != nil {
		tb.Fatal(err)
	}
	return h
}

// follow adds n live subscriptions of one topic.
func follow(tb testing.TB, h *Hub, n int, ready func(*Subscription)) (subject string, subs []*Subscription) {
	tb.Helper()
	subject, err := subjects.Topic("a.b")
	if err != nil {
		tb.Fatal(err)
	}
	for range n {
		s := &Subscription{hub: h, topic: "a.b", subject: subject, ready: ready}
		subs = append(subs, s)
	}
	h.subs[subject] = append(h.subs[subject], subs...)
	return subject, subs
}

// round hands out one message, which all read.
func round(h *Hub, subject string, seq uint64, subs []*Subscription, dst []*Message) []*Message {
	h.handle(reader.Entry{Subject: subject, Seq: seq, Data: []byte("1")})
	for _, s := range subs {
		dst, _ = s.Next(dst[:0], 64, 1<<20)
	}
	return dst
}

func TestASubscriberMoreAllocatesNothing(t *testing.T) {
	h := still(t)
	cost := func(n int) float64 {
		subject, subs := follow(t, h, n, func(*Subscription) {})
		seq, dst := h.head, make([]*Message, 0, 64)
		got := testing.AllocsPerRun(100, func() {
			seq++
			dst = round(h, subject, seq, subs, dst)
		})
		delete(h.subs, subject)
		return got
	}
	// The server in the background allocates too, but not one for each.
	if one, many := cost(1), cost(200); many > one+50 {
		t.Errorf("a message costs %.0f allocations with one subscriber, %.0f with 200", one, many)
	}
}

// The owner empties the queue after the store was read and before that is
// noted.
func TestASubscriberThatEmptiesItsQueueDuringAReadGoesOn(t *testing.T) {
	t.Parallel()
	h := still(t)
	woken := make(chan struct{}, 1)
	subject, subs := follow(t, h, 1, func(*Subscription) {
		select {
		case woken <- struct{}{}:
		default:
		}
	})
	s := subs[0]
	const n = 2*queueMessages + 10
	for seq := range uint64(n) {
		h.handle(reader.Entry{Subject: subject, Seq: seq + 1, Data: []byte("1")})
	}
	s.filling = true
	if err := s.fill(t.Context()); err != nil {
		t.Fatal(err)
	}
	var got []*Message
	got, _ = s.Next(got, n, 1<<30)
	<-woken
	s.filled(nil)
	for len(got) < n {
		<-woken
		got, _ = s.Next(got, n, 1<<30)
	}
	for i, m := range got {
		if m.Seq != uint64(i)+1 {
			t.Fatalf("message %d has seq %d", i, m.Seq)
		}
	}
	h.cancel()
	h.fills.Stop()
}

// BenchmarkFanOut is one message to 1,000 subscribers, without sockets.
func BenchmarkFanOut(b *testing.B) {
	h := still(b)
	const n = 1000
	subject, subs := follow(b, h, n, func(*Subscription) {})
	dst := make([]*Message, 0, 64)
	seq := uint64(0)
	b.ReportAllocs()
	for b.Loop() {
		seq++
		dst = round(h, subject, seq, subs, dst)
	}
	b.ReportMetric(float64(n*b.N)/b.Elapsed().Seconds(), "deliveries/s")
}
