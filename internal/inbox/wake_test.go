package inbox_test

import (
	"slices"
	"strconv"
	"testing"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/rccs-io/rccs/internal/envelope"
	"github.com/rccs-io/rccs/internal/inbox"
	"github.com/rccs-io/rccs/internal/natstest"
	"github.com/rccs-io/rccs/subjects"
)

// What comes while publishes queue is given out, all of it and in order, though
// they never end; and a critical message among it.
func TestMessagesAreGivenOutWhilePublishesQueue(t *testing.T) {
	t.Parallel()
	env := natstest.Server(t, natstest.Listen())
	proxy := natstest.NewProxy(t, env.Addr())
	pub := must(inbox.NewPublisher(func(opts ...nats.Option) (*nats.Conn, error) { return natstest.Connect(proxy.URL(), opts...) }, nil))
	t.Cleanup(pub.Stop)
	s := newSystemOn(t, env, func(o *inbox.Options) { o.Publish = pub })
	const n = 2000
	d := s.attach(phone, 2*n)
	proxy.Freeze()
	other := subjects.Address{User: "bob", Device: "desktop"}.Key()
	for range 200 {
		pub.Publish(&nats.Msg{Subject: subjects.Inbox(other, subjects.Normal)}, func(inbox.Receipt, error) {})
	}
	s.eventually("publishes have waited", func() bool {
		queued, oldest := pub.Backlog()
		return queued >= 200 && oldest > 20*time.Millisecond
	})
	for i := range n {
		lane := subjects.Normal
		if i == n/2 {
			lane = subjects.Critical
		}
		if err := s.nc.Publish(subjects.Inbox(phone, lane), []byte(strconv.Itoa(i))); err != nil {
			t.Fatal(err)
		}
	}
	got := d.receive(n)
	critical := slices.IndexFunc(got, func(m envelope.Delivery) bool { return m.Lane == subjects.Critical })
	if critical < 0 {
		t.Fatal("the critical message did not come")
	}
	for i, m := range slices.Delete(got, critical, critical+1) {
		want := i
		if i >= n/2 {
			want++
		}
		if string(m.Data) != strconv.Itoa(want) {
			t.Fatalf("message %d is %s, want %d", i, m.Data, want)
		}
	}
	proxy.Heal()
}
