package inbox

import (
	"context"

	"github.com/rccs-io/rccs/subjects"
)

// loss is messages of a lane that are gone, before the reason is known.
type loss struct {
	lane     subjects.Lane
	from, to uint64
	count    uint64
	// exact: these are the sequences of the first and the last of them. Otherwise
	// they lie there if what went were the oldest.
	exact bool
}

// missedLocked looks for messages that earlier connections were sent and did not
// acknowledge, and that the store should have returned before seq. Those are
// gone. It reports whether there are any.
func (mb *Mailbox) missedLocked(n subjects.Lane, seq uint64) bool {
	l := &mb.lanes[n]
	gone := loss{lane: n, exact: true}
	for _, pending := range l.ackPending {
		if pending >= seq {
			break
		}
		if _, acked := mb.early[pending]; acked {
			delete(mb.early, pending)
			continue
		}
		if gone.count == 0 {
			gone.from = pending
		}
		gone.to = pending
		gone.count++
	}
	if gone.count > 0 {
		mb.lost = append(mb.lost, gone)
		mb.fillLocked()
	}
	if seq > 0 {
		l.forgetPending(seq - 1)
	}
	return gone.count > 0
}

// caughtUpLocked is called when everything that is stored of a lane is queued.
// Messages that were counted and not found are gone.
func (mb *Mailbox) caughtUpLocked(n subjects.Lane) {
	l := &mb.lanes[n]
	l.catchingUp = false
	if l.unread > 0 {
		mb.lostLocked(n, max(l.readPos, mb.hub.head.Load()), uint64(l.unread))
	}
	l.unread = 0
}

// lostLocked notes that count messages of a lane are gone which the device was
// never sent. They lie between where the lane began to catch up and to, or behind
// both if the stream has lost its end.
func (mb *Mailbox) lostLocked(n subjects.Lane, to, count uint64) {
	l := &mb.lanes[n]
	from := max(l.fillFrom, l.ackFloor) + 1
	mb.lost = append(mb.lost, loss{lane: n, from: from, to: max(from, to), count: count})
}

// explain finds out why messages are gone, tells their senders, and adds the gaps
// for the device.
func (mb *Mailbox) explain(ctx context.Context) error {
	for {
		mb.mu.Lock()
		if len(mb.lost) == 0 || mb.closed {
			mb.mu.Unlock()
			return nil
		}
		l := mb.lost[0]
		mb.mu.Unlock()
		reason, l, err := mb.hub.whyLost(ctx, mb.key, l)
		if err != nil {
			return err
		}
		if err := mb.hub.tellLost(ctx, mb.key, l, reason); err != nil {
			return err
		}
		mb.mu.Lock()
		if !mb.closed {
			mb.lost = mb.lost[1:]
			mb.gapLocked(Gap{Lane: l.lane, From: l.from, To: l.to, Count: l.count, Reason: reason})
		}
		mb.mu.Unlock()
	}
}
