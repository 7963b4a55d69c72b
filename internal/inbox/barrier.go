package inbox

import (
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/rccs-io/rccs/internal/epoch"
	"github.com/rccs-io/rccs/internal/layout"
)

// The hub follows the stream a moment behind. A device that attaches in that
// moment would be sent what the hub knows, and then what was accepted before it
// came: a lower lane before a higher one, or a message that is already
// replaced. So an attachment asks where the stream ends, and waits until the
// hub has come so far. One request serves all that ask while the one before it
// is under way.

// barrierTimeout bounds the wait of an attachment. Past it the device is served
// with what the hub knows: nothing is lost by that, the order of lanes is as it
// is read.
const barrierTimeout = 2 * time.Second

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

// askEnd asks for the end of the stream as it is from now on.
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

// serveEnds runs while somebody asks; each request has its own time-out.
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
		ctx, cancel := context.WithTimeout(h.closing, barrierTimeout)
		call.last, call.err = h.refreshState(ctx)
		cancel()
		close(call.done)
	}
}

// refreshState asks the stream where it begins and ends, and how much of a lane it
// keeps. It uses the connection that nothing of the stream comes by.
func (h *Hub) refreshState(ctx context.Context) (last uint64, err error) {
	stream, err := h.js.Stream(ctx, layout.StreamInbox)
	if err != nil {
		return 0, fmt.Errorf("inbox: look up stream %s: %w", layout.StreamInbox, err)
	}
	info := stream.CachedInfo()
	h.first.Store(info.State.FirstSeq)
	h.perLane.Store(info.Config.MaxMsgsPerSubject)
	word := epoch.Of(info)
	h.epoch.Store(&word)
	h.redeliverUpTo.Store(epoch.RedeliverUpTo(info))
	h.maxAge.Store(int64(info.Config.MaxAge))
	h.window.Store(int64(info.Config.Duplicates))
	h.replicas.Store(int64(info.Config.Replicas))
	return info.State.LastSeq, nil
}

// reach waits until the hub has handed out what was stored when call was made.
func (h *Hub) reach(ctx context.Context, call *endCall) {
	ctx, cancel := context.WithTimeout(ctx, barrierTimeout)
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
		// The last of it may be gone from the stream, and then never comes: who
		// attaches next need not wait for it.
		h.mu.Lock()
		h.waits.given = max(h.waits.given, call.last)
		h.mu.Unlock()
	}
}

// headWaits are attachments that wait for the head. It is guarded by Hub.mu.
type headWaits struct {
	all   []headWait
	least uint64 // the lowest sequence waited for
	given uint64 // what was waited for in vain
}

type headWait struct {
	seq     uint64
	reached chan struct{}
}

// waitHead returns what is closed when the head is at seq; nil when it is.
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

// wake tells those that waited for the head to be at seq.
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
