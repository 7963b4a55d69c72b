package inbox

import (
	"cmp"
	"slices"

	"github.com/rccs-io/rccs/subjects"
)

// Bounds of one lane's queue: enough that a live device never waits for the
// store, small enough that a stalled one costs little.
const (
	laneMessages = 256
	laneBytes    = 1 << 20
)

// lane is one lane of a mailbox. It is guarded by Mailbox.mu.
type lane struct {
	// queue holds what is to be sent, ascending; head is the next.
	queue []*Message
	head  int
	bytes int

	// unacked is what was sent on this connection and not acknowledged,
	// ascending. Its length over all lanes is bounded by the window.
	unacked []sent
	// owed is what earlier connections were sent and did not acknowledge and
	// this one has not been sent yet, ascending.
	owed []uint64
	// asked are those of owed whose senders want to hear what becomes of them.
	asked []uint64

	// pos: every message of the lane with seq <= pos is queued, was sent, or
	// is settled.
	pos uint64
	// known: what is at or below it and not owed is acknowledged already.
	known uint64
	// again: what is at or below it may have been sent before.
	again uint64
	// behind: the store may hold messages above pos that are not queued; left
	// is about how many, when a batch was read last.
	behind bool
	left   int
	// looked: the store was read once, from where the device stood.
	looked bool
}

// sent is a message on its way to the device.
type sent struct {
	seq    uint64
	stored int64  // Unix nanoseconds
	asker  *asker // who wants to hear what becomes of it, or nil
	// settling: what became of it is being stored, and then it is settled.
	settling bool
}

func (l *lane) queued() int { return len(l.queue) - l.head }

// room says whether another message may be queued. One always fits, however
// large.
func (l *lane) room() bool {
	n := l.queued()
	return n == 0 || n < laneMessages && l.bytes < laneBytes
}

// push queues m, which must be above pos.
func (l *lane) push(m *Message) {
	l.pos = m.Seq
	if m.Seq <= l.known {
		if _, owed := slices.BinarySearch(l.owed, m.Seq); !owed {
			return
		}
	}
	if l.head > len(l.queue)/2 && len(l.queue) == cap(l.queue) {
		n := copy(l.queue, l.queue[l.head:])
		clear(l.queue[n:])
		l.queue, l.head = l.queue[:n], 0
	}
	l.queue = append(l.queue, m)
	l.bytes += m.cost()
}

func (l *lane) pop() *Message {
	m := l.queue[l.head]
	l.queue[l.head] = nil
	l.head++
	l.bytes -= m.cost()
	if l.head == len(l.queue) {
		// An idle device holds no queue.
		l.queue, l.head = nil, 0
	}
	return m
}

// settleOwed forgets what is owed up to seq: it is being sent, or is gone from
// the store.
func (l *lane) settleOwed(seq uint64) {
	n := 0
	for n < len(l.owed) && l.owed[n] <= seq {
		n++
	}
	if l.owed = l.owed[n:]; len(l.owed) == 0 {
		l.owed = nil
	}
}

// skip moves pos over what is known to be acknowledged, so that it is not read
// from the store.
func (l *lane) skip() {
	target := l.known
	if i, _ := slices.BinarySearch(l.owed, l.pos+1); i < len(l.owed) {
		target = l.owed[i] - 1
	}
	l.pos = max(l.pos, target)
}

// find is where seq stands in what is unacknowledged.
func (l *lane) find(seq uint64) (int, bool) {
	return slices.BinarySearchFunc(l.unacked, seq, func(s sent, seq uint64) int { return cmp.Compare(s.seq, seq) })
}

// remove takes an entry out of what is unacknowledged.
func (l *lane) remove(i int) {
	if i == 0 {
		l.unacked = l.unacked[1:]
	} else {
		l.unacked = slices.Delete(l.unacked, i, i+1)
	}
	if len(l.unacked) == 0 {
		l.unacked = nil
	}
}

// owes says whether an earlier connection was sent seq and did not acknowledge
// it, and this one was not sent it yet.
func (l *lane) owes(seq uint64) bool {
	_, ok := slices.BinarySearch(l.owed, seq)
	return ok
}

// cursor adds the lane to c. head is the sequence up to which the hub has
// handed out everything.
func (l *lane) cursor(c *Cursor, n subjects.Lane, head uint64) {
	upTo := l.pos
	switch {
	case l.queued() > 0:
		upTo = l.queue[l.head].Seq - 1
	case !l.behind:
		upTo = max(l.pos, head)
	}
	c.Sent[n] = max(upTo, l.known)
	if len(l.unacked)+len(l.owed) == 0 {
		return
	}
	all := make([]uint64, 0, len(l.unacked)+len(l.owed))
	for _, s := range l.unacked {
		all = append(all, s.seq)
	}
	all = append(all, l.owed...)
	for _, s := range l.unacked {
		if s.asker != nil {
			c.Asked = append(c.Asked, s.seq)
		}
	}
	for _, seq := range l.asked {
		if l.owes(seq) {
			c.Asked = append(c.Asked, seq)
		}
	}
	slices.Sort(all)
	c.Unacked[n] = slices.Compact(all)
}
