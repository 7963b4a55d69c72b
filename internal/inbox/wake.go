package inbox

import (
	"time"

	"github.com/rccs-io/rccs/subjects"
)

// Several messages of a device are one write to its socket if who writes is woken
// after the last of them. A write costs as much as the rest of a message's way
// through the edge, and so does the acknowledgement of what one brought. So who
// writes is woken at once, but for when publishes wait for the store, which says
// that more is to be done than can be: then a part of that time later. There is
// more to write at a time then, less to be done, and nobody waits the longer for
// it. What is not busy is not kept waiting.
const (
	// wakeAfter bounds how many messages are handed on before.
	wakeAfter = 1024
	// wakePart of the time that publishes wait is waited, when wakeBacklog of them
	// do: a few may wait for a slow disk, while nothing else has to.
	wakePart    = 4
	wakeBacklog = 128
	// Less than wakeShortest is not waited, nor more than wakeLongest; and nothing when
	// fewer than wakeFew messages are to be expected meanwhile.
	wakeShortest = time.Millisecond
	wakeLongest  = 10 * time.Millisecond
	wakeFew      = 32
)

// wakes are the mailboxes that were given messages, and whose writers are to be
// woken. It is guarded by Hub.mu.
type wakes struct {
	mailboxes []*Mailbox
	given     int       // messages since the last were woken
	last      time.Time // when that was
	loaded    bool      // others are waited for
	pausing   bool      // timer runs
	timer     *time.Timer
}

// add has a mailbox woken: with others under load, but for a critical message,
// else at once.
func (w *wakes) add(mb *Mailbox, lane subjects.Lane) {
	switch {
	case lane == subjects.Critical, !w.loaded:
		mb.opts.Wake()
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
		mb.opts.Wake()
		w.mailboxes[i] = nil
	}
	w.mailboxes, w.given, w.last = w.mailboxes[:0], 0, time.Now()
}

// drained is the reader's callback: nothing else has been received.
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

// pause is how long to wait before writers are woken, when so many publishes
// wait, the oldest for so long, and so many messages came in the time since the
// last were woken.
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
