package inbox

import (
	"context"
	"errors"
	"fmt"
	"math"
	"slices"
	"time"

	"github.com/rccs-io/rccs/subjects"
)

// Attach attaches the device's inbox to this hub, and evicts an earlier
// attachment of the device here. When it returns, the waiting messages are
// counted and the first of them are queued.
func (h *Hub) Attach(ctx context.Context, key subjects.Key, to Receiver, opts MailboxOptions) (*Mailbox, error) {
	if opts.Window < 1 {
		return nil, errors.New("inbox: attach: Window is needed")
	}
	window := int32(min(opts.Window, math.MaxInt32))
	mb := &Mailbox{hub: h, key: key, to: to, epoch: opts.Epoch, window: window, unsure: opts.Unsure, filling: true}
	for n := range mb.lanes {
		mb.lanes[n].catchingUp = true
	}
	if err := h.takeOver(mb); err != nil {
		return nil, err
	}
	if err := h.restore(ctx, mb, opts.Before); err != nil {
		h.detach(mb)
		return nil, fmt.Errorf("inbox: attach %s: %w", key, err)
	}
	return mb, nil
}

// takeOver replaces an earlier mailbox of the device with mb, and has the state
// of the earlier one stored.
func (h *Hub) takeOver(mb *Mailbox) error {
	h.mu.Lock()
	if h.stopped {
		h.mu.Unlock()
		return ErrStopped
	}
	old := h.mailboxes[mb.key]
	h.mailboxes[mb.key] = mb
	h.fenceLocked(mb)
	delete(h.depths, mb.key) // the mailbox counts from now on
	if old != nil {
		h.retire(old)
	}
	if l := h.departed[mb.key]; l != nil { // without mb.mu: nobody else can reach mb yet
		delete(h.departed, mb.key)
		mb.early = l.acked
	}
	h.mu.Unlock()
	if old != nil {
		old.to.Evicted()
	}
	return nil
}

// retire closes a mailbox. It has the cursor stored if the attachment was
// complete.
func (h *Hub) retire(mb *Mailbox) {
	mb.mu.Lock()
	defer mb.mu.Unlock()
	if mb.closed {
		return
	}
	c, finalizing := mb.closeLocked()
	if !mb.ready {
		return
	}
	h.cursors.put(mb.key, c, mb.stored, mb.changedAt())
	if len(finalizing) > 0 {
		l := &pendingOutcomes{cursor: c, stored: mb.stored, acked: finalizing}
		h.departed[mb.key] = l
	}
}

// pendingOutcomes are the messages that a departed device had acknowledged and
// whose outcomes are not stored yet. Until they are, the cursor lists them as
// unacknowledged.
type pendingOutcomes struct {
	cursor Cursor
	stored *revision
	acked  map[uint64]verdict
}

// storing reports whether an outcome is on its way, after which the cursor is stored
// once more. Nothing is for a message that the device acknowledged before its turn
// came: that one waits until the device is back.
func (l *pendingOutcomes) storing() bool {
	if l == nil {
		return false
	}
	for _, v := range l.acked {
		if v.storing {
			return true
		}
	}
	return false
}

// finalized is called when the outcome of a message is stored. It finalizes the
// message in the device's mailbox, or in the cursor of a device that has left.
func (h *Hub) finalized(o outcome) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if mb := h.mailboxes[o.key]; mb != nil {
		mb.finalize(o.lane, o.seq)
		return
	}
	l := h.departed[o.key]
	if l == nil {
		return
	}
	if _, ok := l.acked[o.seq]; !ok {
		return
	}
	is := func(seq uint64) bool { return seq == o.seq }
	l.cursor.Unacked[o.lane] = slices.DeleteFunc(slices.Clone(l.cursor.Unacked[o.lane]), is)
	l.cursor.AckRequested = slices.DeleteFunc(slices.Clone(l.cursor.AckRequested), is)
	h.cursors.put(o.key, l.cursor, l.stored, time.Now())
	if delete(l.acked, o.seq); len(l.acked) == 0 {
		delete(h.departed, o.key)
	}
}

func (h *Hub) detach(mb *Mailbox) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.mailboxes[mb.key] == mb {
		delete(h.mailboxes, mb.key)
	}
	h.retire(mb)
}

// restore loads the device's cursor into mb and queues the first waiting
// messages. before is [MailboxOptions.Before].
func (h *Hub) restore(ctx context.Context, mb *Mailbox, before uint64) error {
	end := h.askEnd()
	c, stored, at, err := h.cursors.loadAfter(ctx, mb.key, before)
	if err != nil {
		return err
	}
	h.reach(ctx, end)
	if top := c.top(); top > h.head.Load() {
		if err := h.trim(ctx, mb.key, &c); err != nil {
			return err
		}
	}
	upTo, err := mb.maybeSent(ctx, &c, end)
	if err != nil {
		return err
	}
	floor, away := h.restoreCursor(mb, &c, stored, at, upTo)
	if away && !h.doubtful() && !h.sweptFor(mb, floor) {
		if err := h.probe(ctx, mb, floor); err != nil {
			return err
		}
	}
	more, err := mb.fillFirst(ctx)
	if err != nil {
		return err
	}
	return h.open(mb, more)
}

// restoreCursor applies the cursor. From here on the mailbox counts the messages
// stored for its device. floor is where the tail begins, and away reports whether
// some lane lies before it.
func (h *Hub) restoreCursor(mb *Mailbox, c *Cursor, stored time.Time, at *revision, upTo uint64) (floor uint64, away bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	head := h.head.Load()
	h.damaged.Load().tell(c, stored)
	h.tally.waitingLocked(mb.key, c, head)
	mb.mu.Lock()
	defer mb.mu.Unlock()
	mb.stored, mb.counting, mb.fresh = at, true, stored.IsZero()
	return h.tail.floor, mb.restoreLocked(c, h.tail.floor, head, upTo)
}

// open completes an attachment: from here on the mailbox hands out messages. more
// says that not all has been read of what it can hold.
func (h *Hub) open(mb *Mailbox, more bool) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	mb.mu.Lock()
	defer mb.mu.Unlock()
	if mb.closed {
		return ErrTakenOver
	}
	mb.filling, mb.ready = false, true
	if more {
		mb.fillLocked()
	}
	for _, one := range h.tally.devices[mb.key] {
		if one.request != nil && mb.isOpenLocked(one.lane, one.seq) {
			h.publishDeadline(mb.key, one.request)
		}
	}
	delete(h.tally.devices, mb.key) // the mailbox's cursor counts these messages
	if mb.fresh {
		// Store a first cursor, so that the device is known even if this process is
		// killed: one without is told of damage for doubtNew only, and of damage from
		// before it came.
		h.cursors.put(mb.key, mb.cursorLocked(true), mb.stored, time.Now())
	} else {
		mb.dirtyLocked()
	}
	mb.done = nil
	mb.pending = int32(min(mb.waitingLocked(), math.MaxInt32)) //nolint:gosec // it fits
	if mb.pending > 0 || mb.ackPendingLocked() || len(mb.gaps) > 0 {
		mb.to.MessagesReady()
	}
	return nil
}

// ackPendingLocked reports whether an earlier connection left something
// unacknowledged.
func (mb *Mailbox) ackPendingLocked() bool {
	for n := range mb.lanes {
		if len(mb.lanes[n].ackPending) > 0 {
			return true
		}
	}
	return false
}

// ErrTakenOver is wrapped by the error of an Attach that a newer Attach of the
// same device replaced.
var ErrTakenOver = errors.New("a newer connection took over")

// trim checks a cursor that is above the head. Either its messages were read from
// the store ahead of the hub, which is fine, or the stream lost its end while
// this hub was reading. In the second case the messages that are stored at those
// sequences now are new to the device, so trim cuts the cursor back.
func (h *Hub) trim(ctx context.Context, key subjects.Key, c *Cursor) error {
	state, err := h.reader.StateFrom(ctx, c.top())
	if err != nil {
		return err
	}
	last := state.LastSeq
	for n := range c.Sent {
		if c.Sent[n] > last || c.UpTo > last {
			h.opts.Logger.Warn("cursor is above the end of the stream, which must have lost messages",
				"device", string(key), "lane", subjects.Lane(n).String(), "cursor", c.Sent[n], "last", last)
			c.cut(subjects.Lane(n), last)
		}
	}
	return nil
}

// maybeSent returns the sequence up to which an earlier connection may have been
// sent messages that the cursor does not list; 0 if it lists them all. The edge
// of that connection may have read more of the stream than this hub, so the
// sequence is the end of the stream. A device is not attached without it.
func (mb *Mailbox) maybeSent(ctx context.Context, c *Cursor, end *endCall) (uint64, error) {
	if !c.Open && !mb.unsure {
		return 0, nil
	}
	select {
	case <-end.done:
		return end.last, end.err
	case <-ctx.Done():
		return 0, ctx.Err()
	}
}

// restoreLocked applies the cursor. Messages up to upTo may have been sent
// before. away reports whether some lane lies before the beginning of the tail.
func (mb *Mailbox) restoreLocked(c *Cursor, floor, head, upTo uint64) (away bool) {
	mb.seen, mb.doubted = c.UpTo, c.Doubted
	mb.restoreGapsLocked(c.Gaps)
	mb.tries, mb.ackRequested = c.Tries, c.AckRequested
	for n := range mb.lanes {
		l := &mb.lanes[n]
		l.unread = int64(c.Waiting[n]) //nolint:gosec // a count of messages
		l.ackFloor = c.Sent[n]
		l.ackPending = slices.DeleteFunc(slices.Clone(c.Unacked[n]), func(seq uint64) bool {
			_, done := mb.done[seq]
			return done
		})
		l.redeliverUpTo = max(l.ackFloor, min(mb.hub.redeliverUpTo.Load(), head))
		if c.Open || mb.unsure {
			l.redeliverUpTo = max(head, upTo, l.ackFloor)
		}
		l.skip()
		away = away || l.readPos+1 < floor
	}
	return away
}

// probe looks up the last message of each lane, and moves the lanes that have
// nothing new to where the tail begins. The look-ups of many devices share one
// request.
func (h *Hub) probe(ctx context.Context, mb *Mailbox, floor uint64) error {
	names := make([]string, subjects.Lanes)
	for n := range names {
		names[n] = subjects.Inbox(mb.key, subjects.Lane(n))
	}
	last, err := h.last.Get(ctx, names)
	if err != nil {
		return err
	}
	mb.mu.Lock()
	defer mb.mu.Unlock()
	for n := range mb.lanes {
		l := &mb.lanes[n]
		if last[n] == nil || last[n].Seq <= l.readPos {
			l.readPos = max(l.readPos, floor-1)
		}
	}
	return nil
}
