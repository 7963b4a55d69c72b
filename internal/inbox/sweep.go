package inbox

import (
	"context"
	"slices"
	"sync"
	"time"

	"github.com/rccs-io/rccs/internal/envelope"
	"github.com/rccs-io/rccs/internal/layout"
	"github.com/rccs-io/rccs/internal/reader"
	"github.com/rccs-io/rccs/subjects"
)

// Many devices that return at once, as after the restart of an edge, lack
// messages of about the same time. Reading each lane of each device takes a
// request of some tenths of a millisecond, and the server runs these one after
// the other. Reading the stream once, with the messages that are for none of
// them, takes some microseconds a message. So when many devices wait for the
// store, the stream is read once, from the lowest of their positions, and all of
// them are served from that.

const (
	// sweepWaiting is how many devices must wait before the stream is swept.
	sweepWaiting = 48
	// sweepFactor is how many messages may be read for each waiting device.
	sweepFactor = 300
	// sweepBytes bounds what a sweep keeps in memory. The sweep ends there. Each
	// device reads the rest for itself, or the next sweep does.
	sweepBytes = 64 << 20
	// sweepBatch is how many messages the server is asked for at a time: its
	// other work for the stream waits behind them.
	sweepBatch = 256
	// sweepKeep is how long a sweep is kept for devices that are still to come.
	sweepKeep = 5 * time.Second
)

// sweep is a range of the stream in memory, by device.
type sweep struct {
	from, to uint64 // sequences, from <= seq < to; to may get lower until done
	done     chan struct{}
	// Constant once done is closed.
	msgs map[subjects.Key][]*envelope.Message
	err  error
}

// sweeps are the current sweep of a hub, and the mailboxes that wait for the
// store.
type sweeps struct {
	mu      sync.Mutex
	waiting map[*Mailbox]uint64 // the mailboxes that wait for the store, and their positions
	current *sweep
	drop    *time.Timer
}

// swept serves a lane from a sweep that covers its position, and waits for one
// that is under way. ok is false if there is none, or if it lacks what another copy
// of the stream may have: one copy was swept. The caller then reads the store, and
// calls end after that.
func (h *Hub) swept(ctx context.Context, mb *Mailbox, n subjects.Lane, pos, floor uint64) (msgs []*envelope.Message, left int, upTo uint64, ok bool, end func()) {
	s, end := h.sweepFor(mb, pos)
	if s == nil {
		return nil, 0, 0, false, end
	}
	select {
	case <-s.done:
	case <-ctx.Done():
		return nil, 0, 0, false, end
	}
	if s.err != nil || pos+1 >= s.to {
		return nil, 0, 0, false, end
	}
	lane := make([]*envelope.Message, 0, len(s.msgs[mb.key]))
	for _, m := range s.msgs[mb.key] {
		if m.Lane == n && m.Seq > pos {
			lane = append(lane, m)
		}
	}
	if want := mb.expects(n, pos); h.replicas.Load() > 1 && !want.in(lane, 0) {
		return nil, 0, 0, false, end
	}
	msgs = slices.DeleteFunc(lane, func(m *envelope.Message) bool { return m.Seq >= floor })
	left = max(len(msgs)-laneMessages, 0)
	msgs = msgs[:len(msgs)-left]
	return msgs, left, min(s.to, floor), true, end
}

// sweptFor reports whether a sweep has what all lanes of a mailbox lack, so that
// the store need not be asked which of them have something new.
func (h *Hub) sweptFor(mb *Mailbox, floor uint64) bool {
	w := &h.sweeps
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.current == nil {
		return false
	}
	mb.mu.Lock()
	defer mb.mu.Unlock()
	for n := range mb.lanes {
		if pos := mb.lanes[n].readPos; pos+1 < floor && !w.current.covers(pos) {
			return false
		}
	}
	return true
}

// covers reports whether the sweep has what follows a position.
func (s *sweep) covers(pos uint64) bool { return s.from <= pos+1 && pos+1 < s.to }

// sweepFor returns the sweep that covers a position, and begins one if that is
// worth it; nil if there is none.
func (h *Hub) sweepFor(mb *Mailbox, pos uint64) (*sweep, func()) {
	w := &h.sweeps
	w.mu.Lock()
	defer w.mu.Unlock()
	if s := w.current; s != nil && s.covers(pos) {
		w.drop.Reset(sweepKeep)
		return s, func() {}
	}
	if w.waiting == nil {
		w.waiting = make(map[*Mailbox]uint64)
	}
	w.waiting[mb] = pos
	end := func() {
		w.mu.Lock()
		defer w.mu.Unlock()
		delete(w.waiting, mb)
	}
	lowest := pos
	for _, at := range w.waiting {
		lowest = min(lowest, at)
	}
	n, head := uint64(len(w.waiting)), h.head.Load()
	switch {
	case n < sweepWaiting, head-min(head, lowest) > n*sweepFactor, h.doubtful():
		return nil, end
	case w.current != nil && w.current.from <= lowest+1:
		return nil, end // it had everything from there on
	}
	// Read up to the head, although the tail has the last of it: the tail's
	// beginning moves while devices attach.
	s := &sweep{from: lowest + 1, to: head + 1, done: make(chan struct{}), msgs: make(map[subjects.Key][]*envelope.Message)}
	if !h.fetch.Work(func() { h.readSweep(s) }) {
		return nil, end
	}
	w.current = s
	if w.drop != nil {
		w.drop.Stop()
	}
	w.drop = time.AfterFunc(sweepKeep, func() {
		w.mu.Lock()
		defer w.mu.Unlock()
		if w.current == s {
			w.current = nil
		}
	})
	return s, end
}

// sweepTimeout bounds a sweep. A device that waits for it then reads for itself.
const sweepTimeout = 5 * time.Second

// readSweep reads the stream into s, with a consumer of its own. Sending messages
// to a consumer as they are stored costs the server half of what a Direct Get
// does, which makes headers for each.
func (h *Hub) readSweep(s *sweep) {
	defer close(s.done)
	ctx, cancel := context.WithTimeout(h.closing, sweepTimeout)
	defer cancel()
	began, count, bytes := time.Now(), 0, 0
	enough, stop := context.WithCancel(ctx)
	defer stop()
	r, err := reader.New(reader.Options{
		Conn: h.opts.Fetch, Stream: layout.StreamInbox, Shard: h.opts.Shard, FromStart: true, After: s.from - 1, Logger: h.opts.Logger, Batch: sweepBatch,
		Handle: func(e reader.Entry) {
			switch m, ok := envelope.Parse(h.opts.Publish.Proof, envelope.Stored(e)); {
			case enough.Err() != nil:
				return
			case e.Seq >= s.to:
			case ok:
				s.msgs[m.Key] = append(s.msgs[m.Key], m)
				count++
				bytes += m.Cost()
			}
			if bytes >= sweepBytes {
				h.sweeps.mu.Lock()
				s.to = min(s.to, e.Seq+1)
				h.sweeps.mu.Unlock()
			}
			if e.Seq+1 >= s.to {
				stop()
			}
		},
	})
	if err == nil {
		if err = r.Start(enough); err == nil {
			err = r.Stop(ctx)
		} else if enough.Err() != nil && ctx.Err() == nil {
			err = nil // it has enough, and its last callback has returned
		}
	}
	if err != nil {
		s.err = err
		h.opts.Logger.Warn("sweep of the stream failed", "from", s.from, "to", s.to, "err", err)
		return
	}
	h.opts.Logger.Debug("stream swept for many devices", "from", s.from, "to", s.to, "messages", count, "took", time.Since(began))
}
