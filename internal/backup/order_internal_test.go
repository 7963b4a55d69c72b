package backup

import (
	"slices"
	"testing"

	"pgregory.net/rapid"

	"github.com/rccs-io/rccs/internal/snapshot"
)

// Sequences of several shards become those of one stream: each another one, in the
// order of its shard, whether there is a message or not.
func TestEachSequenceOfAllShardsGetsAnother(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		parts := make([]*Stream, rapid.IntRange(1, 4).Draw(t, "shards"))
		waiting := make([][]uint64, len(parts))
		for n := range parts {
			last := rapid.Uint64Range(0, 30).Draw(t, "last")
			for seq := uint64(1); seq <= last; seq++ {
				if rapid.Bool().Draw(t, "stored") {
					waiting[n] = append(waiting[n], seq)
				}
			}
			first := last + 1
			if len(waiting[n]) > 0 {
				first = waiting[n][0]
			}
			parts[n] = &Stream{Stream: snapshot.Stream{First: first, Last: last}}
		}
		o := newOrder(parts)
		type given struct{ n, old, new uint64 }
		var all []given
		for before := uint64(0); ; {
			var left []int
			for n := range waiting {
				if len(waiting[n]) > 0 {
					left = append(left, n)
				}
			}
			if len(left) == 0 {
				break
			}
			n := rapid.SampledFrom(left).Draw(t, "next")
			seq := waiting[n][0]
			waiting[n] = waiting[n][1:]
			got, err := o.give(n, seq)
			if err != nil || got <= before || got < o.first || got > o.sum() {
				t.Fatalf("%d of %d becomes %d, after %d: %v", seq, n, got, before, err)
			}
			if early := o.of(n, seq); early != got {
				t.Fatalf("%d of %d is said to become %d, and becomes %d", seq, n, early, got)
			}
			before, all = got, append(all, given{uint64(n), seq, got})
		}
		o.end()
		for _, g := range all {
			if got := o.of(int(g.n), g.old); got != g.new {
				t.Fatalf("%d of %d became %d, and is said to become %d", g.old, g.n, g.new, got)
			}
		}
		var every []uint64
		for n, s := range parts {
			last := uint64(0)
			for seq := uint64(1); seq <= s.Last; seq++ {
				got := o.of(n, seq)
				if got <= last {
					t.Fatalf("%d of %d becomes %d, and the one before %d", seq, n, got, last)
				}
				last, every = got, append(every, got)
				if len(parts) == 1 && got != seq {
					t.Fatalf("%d of the only shard becomes %d", seq, got)
				}
			}
			if got := o.of(n, s.Last+2); got != o.sum()+2 {
				t.Fatalf("what %d has not given out yet becomes %d, of %d", n, got, o.sum())
			}
		}
		slices.Sort(every)
		if len(slices.Compact(every)) != int(o.sum()) {
			t.Fatalf("%d sequences become %d", o.sum(), len(every))
		}
	})
}

func TestMessagesOutOfOrderAreRefused(t *testing.T) {
	t.Parallel()
	o := newOrder([]*Stream{{Stream: snapshot.Stream{First: 3, Last: 5}}})
	for _, seq := range []uint64{2, 6} {
		if _, err := o.give(0, seq); err == nil {
			t.Errorf("%d was taken", seq)
		}
	}
}
