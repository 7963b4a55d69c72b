package inbox_test

import (
	"math/rand/v2"
	"testing"

	"github.com/rccs-io/rccs/internal/envelope"
	"github.com/rccs-io/rccs/subjects"
)

// pages reads a history to its end.
func (s *system) pages(k subjects.Key, from uint64, limit, maxBytes int) (all []*envelope.Message) {
	s.t.Helper()
	for {
		page, next, err := s.hub.History(s.t.Context(), k, from, limit, maxBytes)
		if err != nil {
			s.t.Fatal(err)
		}
		size := 0
		for _, m := range page {
			size += len(m.Data)
		}
		if len(page) > limit || len(page) > 1 && size > maxBytes {
			s.t.Fatalf("a page has %d messages of %d bytes, at most %d of %d were asked for", len(page), size, limit, maxBytes)
		}
		all = append(all, page...)
		if next == 0 {
			return all
		}
		if next <= from || len(page) == 0 {
			s.t.Fatalf("from %d: %d messages, and on from %d", from, len(page), next)
		}
		from = next
	}
}

// However the messages lie in the lanes and wherever a page ends, all of them
// come once, in the order of storage, and nobody else's.
func TestHistoryMergesTheLanes(t *testing.T) {
	t.Parallel()
	s := newSystem(t, nil)
	random := rand.New(rand.NewPCG(7, 7))
	tablet := subjects.Address{User: "alice", Device: "tablet"}.Key()
	type stored struct {
		seq  uint64
		lane subjects.Lane
		size int
	}
	var want []stored
	for lane := subjects.Lane(0); len(want) < 300; {
		if random.IntN(10) == 0 { // long runs of a lane, and changes
			lane = subjects.Lane(random.IntN(subjects.Lanes))
		}
		to := phone
		if random.IntN(4) == 0 {
			to = tablet
		}
		size := 1 + random.IntN(3000)
		ack, err := s.js.Publish(t.Context(), subjects.Inbox(to, lane), make([]byte, size))
		if err != nil {
			t.Fatal(err)
		}
		if to == phone {
			want = append(want, stored{ack.Sequence, lane, size})
		}
	}
	for range 12 {
		limit, maxBytes := 1+random.IntN(60), 1+random.IntN(60_000)
		first := random.IntN(len(want))
		got := s.pages(phone, want[first].seq, limit, maxBytes)
		if len(got) != len(want)-first {
			t.Fatalf("limit %d, %d bytes: %d messages, want %d", limit, maxBytes, len(got), len(want)-first)
		}
		for i, m := range got {
			if w := want[first+i]; m.Seq != w.seq || m.Lane != w.lane || len(m.Data) != w.size {
				t.Fatalf("limit %d, %d bytes: message %d is %d of lane %s, want %d of %s", limit, maxBytes, i, m.Seq, m.Lane, w.seq, w.lane)
			}
		}
	}
	if got := s.pages(phone, want[len(want)-1].seq+1, 10, 1000); len(got) != 0 {
		t.Errorf("behind the end are %d messages", len(got))
	}
	if got := s.pages(subjects.Address{User: "bob", Device: "x"}.Key(), 0, 10, 1000); len(got) != 0 {
		t.Errorf("an empty inbox has %d messages", len(got))
	}
}

// What was acknowledged is in the history, and reading it acknowledges nothing.
func TestHistoryTouchesNoCursor(t *testing.T) {
	t.Parallel()
	s := newSystem(t, nil)
	s.put(phone, subjects.Normal, 0, 10)
	d := s.attach(phone, 100)
	ack(d, d.receive(4))
	d.mailbox.Detach()
	if got := s.pages(phone, 0, 3, 1<<20); len(got) != 10 {
		t.Errorf("%d messages, want all 10", len(got))
	}
	again := s.attach(phone, 100)
	expect(t, again.receive(6), numbers(4, 6))
	s.none(again)
}
