package inbox

import (
	"slices"
	"time"
)

// dirtyMailbox is a mailbox whose cursor has changed.
type dirtyMailbox struct {
	mb    *Mailbox
	since time.Time
}

// A changed cursor is stored after cursorEvery. That is long enough for a device
// that gets two messages a second to have several in one cursor: storing one costs
// as much as a tenth of a message's way. But not all cursors are stored at once. If
// 1,000 devices acknowledge within a second, storing their cursors together would
// be 10 ms of work for which other messages would have to wait. So a burst is
// stored in collectSteps parts of at least collectLeast cursors, over another
// cursorEvery.
const (
	cursorEvery  = time.Second
	collectSteps = 25
	collectLeast = 64
)

// markDirty queues a mailbox whose cursor has changed. It is called with the
// mailbox locked, once until the mailbox is collected.
func (w *cursorWriter) markDirty(mb *Mailbox) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.dirty = append(w.dirty, dirtyMailbox{mb, time.Now()})
	if len(w.dirty) == 1 {
		w.kick.Set()
	}
}

// next returns how long to wait before the next collect; false if nothing is
// dirty.
func (w *cursorWriter) next() (time.Duration, bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if len(w.dirty) == 0 {
		return 0, false
	}
	return max(w.every-time.Since(w.dirty[0].since), w.every/collectSteps), true
}

// collect takes the cursors of mailboxes that changed at least w.every ago, at
// most share of them. It raises share first, so that a burst takes no more than
// collectSteps calls. It returns the share for the next call; 0 when no more are
// due.
func (w *cursorWriter) collect(share int) int {
	w.mu.Lock()
	before := time.Now().Add(-w.every)
	due := 0
	for due < len(w.dirty) && !w.dirty[due].since.After(before) {
		due++
	}
	share = max(share, collectLeast, (due+collectSteps-1)/collectSteps)
	n := min(due, share)
	taken := slices.Clone(w.dirty[:n])
	if w.dirty = slices.Delete(w.dirty, 0, n); len(w.dirty) == 0 {
		w.dirty = nil // free the array that a burst has made
	}
	w.mu.Unlock()
	for _, d := range taken {
		mb := d.mb
		mb.mu.Lock()
		mb.dirty = false
		if mb.ready && !mb.closed { // otherwise it has no cursor yet, or has stored its last
			w.put(mb.key, mb.cursorLocked(true), mb.stored, d.since)
		}
		mb.mu.Unlock()
	}
	if n == due {
		return 0
	}
	return share
}
