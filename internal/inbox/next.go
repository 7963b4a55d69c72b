package inbox

import (
	"time"

	"github.com/rccs-io/rccs/internal/envelope"
	"github.com/rccs-io/rccs/subjects"
	"github.com/rccs-io/rccs/wire"
)

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
