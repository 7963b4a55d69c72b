package topic

import "slices"

// Bounds of the index: of how many topics it knows something, and how many
// sequences it holds in all.
const (
	maxTopics    = 1 << 16
	maxSequences = 1 << 18
)

// index lists the sequences of each topic that the hub has read, so that it is
// known of a message that is not stored whether it ever was. Of a topic that is
// not listed there was none behind began.
type index struct {
	began  uint64
	topics map[string]*listed
	total  int // sequences of all topics
}

// listed is what is known of one topic: all of its sequences above floor,
// ascending. There is always one.
type listed struct {
	floor uint64
	seqs  []uint64
}

// reset forgets all: what is above began is listed from here on.
func (x *index) reset(began uint64) {
	x.began, x.total = began, 0
	x.topics = make(map[string]*listed)
}

// add lists the message of a topic that was read last.
func (x *index) add(subject string, seq uint64) {
	l := x.topics[subject]
	if l == nil {
		if len(x.topics) >= maxTopics {
			x.reset(seq - 1)
		}
		l = &listed{floor: x.began}
		x.topics[subject] = l
	}
	l.seqs = append(l.seqs, seq)
	if x.total++; x.total > maxSequences {
		x.halve()
	}
}

// halve forgets the older half of each topic, and never its last message: most
// subscribers have that one.
func (x *index) halve() {
	for _, l := range x.topics {
		drop := len(l.seqs) / 2
		if drop == 0 {
			continue
		}
		l.floor = l.seqs[drop-1]
		l.seqs = slices.Clone(l.seqs[drop:])
		x.total -= drop
	}
}

// floor is the sequence above which all of a topic is listed.
func (x *index) floor(subject string) uint64 {
	if l := x.topics[subject]; l != nil {
		return l.floor
	}
	return x.began
}

// lastBetween is the last listed sequence of a topic between two others; 0 when
// there is none.
func (x *index) lastBetween(subject string, pos, next uint64) uint64 {
	l := x.topics[subject]
	if l == nil {
		return 0
	}
	i, _ := slices.BinarySearch(l.seqs, next)
	if i == 0 || l.seqs[i-1] <= pos {
		return 0
	}
	return l.seqs[i-1]
}
