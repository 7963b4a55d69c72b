package backup

import "fmt"

// order gives the messages of one stream of several shards the sequences of one
// stream. Each old sequence gets a new one, whether there is a message or not, so
// that what names one that is gone stays right. Those of one shard keep their order.
// With one shard all stay as they are.
type order struct {
	shards []numbers
	first  uint64 // the first new sequence that may have a message
	next   uint64 // the next one to give out
	last   int    // the shard that was given the one before
}

// numbers are those of one shard.
type numbers struct {
	runs []run  // ascending
	next uint64 // the next old one
	last uint64
}

// run are sequences that stay next to each other, from old on.
type run struct{ old, new uint64 }

func newOrder(parts []*Stream) *order {
	o := &order{shards: make([]numbers, len(parts)), next: 1, last: -1}
	for n, s := range parts { // what is gone at the beginning of all comes first
		o.shards[n] = numbers{next: 1, last: s.Last}
		o.take(n, min(max(s.First, 1)-1, s.Last))
	}
	o.first = o.next
	return o
}

// take gives a shard's next sequences new ones, up to an old one.
func (o *order) take(n int, upTo uint64) {
	s := &o.shards[n]
	if upTo < s.next {
		return
	}
	if o.last != n {
		s.runs, o.last = append(s.runs, run{s.next, o.next}), n
	}
	o.next += upTo + 1 - s.next
	s.next = upTo + 1
}

// give returns the new sequence of a shard's next message.
func (o *order) give(n int, seq uint64) (uint64, error) {
	if s := &o.shards[n]; seq < s.next || seq > s.last {
		return 0, fmt.Errorf("message %d is out of order", seq)
	}
	o.take(n, seq)
	return o.next - 1, nil
}

// end gives out what is left. What a shard had yet to give out is above all others'.
func (o *order) end() {
	for n := range o.shards {
		o.take(n, o.shards[n].last)
	}
	for n := range o.shards {
		s := &o.shards[n]
		s.runs = append(s.runs, run{s.last + 1, o.next})
	}
}

// sum is how many sequences there are in all.
func (o *order) sum() (n uint64) {
	for _, s := range o.shards {
		n += s.last
	}
	return n
}

// of returns the new sequence of an old one. Call it after end.
func (o *order) of(n int, seq uint64) uint64 {
	runs := o.shards[n].runs
	from, to := 0, len(runs) // the last run that begins at seq or below
	for to-from > 1 {
		if mid := (from + to) / 2; runs[mid].old <= seq {
			from = mid
		} else {
			to = mid
		}
	}
	return runs[from].new + seq - runs[from].old
}
