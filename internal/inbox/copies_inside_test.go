package inbox

import (
	"math"
	"slices"
	"testing"
	"time"

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
	js, err := jetstream.New(env.Conn(t), jetstream.WithDefaultTimeout(testkit.Patience))
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
	want := expected{known: math.MaxUint64}
	for name, read := range map[string]func(pos uint64) ([]*envelope.Message, int, error){
		"an answer": func(pos uint64) ([]*envelope.Message, int, error) {
			return h.lanes.read(t.Context(), phone, subjects.Normal, pos, want, laneBatch)
		},
		"in place of an answer that lacked all": func(pos uint64) ([]*envelope.Message, int, error) {
			return h.lanes.readCopies(t.Context(), phone, subjects.Normal, pos, &want, gathered{end: math.MaxUint64}, laneBatch)
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
	want := &expected{counted: 5, known: 5}
	msgs, left, err := h.lanes.readCopies(t.Context(), phone, subjects.Normal, 0, want, gathered{end: math.MaxUint64}, laneBatch)
	if err == nil {
		t.Errorf("%d messages and %d left are all that there is, of 5", len(msgs), left)
	}
}

// One copy of the stream is swept for many devices. If it lacks what a device was
// sent, or what is counted for it, the device reads for itself, from other copies too.
func TestASweepThatLacksWhatIsStoredIsNotBelieved(t *testing.T) {
	t.Parallel()
	h := threeCopies(t, natstest.Server(t))
	phone := subjects.Address{User: "alice", Device: "phone"}.Key()
	for _, c := range []struct {
		swept   string // sequences
		copies  int64
		trusted bool
	}{
		{"1234", 3, true},
		{"134", 3, false}, // 2 was sent and not acknowledged
		{"124", 3, false}, // 2 of 3 are counted and not sent
		{"124", 1, true},  // there is no other copy
	} {
		h.replicas.Store(c.copies)
		s := &sweep{from: 1, to: 5, done: make(chan struct{}), msgs: map[subjects.Key][]*envelope.Message{}}
		close(s.done)
		for _, seq := range c.swept {
			s.msgs[phone] = append(s.msgs[phone], &envelope.Message{Lane: subjects.Normal, Seq: uint64(seq - '0')})
		}
		h.sweeps.current, h.sweeps.drop = s, time.NewTimer(time.Hour)
		mb := &Mailbox{hub: h, key: phone, seen: 4}
		mb.lanes[subjects.Normal].ackFloor, mb.lanes[subjects.Normal].unread = 2, 2
		mb.lanes[subjects.Normal].ackPending = []uint64{2}
		msgs, left, upTo, ok, end := h.swept(t.Context(), mb, subjects.Normal, 1, 10)
		end()
		if ok != c.trusted || ok && (len(msgs) != len(c.swept)-1 || left != 0 || upTo != 5) {
			t.Errorf("a sweep with %s of %d copies: %d messages and %d left up to %d, %v; want %v", c.swept, c.copies, len(msgs), left, upTo, ok, c.trusted)
		}
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

// What several damaged copies have is put together. An answer that is one of several
// says nothing about what follows its last message.
func TestAnswersOfSeveralCopiesArePutTogether(t *testing.T) {
	t.Parallel()
	answer := func(seqs ...uint64) []*envelope.Message {
		var msgs []*envelope.Message
		for _, seq := range seqs {
			msgs = append(msgs, &envelope.Message{Seq: seq})
		}
		return msgs
	}
	type one struct {
		seqs []uint64
		left int
	}
	for name, c := range map[string]struct {
		want    expected
		answers []one
		seqs    []uint64
		left    int
		whole   bool
	}{
		"one copy has it":             {expected{counted: 3, known: 9}, []one{{[]uint64{1, 3}, 0}, {[]uint64{1, 2, 3}, 0}}, []uint64{1, 2, 3}, 0, true},
		"each lacks another":          {expected{counted: 3, known: 9}, []one{{[]uint64{1, 3}, 0}, {[]uint64{2, 3}, 0}}, []uint64{1, 2, 3}, 0, true},
		"none has it":                 {expected{counted: 3, known: 9}, []one{{[]uint64{1, 3}, 0}, {[]uint64{1, 3}, 0}}, []uint64{1, 3}, 0, false},
		"sent and not acknowledged":   {expected{pending: []uint64{2}}, []one{{[]uint64{1, 3}, 0}, {[]uint64{2}, 2}}, []uint64{1, 2}, 1, true},
		"one was not acknowledged":    {expected{counted: 1, floor: 2, known: 9, pending: []uint64{2}}, []one{{[]uint64{1, 2}, 0}, {[]uint64{1, 2, 3}, 0}}, []uint64{1, 2, 3}, 0, true},
		"what came later counts not":  {expected{counted: 2, known: 2}, []one{{[]uint64{1, 3}, 0}, {[]uint64{1, 2, 3}, 0}}, []uint64{1, 2, 3}, 0, true},
		"an answer of several":        {expected{within: 3, upTo: 4}, []one{{[]uint64{1, 4}, 6}, {[]uint64{1, 3}, 6}}, []uint64{1, 3, 4}, 5, true},
		"an answer of several, whole": {expected{counted: 8, known: 99}, []one{{[]uint64{1, 3}, 6}}, []uint64{1, 3}, 6, true},
		"nobody has what is counted":  {expected{within: 3, upTo: 4}, []one{{[]uint64{1, 4}, 6}, {[]uint64{1, 4, 5}, 5}}, []uint64{1, 4}, 6, false},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			found := gathered{end: math.MaxUint64}
			for _, a := range c.answers {
				found.add(answer(a.seqs...), a.left)
			}
			msgs, left := found.answer(&c.want)
			var seqs []uint64
			for _, m := range msgs {
				seqs = append(seqs, m.Seq)
			}
			if whole := c.want.in(msgs, left); !slices.Equal(seqs, c.seqs) || left != c.left || whole != c.whole {
				t.Errorf("got %v, %d left, all %t; want %v, %d, %t", seqs, left, whole, c.seqs, c.left, c.whole)
			}
		})
	}
}
