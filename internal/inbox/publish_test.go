package inbox_test

import (
	"context"
	"fmt"
	"strconv"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/rccs-io/rccs/internal/inbox"
	"github.com/rccs-io/rccs/internal/layout"
	"github.com/rccs-io/rccs/subjects"
)

// numbered is message n of a sender, which a repeat stores once.
func numbered(n int) *nats.Msg {
	return &nats.Msg{
		Subject: subjects.Inbox(phone, subjects.Normal), Data: []byte(strconv.Itoa(n)),
		Header: nats.Header{jetstream.MsgIDHeader: {strconv.Itoa(n)}},
	}
}

// acknowledged waits until so many messages are stored, as landed tells.
func (s *system) acknowledged(landed <-chan error, total int) {
	s.t.Helper()
	for range total {
		select {
		case err := <-landed:
			if err != nil {
				s.t.Fatal(err)
			}
		case <-time.After(waitTimeout):
			s.t.Fatalf("%d are not acknowledged", s.pub.Unacknowledged())
		}
	}
}

// What a sender sent before a connection was lost is stored before what it
// sent after, and all of it once.
func TestPublisherKeepsTheOrderAcrossReconnects(t *testing.T) {
	t.Parallel()
	s := newSystem(t, nil)
	const total = 10000
	landed := make(chan error, total)
	for i := range total {
		if i%2500 == 1250 {
			s.env.Cut()
		}
		s.pub.Publish(numbered(i), func(_ inbox.Receipt, err error) { landed <- err })
	}
	s.acknowledged(landed, total)
	consumer := must(s.js.OrderedConsumer(t.Context(), layout.StreamInbox, jetstream.OrderedConsumerConfig{}))
	messages := must(consumer.Messages())
	defer messages.Stop()
	for want := range total {
		m := must(messages.Next())
		if got := string(m.Data()); got != strconv.Itoa(want) {
			t.Fatalf("%s is stored where %d should be", got, want)
		}
	}
}

// A publisher that is full when the server dies goes on when it is back.
func TestFullPublisherGoesOnAfterAReconnect(t *testing.T) {
	t.Parallel()
	s := newSystem(t, nil)
	const total = 17000 // more than may be unacknowledged
	s.env.Kill()
	landed := make(chan error, total)
	go func() {
		for i := range total {
			s.pub.Publish(numbered(i), func(_ inbox.Receipt, err error) { landed <- err })
		}
	}()
	s.eventually("the publisher is full", func() bool { return s.pub.Unacknowledged() == 16384 })
	s.env.Start()
	s.acknowledged(landed, total)
}

func TestStoppedPublisherFailsWhatIsNotAcknowledged(t *testing.T) {
	t.Parallel()
	s := newSystem(t, nil)
	s.env.Kill()
	landed := make(chan error, 1)
	s.pub.Publish(numbered(1), func(_ inbox.Receipt, err error) { landed <- err })
	s.pub.Stop()
	if err := <-landed; err == nil {
		t.Error("stored by nobody")
	}
	s.pub.Publish(numbered(2), func(_ inbox.Receipt, err error) { landed <- err })
	if err := <-landed; err == nil {
		t.Error("stored by nobody")
	}
	s.env.Start()
}

// The stop of a hub is bounded though its publisher takes nothing any more.
func TestHubStopsInTimeWithAFullPublisher(t *testing.T) {
	t.Parallel()
	s := newSystem(t, nil)
	s.put(phone, subjects.Normal, 0, 1)
	s.attach(phone, 10).receive(1)
	s.env.Kill()
	go func() {
		for i := range 17000 {
			s.pub.Publish(numbered(i), func(inbox.Receipt, error) {})
		}
	}()
	s.eventually("the publisher is full", func() bool { return s.pub.Unacknowledged() == 16384 })
	ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
	defer cancel()
	stopped := make(chan error, 1)
	go func() { stopped <- s.hub.Stop(ctx) }()
	select {
	case err := <-stopped:
		if err == nil {
			t.Error("stopped well, with a cursor that is stored nowhere")
		}
	case <-time.After(waitTimeout): // far less than the publisher waits here
		t.Error("still not stopped")
	}
}

// A batch is stored at once, in order and side by side, while other messages
// are on their way; a repeat of it is known as one, also when it comes alone.
func TestBatchIsAllOrNoneAndKnownAgain(t *testing.T) {
	t.Parallel()
	p := newSystem(t, nil).pub
	batch := func(id string, n int) []*nats.Msg {
		msgs := make([]*nats.Msg, n)
		for i := range msgs {
			key := subjects.Address{User: "u", Device: subjects.DeviceID(fmt.Sprintf("d%d", i))}.Key()
			msgID := "u.s/" + id
			if i > 0 {
				msgID = fmt.Sprintf("u.s//%d/%s", i, id)
			}
			msgs[i] = &nats.Msg{Subject: subjects.Inbox(key, subjects.Normal), Data: []byte("1"), Header: nats.Header{
				"Nats-Msg-Id": {msgID}, subjects.HeaderID: {id}, subjects.HeaderFrom: {"s"},
			}}
		}
		return msgs
	}
	type answer struct {
		inbox.BatchReceipt
		err error
	}
	store := func(msgs []*nats.Msg) chan answer {
		c := make(chan answer, 1)
		p.PublishBatch(msgs, func(r inbox.BatchReceipt, err error) { c <- answer{r, err} })
		return c
	}
	var all []chan answer
	for i := range 200 {
		all = append(all, store(batch(fmt.Sprint(i), 1+i%7)))
	}
	firsts := map[string]uint64{}
	next := uint64(1)
	for i, c := range all {
		a := <-c
		if n := uint64(1 + i%7); a.err != nil || a.Duplicate || a.First != next || a.Last != next+n-1 {
			t.Fatalf("batch %d: %+v (%v), want it to begin at %d", i, a, a.err, next)
		}
		firsts[fmt.Sprint(i)] = a.First
		next = a.Last + 1
	}
	for _, i := range []int{0, 3, 6, 13} {
		id := fmt.Sprint(i)
		for _, n := range []int{1 + i%7, 1, 5} { // with the same recipients, and with others
			if a := <-store(batch(id, n)); a.err != nil || !a.Duplicate || n == 1 && a.First != firsts[id] {
				t.Errorf("repeat of %s with %d messages: %+v, want %d", id, n, a, firsts[id])
			}
		}
	}
	if a := <-store(batch("new", 2)); a.err != nil || a.First != next {
		t.Errorf("after the repeats: %+v, want %d", a, next)
	}
}
