package inbox

import (
	"testing"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/rccs-io/rccs/internal/envelope"
	"github.com/rccs-io/rccs/internal/layout"
	"github.com/rccs-io/rccs/internal/natstest"
	"github.com/rccs-io/rccs/internal/testkit"
	"github.com/rccs-io/rccs/subjects"
)

// A copy is read batch by batch, however much of the lane follows: each batch costs
// what it holds, and says how many are left.
func TestACopyIsReadBatchByBatch(t *testing.T) {
	t.Parallel()
	env := natstest.Server(t)
	js, err := jetstream.New(env.Conn(t))
	testkit.Check(t, err)
	_, err = js.CreateStream(t.Context(), jetstream.StreamConfig{Name: layout.StreamInbox, Subjects: layout.AllInboxes(), AllowDirect: true})
	testkit.Check(t, err)
	h := threeCopies(t, env)
	const count = 2*laneMessages + 88
	for range count {
		_, err := js.PublishAsync("rccs.inbox.alice.phone.normal", []byte("1"))
		testkit.Check(t, err)
		_, err = js.PublishAsync("rccs.inbox.alice.tablet.normal", []byte("1"))
		testkit.Check(t, err)
	}
	<-js.PublishAsyncComplete()
	phone := subjects.Address{User: "alice", Device: "phone"}.Key()
	want := &expected{counted: count}
	for name, read := range map[string]func(pos uint64) ([]*envelope.Message, int, error){
		"by a consumer": func(pos uint64) ([]*envelope.Message, int, error) {
			return h.readCopy(t.Context(), phone, subjects.Normal, pos)
		},
		"in place of an answer that lacked all": func(pos uint64) ([]*envelope.Message, int, error) {
			return h.readCopies(t.Context(), phone, subjects.Normal, pos, want, nil, 0)
		},
	} {
		want.counted = count
		pos := uint64(0)
		for _, size := range []int{laneMessages, laneMessages, 88} {
			msgs, left, err := read(pos)
			want.counted -= int64(size)
			if err != nil || len(msgs) != size || int64(left) != want.counted {
				t.Fatalf("%s: after %d came %d, with %d left (%v), want %d and %d", name, pos, len(msgs), left, err, size, want.counted)
			}
			for _, m := range msgs {
				if m.Seq <= pos || m.Key != phone {
					t.Fatalf("%s: %d of %s came after %d", name, m.Seq, m.Key, pos)
				}
				pos = m.Seq
			}
		}
	}
}

// While no copy can be read, nobody knows what is gone.
func TestWhatNoCopyCouldBeAskedForIsNotLost(t *testing.T) {
	t.Parallel()
	h := threeCopies(t, natstest.Server(t)) // there is no stream: each request fails at once
	phone := subjects.Address{User: "alice", Device: "phone"}.Key()
	msgs, left, err := h.readCopies(t.Context(), phone, subjects.Normal, 0, &expected{counted: 5}, nil, 0)
	if err == nil {
		t.Errorf("%d messages and %d left are all that there is, of 5", len(msgs), left)
	}
}

// threeCopies is a hub that takes its stream for one with three copies.
func threeCopies(t *testing.T, env *natstest.Env) *Hub {
	t.Helper()
	pub, err := NewPublisher(env.Dialer(), nil)
	testkit.Check(t, err)
	t.Cleanup(pub.Stop)
	h, err := New(Options{Read: env.Conn(t), Fetch: env.Conn(t), Publish: pub})
	testkit.Check(t, err)
	testkit.Check(t, h.fetch.Start())
	t.Cleanup(h.fetch.Stop)
	h.replicas.Store(3)
	return h
}
