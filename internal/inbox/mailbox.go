package inbox

import (
	"slices"
	"sync"
	"time"

	"github.com/rccs-io/rccs/internal/envelope"
	"github.com/rccs-io/rccs/subjects"
	"github.com/rccs-io/rccs/wire"
)

// maxEarly bounds how many acknowledgements are remembered for messages that this
// connection has not been sent yet. Past it they are ignored, and the messages
// are sent again.
const maxEarly = 4096

// MailboxOptions configure a device's attachment to its inbox.
type MailboxOptions struct {
	// Window is how many messages may be unacknowledged. At least 1.
	Window int
	// Epoch is that of the device's session. A cursor that another edge has
	// stored for a later epoch is left as it is.
	Epoch uint64
	// Before is the epoch of the session before; 0 if none is known. See
	// [Cursor.Follows].
	Before uint64
	// Unsure: another edge had the device, and may have sent it more than the
	// stored cursor says. So what is stored now counts as sent before.
	Unsure bool
}

// A Receiver is what a mailbox hands messages to: the device's connection.
type Receiver interface {
	// MessagesReady is called when Next may have something. It is called with
	// locks held: it must not block and must not call the mailbox or the hub.
	MessagesReady()
	// Evicted is called when a newer attachment of the device took over; once,
	// and without locks. The mailbox hands out nothing any more.
	Evicted()
	// Fits reports whether the device can be sent a message at all. It is called
	// with locks held.
	Fits(m *envelope.Message) bool
	// Acked is called for each acknowledged message, with its sequence and how
	// long ago it was stored. It is called with locks held.
	Acked(seq uint64, sinceStored time.Duration)
}

// Mailbox is a device's attachment to its inbox: the messages that wait to be
// sent, those that were sent and not acknowledged, and the position in the
// stream.
type Mailbox struct {
	hub   *Hub
	key   subjects.Key
	to    Receiver
	epoch uint64 // see MailboxOptions

	mu    sync.Mutex
	lanes [subjects.Lanes]lane
	// ackRequested are those sequences that earlier connections were sent, and did
	// not acknowledge, whose senders want to hear the outcome.
	ackRequested []uint64

	early map[uint64]verdict  // acknowledged, or rejected, before they were sent here
	done  map[uint64]struct{} // finalized before the cursor was loaded

	// There is a mailbox for each device, so these stand together to be small.
	window   int32 // see MailboxOptions
	out      int32 // unacknowledged over all lanes
	unsure   bool  // see MailboxOptions
	ready    bool  // Attach is done with it
	closed   bool
	filling  bool  // a fill is scheduled or runs
	dirty    bool  // the cursor writer will look at it
	fresh    bool  // the device had no cursor
	counting bool  // the cursor is loaded, and new messages are counted here
	scanned  bool  // latest covers all that is stored
	scanning bool  // a scan that will make it so is scheduled
	waking   bool  // it is in Hub.wakes; guarded by Hub.mu
	pending  int32 // what waited at attach

	changed time.Duration // when it became dirty, since started
	stored  *revision     // of the stored cursor; set before ready is
	seen    uint64        // the last message that was counted here
	doubted int64         // see Cursor
	sends   uint64        // how many messages this connection was sent
	// tries counts, for each unacknowledged sequence, the earlier connections
	// that were sent it. The map is never changed.
	tries map[uint64]uint32

	// lost are messages that are gone for a reason that is not known yet. Nothing
	// is handed out before it is.
	lost []loss
	gaps []toldGap // that the device has to be told of, or was told

	// latest is the newest sequence of each collapse key, of the messages that
	// are queued or known to be stored.
	latest map[string]uint64
}

// started is what times of mailboxes are counted from.
var started = time.Now()

// Pending returns how many messages waited for the device when it was attached.
func (mb *Mailbox) Pending() int { return int(mb.pending) }

// Key returns the device's key.
func (mb *Mailbox) Key() subjects.Key { return mb.key }

// Next appends to dst what the device may be sent now, and counts it as sent. The
// highest lane comes first, each lane is in order, and there are up to limit
// messages and about maxBytes of payload. If nothing is appended, Wake is called
// when there is more.
func (mb *Mailbox) Next(dst []envelope.Delivery, limit, maxBytes int) []envelope.Delivery {
	mb.mu.Lock()
	defer mb.mu.Unlock()
	if mb.closed || !mb.ready {
		return dst
	}
	if len(mb.lost) > 0 {
		mb.fillLocked()
		return dst
	}
	first, now := len(dst), time.Now().UnixNano()
	for n := subjects.Lanes - 1; n >= 0; n-- {
		l := &mb.lanes[n]
		for l.queued() > 0 && mb.out < mb.window && len(dst)-first < limit && maxBytes > 0 {
			m := l.queue[l.head]
			if len(l.ackPending) > 0 && l.ackPending[0] < m.Seq && mb.missedLocked(m.Lane, m.Seq) || mb.mustScanLocked(m) {
				return mb.afterNextLocked(dst, first)
			}
			d, ok := mb.sendLocked(l, now)
			if !ok {
				continue
			}
			dst = append(dst, d)
			maxBytes -= d.Cost()
		}
		if !l.catchingUp {
			if len(l.ackPending) > 0 && l.queued() == 0 && mb.missedLocked(subjects.Lane(n), l.readPos+1) {
				return mb.afterNextLocked(dst, first)
			}
			continue
		}
		if l.queued() <= laneMessages/2 {
			mb.fillLocked()
		}
		if l.queued() == 0 {
			break // a lower lane does not overtake what is still in the store
		}
	}
	return mb.afterNextLocked(dst, first)
}

// Doubt has what is stored so far count as sent before: somebody else may have given it
// to the device.
func (mb *Mailbox) Doubt() {
	mb.mu.Lock()
	defer mb.mu.Unlock()
	head := mb.hub.head.Load()
	for n := range mb.lanes {
		l := &mb.lanes[n]
		l.redeliverUpTo = max(l.redeliverUpTo, head)
	}
}

// afterNextLocked ends Next.
func (mb *Mailbox) afterNextLocked(dst []envelope.Delivery, first int) []envelope.Delivery {
	if len(dst) > first {
		mb.dirtyLocked()
	}
	if mb.latest != nil && mb.drainedLocked() {
		mb.latest = nil // nothing is left to be replaced
	}
	return dst
}

// sendLocked takes the lane's next message; false if it is not to be sent.
func (mb *Mailbox) sendLocked(l *lane, now int64) (envelope.Delivery, bool) {
	m := l.pop()
	newest := mb.newestLocked(m)
	pending := false
	if m.Seq <= l.ackFloor {
		pending = l.isAckPending(m.Seq)
		l.forgetPending(m.Seq)
		if !pending {
			return envelope.Delivery{}, false
		}
	}
	if v, over := mb.verdictLocked(l, m, newest || pending, now); over {
		delete(mb.early, m.Seq)
		mb.endLocked(l, m, v, now)
		return envelope.Delivery{}, false
	}
	mb.sends++
	l.unacked = append(l.unacked, sent{seq: m.Seq, stored: m.Stored, requester: requesterOf(m), order: mb.sends, tries: mb.tries[m.Seq] + 1, redelivered: m.Seq <= l.redeliverUpTo})
	mb.out++
	return envelope.Delivery{Message: m, Redelivered: m.Seq <= l.redeliverUpTo}, true
}

// endLocked finalizes a message that is not sent: at once or, if its sender asked
// or it is kept as rejected, when the outcome is stored.
func (mb *Mailbox) endLocked(l *lane, m *envelope.Message, v verdict, now int64) {
	mb.dirtyLocked()
	if v.reason == wire.ReasonTooLarge {
		mb.gapLocked(Gap{Lane: m.Lane, From: m.Seq, To: m.Seq, Count: 1, Reason: v.reason})
	}
	a := requesterOf(m)
	if a == nil && !kept(v.status) {
		return
	}
	l.unacked = append(l.unacked, sent{seq: m.Seq, stored: m.Stored, requester: a, end: &v})
	mb.out++
	mb.hub.outcomes.add(outcome{
		key: mb.key, lane: m.Lane, seq: m.Seq, requester: a, status: v.status, reason: v.reason, at: now,
		// At its deadline a coordinator may have told that it has expired.
		stored: m.Stored, again: mb.hub.mayBeTold(m.Seq <= l.redeliverUpTo || v.status == wire.StatusExpired, m.Stored, now),
	})
}

// verdictLocked returns how a message ends whose turn has come; over is false if
// it is to be sent. sure: no newer message with its collapse key replaces it.
func (mb *Mailbox) verdictLocked(l *lane, m *envelope.Message, sure bool, now int64) (v verdict, over bool) {
	if v, over = mb.early[m.Seq]; over {
		return v, true
	}
	at, most := m.Expires(), mb.hub.opts.MaxDeliveries
	switch {
	case at != 0 && at <= now:
		return verdict{status: wire.StatusExpired}, true
	case !sure && m.Seq > l.redeliverUpTo:
		return verdict{status: wire.StatusReplaced}, true
	case most > 0 && int(mb.tries[m.Seq]) >= most:
		return verdict{status: wire.StatusRejected, reason: wire.ReasonMaxDeliveries}, true
	case !mb.to.Fits(m):
		return verdict{status: wire.StatusUndeliverable, reason: wire.ReasonTooLarge}, true
	}
	return v, false
}

// dirtyLocked notes that the stored cursor is out of date.
func (mb *Mailbox) dirtyLocked() {
	if !mb.dirty {
		mb.dirty, mb.changed = true, time.Since(started)
		mb.hub.cursors.markDirty(mb)
	}
}

// changedAt returns when the oldest change that no cursor has was made.
func (mb *Mailbox) changedAt() time.Time {
	if mb.dirty {
		return started.Add(mb.changed)
	}
	return time.Now()
}

// Ack acknowledges messages by sequence. A sequence that was never sent to the
// device here is remembered if it exists, because an earlier connection may have
// been sent it. Any other is ignored.
func (mb *Mailbox) Ack(seqs ...uint64) {
	mb.settle(func(now int64) {
		for _, seq := range seqs {
			mb.ackLocked(seq, now)
		}
	})
}

// settle has do acknowledge or reject messages with mu held, unless the mailbox is
// closed.
func (mb *Mailbox) settle(do func(now int64)) {
	now := time.Now().UnixNano()
	mb.mu.Lock()
	defer mb.mu.Unlock()
	if mb.closed {
		return
	}
	full := mb.out >= mb.window
	do(now)
	mb.ackedLocked(full)
}

// AckUpTo acknowledges every message up to seq that this connection was sent.
func (mb *Mailbox) AckUpTo(seq uint64) {
	mb.settle(func(now int64) {
		for n := range mb.lanes {
			l := &mb.lanes[n]
			upTo, found := l.find(seq)
			if found {
				upTo++
			}
			for i := upTo - 1; i >= 0; i-- { // from the end: ackLocked may remove the entry
				mb.ackLocked(l.unacked[i].seq, now)
			}
		}
	})
}

func (mb *Mailbox) ackLocked(seq uint64, now int64) {
	for n := range mb.lanes {
		l := &mb.lanes[n]
		if i, ok := l.find(seq); ok {
			mb.ackSentLocked(subjects.Lane(n), i, now)
			return
		}
		if i, ok := slices.BinarySearch(l.ackPending, seq); ok {
			if _, asked := slices.BinarySearch(mb.ackRequested, seq); asked {
				mb.earlyLocked(seq, verdict{status: wire.StatusDelivered}) // its requester is known when it comes up
			} else {
				l.ackPending = slices.Delete(l.ackPending, i, i+1)
			}
			return
		}
	}
	if seq != 0 && seq <= mb.hub.head.Load() && !mb.drainedLocked() {
		mb.earlyLocked(seq, verdict{status: wire.StatusDelivered})
	}
}

// earlyLocked remembers the device's verdict on a message that is yet to be sent
// here.
func (mb *Mailbox) earlyLocked(seq uint64, v verdict) {
	if len(mb.early) >= maxEarly {
		return
	}
	if mb.early == nil {
		mb.early = make(map[uint64]verdict)
	}
	mb.early[seq] = v
}

// ackSentLocked finalizes a message that was sent here: at once or, if its sender
// asked, when the outcome is stored.
func (mb *Mailbox) ackSentLocked(n subjects.Lane, i int, now int64) {
	l := &mb.lanes[n]
	s := &l.unacked[i]
	if s.end != nil {
		return
	}
	mb.to.Acked(s.seq, time.Duration(now-s.stored))
	if len(mb.gaps) > 0 {
		mb.confirmGapsLocked(s.order)
	}
	if s.requester == nil {
		l.remove(i)
		mb.out--
		return
	}
	s.end = &verdict{status: wire.StatusDelivered}
	mb.hub.outcomes.add(outcome{
		key: mb.key, lane: n, seq: s.seq, requester: s.requester, status: wire.StatusDelivered, at: now,
		stored: s.stored, again: mb.hub.mayBeTold(s.redelivered, s.stored, now),
	})
}

// finalize is called when the outcome of a message is stored. The message ended
// here, or was acknowledged on an earlier connection.
func (mb *Mailbox) finalize(n subjects.Lane, seq uint64) {
	mb.mu.Lock()
	defer mb.mu.Unlock()
	l := &mb.lanes[n]
	full := mb.out >= mb.window
	if i, ok := l.find(seq); ok && l.unacked[i].end != nil {
		l.remove(i)
		mb.out--
	} else if i, ok := slices.BinarySearch(l.ackPending, seq); ok {
		l.ackPending = slices.Delete(l.ackPending, i, i+1)
		delete(mb.early, seq)
	} else if !mb.ready {
		// The cursor that is being loaded still lists it as unacknowledged.
		if mb.done == nil {
			mb.done = make(map[uint64]struct{})
		}
		mb.done[seq] = struct{}{}
	}
	mb.ackedLocked(full)
}

// drainedLocked reports whether nothing waits to be sent.
func (mb *Mailbox) drainedLocked() bool {
	for n := range mb.lanes {
		l := &mb.lanes[n]
		if l.catchingUp || l.queued() > 0 {
			return false
		}
	}
	return true
}

// isOpen reports whether a message waits, or was sent and is not acknowledged.
func (mb *Mailbox) isOpen(n subjects.Lane, seq uint64) bool {
	mb.mu.Lock()
	defer mb.mu.Unlock()
	return mb.isOpenLocked(n, seq)
}

func (mb *Mailbox) isOpenLocked(n subjects.Lane, seq uint64) bool {
	l := &mb.lanes[n]
	_, unacked := l.find(seq)
	return unacked || l.isAckPending(seq) || l.queued() > 0 && seq >= l.queue[l.head].Seq || l.catchingUp && seq > l.readPos
}

// waitingLocked returns how many messages wait to be sent, without those that an
// earlier connection acknowledged.
func (mb *Mailbox) waitingLocked() int {
	n := 0
	for i := range mb.lanes {
		l := &mb.lanes[i]
		n += l.queued() + int(max(l.unread, 0))
		if len(mb.early) == 0 {
			continue
		}
		for _, m := range l.queue[l.head:] {
			if _, acked := mb.early[m.Seq]; acked {
				n--
			}
		}
	}
	return n
}

// ackedLocked is called after acknowledgements. full: the window was full before
// them.
func (mb *Mailbox) ackedLocked(full bool) {
	mb.dirtyLocked()
	if full && mb.out < mb.window {
		mb.to.MessagesReady()
	}
}

// deliver is called by the hub, with Hub.mu held, for each message that arrives
// while the mailbox is attached. wake reports whether to call Wake, and counted
// whether the cursor will count the message.
func (mb *Mailbox) deliver(m *envelope.Message) (wake, counted bool) {
	mb.mu.Lock()
	defer mb.mu.Unlock()
	l := &mb.lanes[m.Lane]
	if mb.closed {
		return false, false
	}
	counted = mb.ready
	mb.noteLocked(m)
	switch {
	case !mb.counting:
		return false, false
	case m.Seq <= l.readPos:
		if m.Seq > l.ackFloor {
			l.unread++ // it was read from the store before it came by the stream
		}
	case !l.catchingUp && !l.room():
		l.catchingUp, l.compared, l.fillFrom = true, false, l.readPos
		fallthrough
	case l.catchingUp:
		l.unread++
	default:
		l.push(m)
		wake = mb.out < mb.window
	}
	mb.seen = m.Seq
	if mb.ready {
		mb.dirtyLocked()
	}
	return wake, counted
}

// cursorLocked returns the mailbox's state as it is stored. open says that the
// session is live, so that messages above the cursor count as perhaps sent if it
// is the last one: the process may be killed, or the store may not take the next.
func (mb *Mailbox) cursorLocked(open bool) Cursor {
	head := mb.hub.head.Load()
	c := Cursor{Open: open, Epoch: mb.epoch, UpTo: max(head, mb.seen), Gaps: mb.storedGapsLocked(), Doubted: mb.doubted}
	for n := range mb.lanes {
		mb.lanes[n].cursor(&c, subjects.Lane(n), head, mb.ackRequested)
	}
	if mb.hub.opts.MaxDeliveries > 0 {
		c.Tries = make(map[uint64]uint32)
		for n := range mb.lanes {
			mb.lanes[n].countTries(c.Tries, mb.tries)
		}
	}
	slices.Sort(c.AckRequested)
	for n := range mb.lanes {
		// An earlier connection may have been sent more than this one.
		c.Open = c.Open || c.Sent[n] < mb.lanes[n].redeliverUpTo
	}
	return c
}

// closeLocked closes the mailbox and returns its state for the one that follows.
// finalizing are the messages that have ended and that the cursor still lists as
// unacknowledged.
func (mb *Mailbox) closeLocked() (c Cursor, finalizing map[uint64]verdict) {
	c = mb.cursorLocked(false)
	finalizing = make(map[uint64]verdict)
	for n := range mb.lanes {
		for _, s := range mb.lanes[n].unacked {
			if s.end != nil {
				v := *s.end
				v.storing = true
				finalizing[s.seq] = v
			}
		}
		for seq, v := range mb.early {
			if mb.lanes[n].isAckPending(seq) {
				finalizing[seq] = v // acknowledged before it came up
			}
		}
	}
	mb.closed = true
	mb.early, mb.latest = nil, nil
	for n := range mb.lanes {
		mb.lanes[n] = lane{}
	}
	return c, finalizing
}

// Detach ends the attachment and stores its cursor. It is idempotent.
func (mb *Mailbox) Detach() { mb.hub.detach(mb) }
