package inbox

import (
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/rccs-io/rccs/internal/direct"
	"github.com/rccs-io/rccs/internal/layout"
	"github.com/rccs-io/rccs/internal/storeerr"
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
	publish *Publisher
	fetch   *direct.Client
	last    *direct.Last  // of the cursor stream
	copies  func() int64  // of that stream
	head    func() uint64 // of the hub
	every   time.Duration
	log     *slog.Logger
	marked  atomic.Uint64 // the watermark stored last
	markMu  sync.Mutex    // orders the publishes of the watermark
	// unmarked: the head has risen since the last watermark. markedAt is when
	// that was stored, and markSoon says that a timer will wake run for the next.
	// run owns markedAt and markSoon.
	unmarked atomic.Bool
	markedAt time.Time
	markSoon bool

	kick chan struct{} // capacity 1: queue or dirty has something new
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

// revision is the sequence of a device's stored cursor, as far as this edge
// knows; 0 when there is none. It is guarded by cursorWriter.mu, and handed from
// one mailbox of a device to the next.
type revision struct{ seq uint64 }

func newCursorWriter(p *Publisher, fetch *direct.Client, copies func() int64, head func() uint64, every time.Duration, log *slog.Logger) *cursorWriter {
	return &cursorWriter{
		publish: p, fetch: fetch, last: fetch.Last(layout.StreamCursor, false), copies: copies, head: head, every: every, log: log,
		kick: make(chan struct{}, 1), quit: make(chan struct{}), done: make(chan struct{}),
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

// markDirty queues a mailbox whose cursor has changed. It is called with the
// mailbox locked, once until the mailbox is collected.
func (w *cursorWriter) markDirty(mb *Mailbox) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.dirty = append(w.dirty, dirtyMailbox{mb, time.Now()})
	if len(w.dirty) == 1 {
		w.wake()
	}
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
	w.wake()
}

// wake wakes run.
func (w *cursorWriter) wake() {
	select {
	case w.kick <- struct{}{}:
	default:
	}
}

// flush publishes the queued cursors, after a watermark that covers them.
func (w *cursorWriter) flush() {
	due := w.markDue() // before the head is read
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
		w.mark(top)
	}
	for i, key := range queue {
		data := msgs[i].Data
		w.publish.Publish(msgs[i], func(r Receipt, err error) { w.landed(key, data, r.Seq, err) })
	}
}

// markPause is the shortest time between two watermarks while no cursors are
// stored.
const markPause = 50 * time.Millisecond

// read is called when the head has risen. The watermark follows soon after,
// whether or not a cursor is stored, so that a hub that is started again finds
// out if the end of the stream is gone.
func (w *cursorWriter) read() {
	if !w.unmarked.Load() && w.unmarked.CompareAndSwap(false, true) {
		w.wake()
	}
}

// markDue reports whether the watermark has to be stored because the head has
// risen. If it is too early, a timer will wake run.
func (w *cursorWriter) markDue() bool {
	if !w.unmarked.Load() {
		return false
	}
	if wait := markPause - time.Since(w.markedAt); wait > 0 {
		if !w.markSoon {
			w.markSoon = true
			time.AfterFunc(wait, w.wake)
		}
		return false
	}
	w.unmarked.Store(false)
	w.markedAt, w.markSoon = time.Now(), false
	return true
}

// mark publishes the watermark, if it has risen. It does not wait for the answer:
// a publisher's messages are stored in order.
func (w *cursorWriter) mark(top uint64) {
	if top <= w.marked.Load() {
		return
	}
	w.markMu.Lock() // a lower one is not stored after a higher one
	defer w.markMu.Unlock()
	if top <= w.marked.Load() {
		return
	}
	w.marked.Store(top)
	w.publish.Publish(&nats.Msg{Subject: layout.Watermark, Data: appendWatermark(top)}, func(_ Receipt, err error) {
		if err != nil {
			w.marked.Store(0) // the next flush tries again
			w.log.Warn("watermark not stored", "err", err)
		}
	})
}

// landed handles the answer to a publish of data.
func (w *cursorWriter) landed(key subjects.Key, data []byte, seq uint64, err error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	s := w.states[key]
	s.doubt = s.doubt || err != nil
	if Lost(err) {
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

// resolveTimeout bounds the look-up of a stored cursor that is not the one
// expected.
const resolveTimeout = 5 * time.Second

// resolve is called when a publish of data found another cursor stored than the
// one expected. That may be the same cursor, if the answer to an earlier attempt
// was lost; or the cursor of a newer session, which stands; or an older one,
// which is replaced. One of a fetch may say that the device was sent more.
func (w *cursorWriter) resolve(key subjects.Key, data []byte) {
	ctx, cancel := context.WithTimeout(context.Background(), resolveTimeout)
	defer cancel()
	found, err := w.last.Get(ctx, []string{layout.Cursor(key)})
	w.mu.Lock()
	defer w.mu.Unlock()
	s := w.states[key]
	s.publishing = false
	if err != nil {
		w.log.Warn("stored cursor not looked up, retrying", "device", string(key), "err", err)
		s.changed = true
		w.laterLocked(key)
		return
	}
	was := s.at.seq
	var there Cursor
	same, at := false, uint64(0)
	if found[0] != nil {
		at = found[0].Seq
		same = bytes.Equal(found[0].Data, data)
		if there, err = ParseCursor(found[0].Data); err != nil {
			there = Cursor{}
		}
	}
	if there.Epoch > s.cursor.Epoch {
		w.log.Info("cursor not stored: the device has a newer session elsewhere", "device", string(key),
			"epoch", s.cursor.Epoch, "newer", there.Epoch)
		w.doneLocked(key) // s.at stays as it is, so that no later cursor of this session replaces it either
		return
	}
	s.at.seq, s.doubt = at, false
	s.cursor.Open = s.cursor.Open || there.above(&s.cursor)
	switch {
	case same && !s.changed:
		w.doneLocked(key)
	case was == s.at.seq: // a lagging replica has answered
		s.changed = true
		w.laterLocked(key)
	default:
		s.changed = true
		w.queueLocked(key)
	}
}

// Lost reports whether an error of [Publisher.Publish] is a failed
// compare-and-set: another message is stored on the subject or, in a cluster, is
// about to be.
func Lost(err error) bool { return storeerr.Lost(err) }

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

// load returns the device's cursor, when the store took it, and its revision for
// put. A cursor on its way to the store counts before the stored one; its time is
// that of its oldest change. If there is neither, the cursor and the time are
// zero.
func (w *cursorWriter) load(ctx context.Context, key subjects.Key) (Cursor, time.Time, *revision, error) {
	w.mu.Lock()
	s := w.states[key]
	if s != nil {
		c, since, at, doubt := s.cursor, s.since, s.at, s.doubt
		w.mu.Unlock()
		c.Open = c.Open || doubt && w.sentMore(ctx, key, &c)
		return c, since, at, nil
	}
	w.mu.Unlock()
	found, err := w.last.Get(ctx, []string{layout.Cursor(key)})
	if err != nil {
		return Cursor{}, time.Time{}, nil, err
	}
	c, stored, at := w.parse(key, found[0])
	return c, stored, at, nil
}

// loadAfter is load for a device that attaches. before is [MailboxOptions.Before]. A copy
// that lags may not have the cursor of a fetch yet, and what was fetched would be sent as
// new. So the leader is asked, unless what waits is marked anyway.
func (w *cursorWriter) loadAfter(ctx context.Context, key subjects.Key, before uint64) (Cursor, time.Time, *revision, error) {
	c, stored, at, err := w.load(ctx, key)
	if c.Follows(before); err != nil || c.Open || w.copies() <= 1 || w.holds(key) {
		return c, stored, at, err
	}
	ask, cancel := context.WithTimeout(ctx, leaderTimeout)
	defer cancel()
	newest, err := w.fetch.AtLeader(ask, layout.StreamCursor, layout.Cursor(key), 1)
	if err != nil {
		w.log.Warn("the leader of the cursors does not answer, marking what waits", "device", string(key), "err", err)
		c.Open = true
		return c, stored, at, ctx.Err()
	}
	c, stored, at = w.parse(key, newest)
	c.Follows(before)
	return c, stored, at, nil
}

// sentMore reports whether the stored cursor may say that the device was sent what c
// does not know of.
func (w *cursorWriter) sentMore(ctx context.Context, key subjects.Key, c *Cursor) bool {
	ctx, cancel := context.WithTimeout(ctx, leaderTimeout)
	defer cancel()
	stored, err := w.fetch.AtLeader(ctx, layout.StreamCursor, layout.Cursor(key), 1)
	if err != nil || stored == nil {
		return err != nil
	}
	there, err := ParseCursor(stored.Data)
	return err != nil || there.above(c)
}

// leaderTimeout bounds the wait of an attachment for the leader of the cursors.
const leaderTimeout = 2 * time.Second

// parse returns a stored cursor, if there is one, as load does.
func (w *cursorWriter) parse(key subjects.Key, m *direct.Stored) (Cursor, time.Time, *revision) {
	if m == nil {
		return Cursor{}, time.Time{}, new(revision)
	}
	stored, at := time.Unix(0, m.Time), &revision{m.Seq}
	c, err := ParseCursor(m.Data)
	if err != nil {
		// Sending everything again is better than sending nothing.
		w.log.Error("stored cursor is unreadable, sending all again", "device", string(key), "err", err)
		return Cursor{Open: true}, stored, at
	}
	return c, stored, at
}

// stored waits until the store has the device's cursor, or ctx ends.
func (w *cursorWriter) stored(ctx context.Context, key subjects.Key) error {
	tick := time.NewTicker(storedEvery)
	defer tick.Stop()
	for {
		w.mu.Lock()
		pending := w.states[key] != nil
		w.mu.Unlock()
		if !pending {
			return nil
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// storedEvery is how often stored and [Hub.Release] look whether a cursor is
// stored. Only devices that move between edges wait for that.
const storedEvery = 2 * time.Millisecond
