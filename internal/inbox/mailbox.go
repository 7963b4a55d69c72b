package inbox

import (
	"slices"
	"sync"
	"time"

	"github.com/rccs-io/rccs/internal/envelope"
	"github.com/rccs-io/rccs/subjects"
)

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
