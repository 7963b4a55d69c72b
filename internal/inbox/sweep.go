package inbox

import (
	"context"
	"sync"
	"time"

	"github.com/rccs-io/rccs/internal/envelope"
	"github.com/rccs-io/rccs/internal/layout"
	"github.com/rccs-io/rccs/internal/reader"
	"github.com/rccs-io/rccs/subjects"
)

// Many devices that come back at once, as after the restart of an edge, lack
// messages of about the same time. To read each lane of each device takes a
// request of some tenths of a millisecond, one after the other in the server; to
// read the stream once, past all that the devices are not for, some microseconds
// a message. So when many wait for the store, the stream is read from where the
// first of them stands, and all are served from that.

const (
	// sweepWaiting is from how many waiting devices on the stream may be swept.
	sweepWaiting = 48
	// sweepFactor is how many messages may be read for each of them.
	sweepFactor = 300
	// sweepBytes bounds what a sweep keeps in memory. It ends there; what is
	// behind is read by each for itself, or by the next sweep.
	sweepBytes = 64 << 20
	// sweepBatch is how many messages the server is asked for at a time: what else it
	// has to do for the stream waits behind them.
	sweepBatch = 256
	// sweepKeep is how long a sweep is kept for those who are still to come.
	sweepKeep = 5 * time.Second
)

// sweep is a part of the stream, by device.
type sweep struct {
	from, to uint64 // sequences; to is behind the last, and may get lower until done
	done     chan struct{}
	// Constant once done is closed.
	msgs map[subjects.Key][]*envelope.Message
	err  error
}

// sweeps are those of a hub.
type sweeps struct {
	mu      sync.Mutex
	waiting map[*Mailbox]uint64 // what waits for the store, and where it stands
	current *sweep
	drop    *time.Timer
}

// swept serves a lane from a sweep that covers its position, waiting for one
// that is under way. ok is false when there is none; then end is to be called
// when the store was read.
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
	for _, m := range s.msgs[mb.key] {
		if m.Lane != n || m.Seq <= pos || m.Seq >= floor {
			continue
		}
		if len(msgs) == laneMessages {
			left++
			continue
		}
		msgs = append(msgs, m)
	}
	return msgs, left, min(s.to, floor), true, end
}

// sweepFor is the sweep that covers a position, begun if it is worth it.
func (h *Hub) sweepFor(mb *Mailbox, pos uint64) (*sweep, func()) {
	w := &h.sweeps
	w.mu.Lock()
	defer w.mu.Unlock()
	if s := w.current; s != nil && s.from <= pos+1 && pos+1 < s.to {
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
		return nil, end // it had what there was to have
	}
	// Up to the end, though the tail has the last of it: its beginning moves
	// while devices come.
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

// sweepTimeout bounds a sweep; who waits for it reads for itself then.
const sweepTimeout = 5 * time.Second

// readSweep reads the stream into s. It does so by a consumer of its own: to be
// sent what is stored as it is costs the server half of what a Direct Get does,
// which makes headers for each message.
func (h *Hub) readSweep(s *sweep) {
	defer close(s.done)
	ctx, cancel := context.WithTimeout(h.closing, sweepTimeout)
	defer cancel()
	began, count, bytes := time.Now(), 0, 0
	enough, stop := context.WithCancel(ctx)
	defer stop()
	r, err := reader.New(reader.Options{
		Conn: h.opts.Fetch, Stream: layout.StreamInbox, FromStart: true, After: s.from - 1, Logger: h.opts.Logger, Batch: sweepBatch,
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
			err = nil // it was stopped, and has waited for the last that it handed out
		}
	}
	if err != nil {
		s.err = err
		h.opts.Logger.Warn("sweep of the stream failed", "from", s.from, "to", s.to, "err", err)
		return
	}
	h.opts.Logger.Debug("stream swept for many devices", "from", s.from, "to", s.to, "messages", count, "took", time.Since(began))
}
