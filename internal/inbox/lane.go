package inbox

import (
	"cmp"
	"slices"

	"github.com/rccs-io/rccs/internal/envelope"
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
	// queue holds the messages to send, ascending; head is the index of the next.
	queue []*envelope.Message
	bytes int32
	head  int16
	// catchingUp: the store may hold messages above readPos that are not
	// queued.
	catchingUp bool
	// compared: since the lane began to catch up, and since the last purge, it was
	// found out which of the messages that unread counts are gone.
	compared bool

	// unacked is what was sent on this connection and not acknowledged,
	// ascending. Its length over all lanes is bounded by the window.
	unacked []sent
	// ackPending are the sequences that earlier connections were sent and did not
	// acknowledge, and that this one has not been sent yet; ascending.
	ackPending []uint64

	// readPos: every message of the lane with seq <= readPos is queued, was
	// sent, or is finalized.
	readPos uint64
	// ackFloor: what is at or below it, and in neither ackPending nor unacked, is
	// acknowledged.
	ackFloor uint64
	// redeliverUpTo: what is at or below it may have been sent before.
	redeliverUpTo uint64
	// unread is how many messages above readPos and ackFloor were ever stored and
	// are not queued. Those that remain when the lane has caught up are gone.
	unread int64
	// fillFrom is the readPos from which the lane began to catch up.
	fillFrom uint64
	// purgedUpTo: what is at or below it was purged, and is not queued any more.
	purgedUpTo uint64
}

// sent is a message that was sent to the device, or ends without being sent, and
// is not finalized yet.
type sent struct {
	seq       uint64
	stored    int64         // Unix nanoseconds
	requester *ackRequester // the sender that wants to hear the outcome, or nil
	// end, if not nil, is the outcome that is being stored. Once it is stored,
	// the message is finalized. It is a pointer to keep sent small: few messages
	// have one.
	end *verdict
	// order numbers the messages that this connection was sent. tries is how many
	// connections were sent this one.
	order uint64
	tries uint32
	// redelivered: it may have been sent before.
	redelivered bool
}

func (l *lane) queued() int { return len(l.queue) - int(l.head) }

// room reports whether another message may be queued. One always fits, however
// large.
func (l *lane) room() bool {
	n := l.queued()
	return n == 0 || n < laneMessages && l.bytes < laneBytes
}

// push queues m, which must be above readPos.
func (l *lane) push(m *envelope.Message) {
	l.readPos = m.Seq
	if m.Seq <= l.ackFloor {
		if !l.isAckPending(m.Seq) {
			return
		}
	}
	if int(l.head) > len(l.queue)/2 && len(l.queue) == cap(l.queue) {
		n := copy(l.queue, l.queue[l.head:])
		clear(l.queue[n:])
		l.queue, l.head = l.queue[:n], 0
	}
	l.queue = append(l.queue, m)
	l.bytes += costOf(m)
}

// pushRead queues a message that was read from the store or the tail, unless it
// was purged meanwhile.
func (l *lane) pushRead(m *envelope.Message) {
	if m.Seq <= l.purgedUpTo {
		l.readPos = m.Seq
		return
	}
	if m.Seq > l.ackFloor {
		l.unread--
	}
	l.push(m)
}

// costOf is what a message counts in a lane's bytes. No message is larger than NATS
// takes, 64 MiB.
func costOf(m *envelope.Message) int32 { return int32(m.Cost()) } //nolint:gosec // see above

func (l *lane) pop() *envelope.Message {
	m := l.queue[l.head]
	l.queue[l.head] = nil
	l.head++
	l.bytes -= costOf(m)
	if int(l.head) == len(l.queue) {
		// An idle device holds no queue.
		l.queue, l.head = nil, 0
	}
	return m
}

// forgetPending drops the sequences up to seq from ackPending: they are being
// sent, or are gone from the store.
func (l *lane) forgetPending(seq uint64) {
	n := 0
	for n < len(l.ackPending) && l.ackPending[n] <= seq {
		n++
	}
	if l.ackPending = l.ackPending[n:]; len(l.ackPending) == 0 {
		l.ackPending = nil
	}
}

// skip moves readPos over messages that are known to be acknowledged, so that
// they are not read from the store.
func (l *lane) skip() {
	target := l.ackFloor
	if i, _ := slices.BinarySearch(l.ackPending, l.readPos+1); i < len(l.ackPending) {
		target = l.ackPending[i] - 1
	}
	l.readPos = max(l.readPos, target)
}

// find returns where seq stands in unacked.
func (l *lane) find(seq uint64) (int, bool) {
	return slices.BinarySearchFunc(l.unacked, seq, func(s sent, seq uint64) int { return cmp.Compare(s.seq, seq) })
}

// remove takes an entry out of unacked.
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

// isAckPending reports whether an earlier connection was sent seq and did not
// acknowledge it, and this one was not sent it yet.
func (l *lane) isAckPending(seq uint64) bool {
	_, ok := slices.BinarySearch(l.ackPending, seq)
	return ok
}

// queuedAbove returns how many queued messages have a sequence above seq.
func (l *lane) queuedAbove(seq uint64) uint64 {
	return uint64(above(l.queue[l.head:], seq)) //nolint:gosec // a count
}

// cursor adds the lane to c. head is the sequence up to which the hub has handed
// out everything. requested are those of ackPending, and of other lanes, whose
// senders want to hear the outcome.
func (l *lane) cursor(c *Cursor, n subjects.Lane, head uint64, requested []uint64) {
	upTo := l.readPos
	switch {
	case l.queued() > 0:
		upTo = l.queue[l.head].Seq - 1
	case !l.catchingUp:
		upTo = max(l.readPos, head)
	}
	c.Sent[n] = max(upTo, l.ackFloor)
	c.Waiting[n] = uint64(max(l.unread, 0)) + l.queuedAbove(l.ackFloor)
	if len(l.unacked)+len(l.ackPending) == 0 {
		return
	}
	all := make([]uint64, 0, len(l.unacked)+len(l.ackPending))
	for _, s := range l.unacked {
		all = append(all, s.seq)
	}
	all = append(all, l.ackPending...)
	for _, s := range l.unacked {
		if s.requester != nil {
			c.AckRequested = append(c.AckRequested, s.seq)
		}
	}
	for _, seq := range requested {
		if l.isAckPending(seq) {
			c.AckRequested = append(c.AckRequested, seq)
		}
	}
	slices.Sort(all)
	c.Unacked[n] = slices.Compact(all)
}

// countTries adds to all how many connections were sent each unacknowledged
// message, of which earlier has those before this one.
func (l *lane) countTries(all, earlier map[uint64]uint32) {
	for _, seq := range l.ackPending {
		all[seq] = max(earlier[seq], 1)
	}
	for _, s := range l.unacked {
		all[s.seq] = s.tries
	}
}
