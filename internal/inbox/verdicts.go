package inbox

import (
	"slices"
	"time"

	"github.com/rccs-io/rccs/subjects"
	"github.com/rccs-io/rccs/wire"
)

// maxEarly bounds how many acknowledgements are remembered for messages that this
// connection has not been sent yet. Past it they are ignored, and the messages
// are sent again.
const maxEarly = 4096

// Ack acknowledges messages by sequence. A sequence that was never sent to the
// device here is remembered if it exists, because an earlier connection may have
// been sent it. Any other is ignored.
func (mb *Mailbox) Ack(seqs ...uint64) {
	mb.whileOpen(func(now int64) {
		for _, seq := range seqs {
			mb.ackLocked(seq, now)
		}
	})
}

// whileOpen has do acknowledge or reject messages, with mu held, unless the mailbox
// is closed.
func (mb *Mailbox) whileOpen(do func(now int64)) {
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
	mb.whileOpen(func(now int64) {
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

// ackedLocked is called after acknowledgements. full: the window was full before
// them.
func (mb *Mailbox) ackedLocked(full bool) {
	mb.dirtyLocked()
	if full && mb.out < mb.window {
		mb.to.MessagesReady()
	}
}
