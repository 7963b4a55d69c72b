package inbox

import (
	"context"

	"github.com/rccs-io/rccs/internal/envelope"
	"github.com/rccs-io/rccs/subjects"
)

// A message with a collapse key replaces an older message of the same key that
// has not been sent yet, in whatever lane. The mailbox decides this when the
// older message's turn comes: for each key it keeps the newest sequence that it
// has seen. While a lane is catching up, the mailbox has not seen everything. So
// when the first message with a key comes up then, the mailbox reads through the
// rest of the backlog once.

// noteLocked records a message as the newest of its key, if it is.
func (mb *Mailbox) noteLocked(m *envelope.Message) {
	key := m.CollapseKey()
	if key == "" || mb.latest[key] >= m.Seq {
		return
	}
	if mb.latest == nil {
		mb.latest = make(map[string]uint64)
	}
	mb.latest[key] = m.Seq
}

// newestLocked reports whether a message whose turn has come is the newest of its
// key. The newest may have been sent already, in a higher lane.
func (mb *Mailbox) newestLocked(m *envelope.Message) bool {
	if len(mb.latest) == 0 {
		return true
	}
	key := m.CollapseKey()
	return key == "" || mb.latest[key] <= m.Seq
}

// mustScanLocked reports whether the rest of the backlog has to be scanned before
// m may be sent. If so, it schedules the scan.
func (mb *Mailbox) mustScanLocked(m *envelope.Message) bool {
	if m.CollapseKey() == "" || mb.scanned {
		return false
	}
	catchingUp := false
	for n := range mb.lanes {
		catchingUp = catchingUp || mb.lanes[n].catchingUp
	}
	if catchingUp {
		mb.scanning = true
		mb.fillLocked()
	}
	return catchingUp
}

// scan records the collapse keys of everything that the lanes which are catching
// up have in the store.
func (mb *Mailbox) scan(ctx context.Context) error {
	for n := range mb.lanes {
		mb.mu.Lock()
		pos, catchingUp := mb.lanes[n].readPos, mb.lanes[n].catchingUp && !mb.closed
		mb.mu.Unlock()
		for catchingUp {
			msgs, left, err := mb.hub.lanes.messages(ctx, subjects.Inbox(mb.key, subjects.Lane(n)), pos+1, laneBatch)
			if err != nil {
				return err
			}
			mb.mu.Lock()
			for _, m := range msgs {
				mb.noteLocked(m)
				pos = m.Seq
			}
			mb.mu.Unlock()
			catchingUp = left > 0 && len(msgs) > 0
		}
		mb.noteTail(subjects.Lane(n), pos)
	}
	mb.mu.Lock()
	defer mb.mu.Unlock()
	mb.scanned, mb.scanning = true, false
	return nil
}

// noteTail records the keys of the messages in the tail, which a lagging replica
// may not have returned.
func (mb *Mailbox) noteTail(n subjects.Lane, pos uint64) {
	h := mb.hub
	h.mu.Lock()
	defer h.mu.Unlock()
	mb.mu.Lock()
	defer mb.mu.Unlock()
	h.scratch = h.tail.after(h.scratch[:0], mb.key, n, pos)
	defer clear(h.scratch)
	for _, m := range h.scratch {
		mb.noteLocked(m)
	}
}
