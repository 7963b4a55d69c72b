package inbox

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/rccs-io/rccs/internal/envelope"
	"github.com/rccs-io/rccs/internal/layout"
	"github.com/rccs-io/rccs/internal/reader"
	"github.com/rccs-io/rccs/subjects"
)

// fillWorkers bounds how many attached mailboxes of this process read the store
// at a time.
const fillWorkers = 8

// fillRetry is how long a lane waits after a failed read of the store.
const fillRetry = 200 * time.Millisecond

// fillLocked schedules a read of what the lanes lack, unless one is scheduled.
func (mb *Mailbox) fillLocked() {
	if mb.filling || mb.closed {
		return
	}
	mb.filling = true
	mb.hub.fills.Run(mb.refill)
}

// refill runs on one of the hub's workers.
func (mb *Mailbox) refill() {
	ctx := mb.hub.closing
	err := mb.fill(ctx)
	mb.mu.Lock()
	scan := mb.scanning && err == nil && !mb.closed
	mb.mu.Unlock()
	if scan {
		err = mb.scan(ctx)
	}
	mb.mu.Lock()
	defer mb.mu.Unlock()
	mb.filling = false
	if mb.closed {
		return
	}
	if err != nil {
		mb.hub.opts.Logger.Warn("inbox catch-up failed, retrying", "device", string(mb.key), "err", err)
		time.AfterFunc(fillRetry, func() {
			mb.mu.Lock()
			defer mb.mu.Unlock()
			mb.fillLocked()
		})
	}
	mb.to.MessagesReady()
}

// fill reads from the store, the highest lane first, until each lane is live or
// its queue is full. Then it finds out why missing messages are gone.
func (mb *Mailbox) fill(ctx context.Context) error {
	for n := subjects.Lanes - 1; n >= 0; n-- {
		for {
			again, err := mb.fillStep(ctx, subjects.Lane(n))
			if err != nil {
				return err
			}
			if !again {
				break
			}
		}
	}
	return mb.explain(ctx)
}

// attachFill bounds how long an attachment waits for what is stored to be read.
const attachFill = 3 * time.Second

// fillFirst is fill for an attachment. It gives up after a while, and more tells the
// caller to have a worker go on: a device that is refused because there is much to
// read comes back, and all begins anew.
func (mb *Mailbox) fillFirst(ctx context.Context) (more bool, err error) {
	short, cancel := context.WithTimeout(ctx, attachFill)
	defer cancel()
	if err = mb.fill(short); err != nil && ctx.Err() == nil && short.Err() != nil {
		return true, nil
	}
	return false, err
}

// fillStep joins the lane to the live flow if the tail reaches back to its
// position. Otherwise it reads one batch from the store. again reports whether to
// go on.
func (mb *Mailbox) fillStep(ctx context.Context, n subjects.Lane) (again bool, err error) {
	pos, floor, more := mb.join(n)
	if !more {
		return false, nil
	}
	msgs, left, upTo, whole, end := mb.hub.swept(ctx, mb, n, pos, floor)
	defer end()
	if !whole {
		upTo = floor
		if msgs, left, err = mb.read(ctx, n, pos); err != nil {
			return false, err
		}
		whole = left > 0
	}
	if !whole {
		if whole, err = mb.hub.confirmEmpty(ctx, mb.key, n, pos, msgs, floor); err != nil {
			return false, err
		}
	}
	mb.mu.Lock()
	defer mb.mu.Unlock()
	l := &mb.lanes[n]
	if mb.closed {
		return false, nil
	}
	for _, m := range msgs {
		// The lane is catching up, so nobody else has moved it. Messages that the
		// tail has are taken from there. The store answers in order, so at the
		// first of them everything before the tail has been read.
		if m.Seq >= upTo {
			left, whole = 0, true
			break
		}
		if !l.room() {
			return false, nil
		}
		mb.noteLocked(m)
		l.pushRead(m)
	}
	if left == 0 && whole {
		// Nothing more is stored before upTo, where the tail begins or a sweep
		// ends. Above it the answer proves nothing: a lagging replica may lack
		// newer messages.
		l.readPos = max(l.readPos, upTo-1)
	}
	return l.room(), nil
}

// read reads a batch of a lane after pos; left is about how many more the store
// has. If there are fewer than were counted, the difference is gone. The loss is
// noted before the messages after it are queued.
func (mb *Mailbox) read(ctx context.Context, n subjects.Lane, pos uint64) (msgs []*envelope.Message, left int, err error) {
	want := mb.expects(n, pos)
	msgs, left, err = mb.hub.lanes.read(ctx, mb.key, n, pos, want, laneBatch)
	if err != nil || want.counted <= 0 {
		return msgs, left, err
	}
	mb.mu.Lock()
	l := &mb.lanes[n]
	again := l.compared
	l.compared = true // a purge from here on has it compared again
	mb.mu.Unlock()
	lost, next, err := mb.hub.lostOf(ctx, mb.key, n, pos, want, msgs, left, again)
	mb.mu.Lock()
	defer mb.mu.Unlock()
	if err != nil {
		l.compared = false
		return nil, 0, err
	}
	if lost <= 0 || mb.closed || l.readPos != pos {
		return msgs, left, nil
	}
	to := mb.seen
	if next > l.ackFloor+1 {
		to = next - 1 // the oldest messages are the first to go
	}
	// They may be gone from before pos: see lostOf.
	mb.lostLocked(n, max(to, pos+1), uint64(lost))
	l.unread -= lost
	return msgs, left, nil
}

// lostOf returns how many of the messages that a lane has counted are gone, by an
// answer of the store after pos, and the sequence of the first that is left; 0: none.
// While others send, the store also has what is not counted. Of several copies one may
// have more of it than another, and so seem to have all that is counted. So these are
// read, message by message, but only if that was not done for an answer before (again),
// or some are gone for certain: a lane of 10,000 messages has 40 answers, and would be
// read as often.
func (h *Hub) lostOf(
	ctx context.Context, k subjects.Key, n subjects.Lane, pos uint64, want expected, msgs []*envelope.Message, left int, again bool,
) (lost int64, next uint64, err error) {
	floor := max(pos, want.floor)
	msgs = msgs[len(msgs)-above(msgs, floor):]
	if left == 0 {
		return want.counted - int64(len(msgs)-above(msgs, want.known)), firstOf(msgs), nil
	}
	if len(msgs) == 0 { // all of it was sent before
		if msgs, _, err = h.lanes.read(ctx, k, n, floor, expected{counted: want.counted, floor: floor, known: want.known}, batch{1, laneBytes}); err != nil {
			return 0, 0, err
		}
	}
	next = firstOf(msgs)
	one := h.replicas.Load() <= 1
	if one || again {
		least, most, err := h.bounds(ctx, k, n, floor, want)
		if err != nil || most <= 0 || one && least == most || again && least <= 0 {
			return least, next, err
		}
	}
	have, err := h.count(ctx, k, n, floor, want)
	return want.counted - have, next, err
}

// boundsTries is how often the store is asked anew because others have sent meanwhile.
const boundsTries = 3

// bounds returns the fewest and the most of a lane's counted messages above floor that
// may be gone. The store tells only how many it has from a sequence on, and others may
// send between two questions.
func (h *Hub) bounds(ctx context.Context, k subjects.Key, n subjects.Lane, floor uint64, want expected) (least, most int64, err error) {
	known := max(want.known, floor) + 1
	before, err := h.stored(ctx, k, n, known)
	for range boundsTries {
		if err != nil {
			return 0, 0, err
		}
		all, err := h.stored(ctx, k, n, floor+1)
		if err != nil {
			return 0, 0, err
		}
		after, err := h.stored(ctx, k, n, known)
		if err != nil {
			return 0, 0, err
		}
		least, most = want.counted+before-all, want.counted+after-all
		if least == most {
			break
		}
		before = after
	}
	return least, most, nil
}

// count counts what is left of the messages that a lane has counted after floor. It
// reads them from as many copies as it takes to find all that any has, each once.
func (h *Hub) count(ctx context.Context, k subjects.Key, n subjects.Lane, floor uint64, want expected) (have int64, err error) {
	found := make(map[uint64]struct{})
	err = reader.Copies(ctx, reader.CopiesOptions{
		Conn: h.fetch.Conn(), Stream: layout.StreamInbox, Shard: h.fetch.Shard(), Subject: subjects.Inbox(k, n), After: floor, UpTo: want.known,
		HeadersOnly: true, Logger: h.opts.Logger,
		Enough: func(got []reader.Entry, _ int) bool {
			for _, e := range got {
				found[e.Seq] = struct{}{}
			}
			return int64(len(found)) >= want.counted
		},
	})
	if err != nil {
		return 0, fmt.Errorf("inbox: %w", err)
	}
	return int64(len(found)), nil
}

// stored counts the messages of a lane from a sequence on.
func (h *Hub) stored(ctx context.Context, k subjects.Key, n subjects.Lane, from uint64) (int64, error) {
	msgs, left, err := h.fetch.Next(ctx, layout.StreamInbox, subjects.Inbox(k, n), from, 1, laneBytes)
	return int64(len(msgs) + left), err
}

// above returns how many messages of an ascending list have a sequence above seq.
func above(msgs []*envelope.Message, seq uint64) int {
	i, _ := slices.BinarySearchFunc(msgs, seq+1, func(m *envelope.Message, seq uint64) int { return cmp.Compare(m.Seq, seq) })
	return len(msgs) - i
}

// firstOf is the sequence of the first message; 0 if there is none.
func firstOf(msgs []*envelope.Message) uint64 {
	if len(msgs) == 0 {
		return 0
	}
	return msgs[0].Seq
}

// expects returns what the store must have of a lane after pos: the messages that
// were counted and are not queued, and those that were sent and not acknowledged.
func (mb *Mailbox) expects(n subjects.Lane, pos uint64) expected {
	first := mb.hub.first.Load()
	mb.mu.Lock()
	defer mb.mu.Unlock()
	l := &mb.lanes[n]
	want := expected{counted: l.unread, floor: l.ackFloor, known: mb.seen}
	for _, seq := range l.ackPending {
		if _, acked := mb.early[seq]; seq > pos && seq >= first && !acked {
			want.pending = append(want.pending, seq)
		}
	}
	return want
}

// trustAfter is for how long after the hub's start a replica that says there is
// nothing more is not believed. Messages stored after the start are in the tail,
// and by then replicas have the older ones.
const trustAfter = 15 * time.Second

// doubtful reports whether a replica may still lack what was stored before the
// hub's start.
func (h *Hub) doubtful() bool {
	return h.replicas.Load() > 1 && time.Since(h.started) < trustAfter
}

// confirmEmpty reports whether a lane has nothing after msgs, which were read
// from after pos, and before floor. If a replica has not shown everything, it
// waits a little and reports false.
func (h *Hub) confirmEmpty(ctx context.Context, key subjects.Key, n subjects.Lane, pos uint64, msgs []*envelope.Message, floor uint64) (bool, error) {
	if !h.doubtful() {
		return true, nil
	}
	if len(msgs) > 0 {
		pos = msgs[len(msgs)-1].Seq
	}
	if pos+1 >= floor {
		return true, nil
	}
	more, err := h.fetch.Holds(ctx, layout.StreamInbox, subjects.Inbox(key, n), pos+1)
	if err != nil || !more {
		return err == nil, err
	}
	wait(ctx, replicaPause)
	return false, nil
}

// replicaPause is how long to wait for a lagging replica.
const replicaPause = 20 * time.Millisecond

// join queues what the tail has for the lane. more is false if the lane is live
// now, or full, or closed. Otherwise the store must be read after pos, up to
// floor.
func (mb *Mailbox) join(n subjects.Lane) (pos, floor uint64, more bool) {
	h := mb.hub
	h.mu.Lock()
	defer h.mu.Unlock()
	mb.mu.Lock()
	defer mb.mu.Unlock()
	l := &mb.lanes[n]
	if mb.closed || !l.catchingUp || !l.room() {
		return 0, 0, false
	}
	l.skip()
	if l.readPos+1 < h.tail.floor {
		return l.readPos, h.tail.floor, true
	}
	h.scratch = h.tail.after(h.scratch[:0], mb.key, n, l.readPos)
	defer clear(h.scratch)
	for _, m := range h.scratch {
		if !l.room() {
			return 0, 0, false
		}
		mb.noteLocked(m)
		l.pushRead(m)
	}
	mb.caughtUpLocked(n)
	return 0, 0, false
}
