package inbox

import (
	"time"

	"github.com/rccs-io/rccs/subjects"
)

// If a device's writer is woken after the last of several messages, they take one
// write to its socket. A write costs as much as the rest of a message's way
// through the edge, and so does the acknowledgement that it brings. So under load
// writers are woken late. The sign of load is that publishes wait for the store:
// writers are then woken after a part of that time. Each write carries more,
// there is less work in all, and no message arrives later for it. Without load
// writers are woken at once.
const (
	// wakeAfter is how many messages are handed on, at most, before writers are
	// woken.
	wakeAfter = 1024
	// The pause is 1/wakePart of the time for which the oldest publish waits, if
	// at least wakeBacklog of them wait. A few may wait for a slow disk while
	// nothing else has to.
	wakePart    = 4
	wakeBacklog = 128
	// wakeLongest bounds the pause. There is none if it would be shorter than
	// wakeShortest, or if fewer than wakeFew messages are expected in it.
	wakeShortest = time.Millisecond
	wakeLongest  = 10 * time.Millisecond
	wakeFew      = 32
)

// wakes are the mailboxes that were given messages, and whose writers are to be
// woken. It is guarded by Hub.mu.
type wakes struct {
	mailboxes []*Mailbox
	given     int       // messages since writers were woken last
	last      time.Time // when that was
	loaded    bool      // writers are woken together, after a pause
	pausing   bool      // timer runs
	timer     *time.Timer
}

// add has a mailbox's writer woken: at once, or under load together with others.
// A critical message wakes it at once in any case.
func (w *wakes) add(mb *Mailbox, lane subjects.Lane) {
	switch {
	case lane == subjects.Critical, !w.loaded:
		mb.to.MessagesReady()
	case !mb.waking:
		mb.waking = true
		w.mailboxes = append(w.mailboxes, mb)
	}
}

// handed counts a message that was handed on.
func (w *wakes) handed() {
	if w.given++; w.given >= wakeAfter {
		w.wake()
	}
}

func (w *wakes) wake() {
	for i, mb := range w.mailboxes {
		mb.waking = false
		mb.to.MessagesReady()
		w.mailboxes[i] = nil
	}
	w.mailboxes, w.given, w.last = w.mailboxes[:0], 0, time.Now()
}

// drained is the reader's callback when nothing more has been received.
func (h *Hub) drained() {
	h.mu.Lock()
	defer h.mu.Unlock()
	w := &h.wakes
	if w.pausing {
		return
	}
	backlog, oldest := h.opts.Publish.Backlog()
	wait := pause(backlog, oldest, w.given, time.Since(w.last))
	switch w.loaded = wait > 0; {
	case !w.loaded:
		w.wake()
	case len(w.mailboxes) > 0:
		w.pausing = true
		w.timer.Reset(wait)
	}
}

// pause returns how long to wait before writers are woken. backlog publishes
// wait, the oldest of them for oldest; given messages came in the time since
// writers were woken last.
func pause(backlog int, oldest time.Duration, given int, since time.Duration) time.Duration {
	wait := min(oldest/wakePart, wakeLongest)
	if backlog < wakeBacklog || wait < wakeShortest || time.Duration(given)*wait < wakeFew*since {
		return 0
	}
	return wait
}

// wakeLate ends a pause.
func (h *Hub) wakeLate() {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.wakes.pausing = false
	h.wakes.wake()
}
