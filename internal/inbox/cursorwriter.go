package inbox

import (
	"context"
	"fmt"
	"log/slog"
	"slices"
	"strconv"
	"sync"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/rccs-io/rccs/internal/direct"
	"github.com/rccs-io/rccs/internal/layout"
	"github.com/rccs-io/rccs/internal/storeerr"
	"github.com/rccs-io/rccs/internal/wake"
	"github.com/rccs-io/rccs/subjects"
)

// cursorWriter stores cursors: that of an attached device some time after a
// change, the last one of a device that detaches at once. It never has two
// publishes of a device under way. Until the server has confirmed a cursor it is
// kept here, and a device that comes back is given it from here.
//
// A publish is a compare-and-set: it replaces the stored cursor only if that is
// the one this edge knows. If it is another, the cursor of the newer session
// stands. So an edge that was cut off does not move the cursor of a device that
// has connected elsewhere meanwhile.
type cursorWriter struct {
	publish  *Publisher
	fetch    *direct.Client
	last     *direct.Last  // of the cursor stream
	replicas func() int64  // of that stream
	head     func() uint64 // of the hub
	every    time.Duration
	log      *slog.Logger
	mark     watermarkWriter

	kick wake.Signal // queue or dirty has something new, or the head has risen
	quit chan struct{}
	done chan struct{}

	mu     sync.Mutex
	states map[subjects.Key]*cursorState
	queue  []subjects.Key // of the states to publish
	dirty  []dirtyMailbox // the oldest first
	empty  chan struct{}  // closed when states becomes empty; nil unless waited for
}

// cursorState is a cursor that the store may not have yet.
type cursorState struct {
	cursor     Cursor
	at         *revision
	since      time.Time // of the oldest change that is not stored
	publishing bool      // a publish is under way
	changed    bool      // cursor is newer than the one being published
	// doubt: a publish has failed. Somebody else may have stored a cursor meanwhile,
	// such as that of a fetch, which says that the device was sent more.
	doubt bool
}

// revision is the sequence of a device's stored cursor, as far as this edge
// knows; 0 when there is none. It is guarded by cursorWriter.mu, and handed from
// one mailbox of a device to the next.
type revision struct{ seq uint64 }

func newCursorWriter(p *Publisher, fetch *direct.Client, replicas func() int64, head func() uint64, every time.Duration, log *slog.Logger) *cursorWriter {
	kick := wake.New()
	return &cursorWriter{
		publish: p, fetch: fetch, last: fetch.Last(layout.StreamCursor, false), replicas: replicas, head: head, every: every, log: log,
		mark: watermarkWriter{publish: p, due: kick, log: log},
		kick: kick, quit: make(chan struct{}), done: make(chan struct{}),
		states: make(map[subjects.Key]*cursorState),
	}
}

func (w *cursorWriter) start() { go w.run() }

func (w *cursorWriter) run() {
	defer close(w.done)
	timer := time.NewTimer(w.every)
	defer timer.Stop()
	armed := true
	share := 0 // how many to collect at a time while a burst is stored in parts
	for {
		select {
		case <-w.quit:
			w.flush()
			return
		case <-w.kick:
		case <-timer.C:
			armed = false
			share = w.collect(share)
		}
		w.flush()
		if armed {
			continue // a kick does not move the timer
		}
		if wait, some := w.next(); some {
			armed = true
			timer.Reset(wait)
		}
	}
}

// put queues a cursor to be stored in the place of the revision at. since is when
// the oldest change in it was made. It does no I/O.
func (w *cursorWriter) put(key subjects.Key, c Cursor, at *revision, since time.Time) {
	w.mu.Lock()
	defer w.mu.Unlock()
	s := w.states[key]
	if s == nil {
		s = &cursorState{at: at, since: since}
		w.states[key] = s
	}
	s.cursor = c
	if s.changed {
		return
	}
	s.changed = true
	if !s.publishing {
		w.queueLocked(key)
	}
}

func (w *cursorWriter) queueLocked(key subjects.Key) {
	w.queue = append(w.queue, key)
	w.kick.Set()
}

// flush publishes the queued cursors, after a watermark that covers them.
func (w *cursorWriter) flush() {
	due := w.mark.isDue() // before the head is read
	w.mu.Lock()
	queue := w.queue
	w.queue = nil
	msgs := make([]*nats.Msg, len(queue))
	top := w.head()
	for i, key := range queue {
		s := w.states[key]
		s.publishing, s.changed = true, false
		msgs[i] = &nats.Msg{Subject: layout.Cursor(key), Data: s.cursor.Append(nil), Header: nats.Header{
			nats.ExpectedLastSubjSeqHdr: {strconv.FormatUint(s.at.seq, 10)},
		}}
		top = max(top, slices.Max(s.cursor.Sent[:]))
	}
	w.mu.Unlock()
	if due || len(queue) > 0 {
		w.mark.raise(top)
	}
	for i, key := range queue {
		data := msgs[i].Data
		w.publish.Publish(msgs[i], func(r Receipt, err error) { w.landed(key, data, r.Seq, err) })
	}
}

// landed handles the answer to a publish of data.
func (w *cursorWriter) landed(key subjects.Key, data []byte, seq uint64, err error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	s := w.states[key]
	s.doubt = s.doubt || err != nil
	if storeerr.Lost(err) {
		go w.resolve(key, data) // it asks the store
		return
	}
	s.publishing = false
	if err == nil {
		s.at.seq = seq
	}
	switch {
	case s.changed:
		w.queueLocked(key)
	case err != nil:
		// Keep the cursor, and try again later.
		w.log.Warn("cursor not stored, retrying", "device", string(key), "err", err)
		s.changed = true
		w.laterLocked(key)
	default:
		w.doneLocked(key)
	}
}

func (w *cursorWriter) laterLocked(key subjects.Key) {
	time.AfterFunc(w.every, func() {
		w.mu.Lock()
		defer w.mu.Unlock()
		w.queueLocked(key)
	})
}

func (w *cursorWriter) doneLocked(key subjects.Key) {
	delete(w.states, key)
	if len(w.states) == 0 && w.empty != nil {
		close(w.empty)
		w.empty = nil
	}
}

// holds reports whether a device has a cursor that the store may not have yet.
func (w *cursorWriter) holds(key subjects.Key) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.states[key] != nil
}

// storedSince reports whether every change made until t is stored.
func (w *cursorWriter) storedSince(t time.Time) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	if len(w.dirty) > 0 && !w.dirty[0].since.After(t) {
		return false
	}
	for _, s := range w.states {
		if !s.since.After(t) {
			return false
		}
	}
	return true
}

// stop waits until every cursor is stored or ctx ends, and then ends run.
func (w *cursorWriter) stop(ctx context.Context) error {
	w.mu.Lock()
	wait := make(chan struct{})
	if len(w.states) == 0 {
		close(wait)
	} else {
		w.empty = wait
	}
	left := len(w.states)
	w.mu.Unlock()
	var err error
	select {
	case <-wait:
	case <-ctx.Done():
		err = fmt.Errorf("inbox: cursors not stored, of %d devices: %w", left, ctx.Err())
	}
	close(w.quit)
	select {
	case <-w.done:
	case <-ctx.Done(): // run waits for the publisher, and ends when that is stopped
	}
	return err
}
