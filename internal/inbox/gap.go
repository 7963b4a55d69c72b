package inbox

import (
	"context"
	"time"

	"github.com/rccs-io/rccs/subjects"
	"github.com/rccs-io/rccs/wire"
)

// A device hears of what it had not acknowledged and what is gone from the
// store: because it was too old, or too much came after it, or an operator
// purged it. What it was sent before is listed in its cursor, so that the count
// is exact. Of what it was never sent nobody has kept a list: when the store's
// first message is behind the end of what the device has, or its lane is full,
// what was between may have held messages for it, and the count is not known.

// gapLocked notes that messages of a lane are gone.
func (mb *Mailbox) gapLocked(n subjects.Lane, from, to, count uint64) {
	mb.gaps = append(mb.gaps, wire.Gap{Lane: n.String(), From: from, To: to, Count: count})
	mb.dirtyLocked()
}

// Gaps takes what the device is to be told of messages that are gone. They
// come before what Next returned last.
func (mb *Mailbox) Gaps() []wire.Gap {
	mb.mu.Lock()
	defer mb.mu.Unlock()
	gaps := mb.gaps
	mb.gaps = nil
	return gaps
}

// ackPendingLocked reports whether an earlier connection left something unacknowledged.
func (mb *Mailbox) ackPendingLocked() bool {
	for n := range mb.lanes {
		if len(mb.lanes[n].ackPending) > 0 {
			return true
		}
	}
	return false
}

// missedLocked looks for messages that earlier connections were sent, that were
// not acknowledged, and that the store should have had before seq.
func (mb *Mailbox) missedLocked(n subjects.Lane, seq uint64) {
	l := &mb.lanes[n]
	var from, to, count uint64
	for _, pending := range l.ackPending {
		if pending >= seq {
			break
		}
		if _, acked := mb.early[pending]; acked {
			delete(mb.early, pending)
			continue
		}
		if count == 0 {
			from = pending
		}
		to = pending
		count++
	}
	if count > 0 {
		mb.gapLocked(n, from, to, count)
	}
	if seq > 0 {
		l.forgetPending(seq - 1)
	}
}

// retention looks for what the device was never sent and the store does not
// have any more.
func (mb *Mailbox) retentionLocked(c *Cursor) {
	first := mb.hub.first.Load()
	for n, seq := range c.Sent {
		if seq > 0 && seq+1 < first {
			mb.gapLocked(subjects.Lane(n), seq+1, first-1, 0)
		}
	}
}

// fullLane reports whether the store keeps no more of a lane than n messages, so
// that older ones may have made room for newer.
func (h *Hub) fullLane(n int) bool {
	bound := h.perLane.Load()
	return bound > 0 && int64(n) >= bound
}

// overflowedLocked notes what the device was never sent and a full lane does not
// hold any more. first is the first message that it holds.
func (mb *Mailbox) overflowedLocked(n subjects.Lane, first uint64) {
	from := max(mb.lanes[n].ackFloor+1, mb.hub.first.Load())
	if from < first {
		mb.gapLocked(n, from, first-1, 0)
	}
}

// refreshEvery is how often the stream is asked where it begins, for devices that
// are attached. Who attaches asks anew.
const refreshEvery = time.Minute

// watchStream keeps track of where the stream begins, until the hub stops.
func (h *Hub) watchStream() {
	tick := time.NewTicker(refreshEvery)
	defer tick.Stop()
	for {
		select {
		case <-h.closing.Done():
			return
		case <-tick.C:
		}
		ctx, cancel := context.WithTimeout(h.closing, fullTimeout)
		_, err := h.refreshState(ctx)
		cancel()
		if err != nil && h.closing.Err() == nil {
			h.opts.Logger.Warn("the stream does not say where it begins", "err", err)
		}
	}
}
