package inbox

import (
	"context"
	"sync"
	"time"
)

// The hub follows the stream a moment behind. A device that attaches in that
// moment would first be sent the messages that the hub has read, and then others
// that were stored before it attached: a lower lane before a higher one, or a
// message that has been replaced. So an attachment asks where the stream ends,
// and waits until the hub has read up to there. One request serves all
// attachments that ask while the previous request is under way.

const (
	// barrierTimeout is how long an attachment waits for the hub. After it the device is
	// served with what the hub has read: no message is lost, but lanes may come out of
	// order.
	barrierTimeout = 2 * time.Second
	// endTimeout bounds one request for the end. It leaves time to find the leader.
	endTimeout = 10 * time.Second
)

// endCall is one request for the end of the stream.
type endCall struct {
	done chan struct{}
	last uint64
	err  error
}

// ends gathers requests for the end of the stream.
type ends struct {
	mu      sync.Mutex
	next    *endCall // not sent yet
	running bool
	closed  bool // the hub stops
}

// close lets no further request begin.
func (e *ends) close() {
	e.mu.Lock()
	e.closed = true
	e.mu.Unlock()
}

// askEnd requests the end of the stream, as it is at this moment or later.
func (h *Hub) askEnd() *endCall {
	h.ends.mu.Lock()
	defer h.ends.mu.Unlock()
	if h.ends.next == nil {
		h.ends.next = &endCall{done: make(chan struct{})}
	}
	call := h.ends.next
	switch {
	case h.ends.closed && !h.ends.running:
		call.err, h.ends.next = ErrStopped, nil
		close(call.done)
	case !h.ends.running:
		h.ends.running = true
		h.wg.Go(h.serveEnds)
	}
	return call
}

// serveEnds runs while requests are waiting. Each has a timeout of its own.
func (h *Hub) serveEnds() {
	for {
		h.ends.mu.Lock()
		call := h.ends.next
		h.ends.next = nil
		h.ends.running = call != nil
		h.ends.mu.Unlock()
		if call == nil {
			return
		}
		ctx, cancel := context.WithTimeout(h.closing, endTimeout)
		call.last, call.err = h.refreshState(ctx)
		cancel()
		close(call.done)
	}
}

// reach waits until the hub has handed out everything that was stored when call
// was made. It waits for barrierTimeout at most.
func (h *Hub) reach(ctx context.Context, call *endCall) {
	ctx, cancel := context.WithTimeout(ctx, h.barrier)
	defer cancel()
	select {
	case <-call.done:
	case <-ctx.Done():
		return
	}
	if call.err != nil {
		h.opts.Logger.Debug("attaching without knowing where the stream ends", "err", call.err)
		return
	}
	reached := h.waitHead(call.last)
	if reached == nil {
		return
	}
	select {
	case <-reached:
	case <-h.closing.Done():
	case <-ctx.Done():
		// The last message may be gone from the stream. Then it never arrives,
		// and later attachments need not wait for it.
		h.mu.Lock()
		h.waits.given = max(h.waits.given, call.last)
		h.mu.Unlock()
	}
}

// headWaits are the attachments that wait for the head to rise. Guarded by
// Hub.mu.
type headWaits struct {
	all   []headWait
	least uint64 // the lowest sequence waited for
	given uint64 // the highest sequence whose wait timed out
}

type headWait struct {
	seq     uint64
	reached chan struct{}
}

// waitHead returns a channel that is closed when the head reaches seq; nil if it
// has.
func (h *Hub) waitHead(seq uint64) <-chan struct{} {
	h.mu.Lock()
	defer h.mu.Unlock()
	w := &h.waits
	if h.head.Load() >= seq || seq <= w.given {
		return nil
	}
	if len(w.all) == 0 || seq < w.least {
		w.least = seq
	}
	one := headWait{seq, make(chan struct{})}
	w.all = append(w.all, one)
	return one.reached
}

// wake closes the channels of those who wait for the head to reach seq.
func (w *headWaits) wake(seq uint64) {
	if len(w.all) == 0 || seq < w.least {
		return
	}
	left := w.all[:0]
	for _, one := range w.all {
		if one.seq <= seq {
			close(one.reached)
			continue
		}
		if len(left) == 0 || one.seq < w.least {
			w.least = one.seq
		}
		left = append(left, one)
	}
	clear(w.all[len(left):])
	if w.all = left; len(left) == 0 {
		w.all = nil
	}
}
