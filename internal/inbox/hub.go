package inbox

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/rccs-io/rccs/internal/direct"
	"github.com/rccs-io/rccs/internal/reader"
	"github.com/rccs-io/rccs/subjects"
)

// ErrStopped is returned once the hub has been stopped.
var ErrStopped = errors.New("inbox: the hub has stopped")

// Options are what a hub needs. The three connections belong to one account;
// they are apart because each carries a load that must not wait for another's.
type Options struct {
	// Read carries the stream to the hub.
	Read *nats.Conn
	// Fetch carries Direct Gets: they run in the server's read loop of their
	// connection and hold a lock that publishes need.
	Fetch *nats.Conn
	// Publish stores cursors.
	Publish *Publisher
	// Logger; nil discards.
	Logger *slog.Logger
	// TailMessages and TailBytes bound the recent messages kept in memory.
	// Defaults 32,768 and 16 MiB.
	TailMessages, TailBytes int
	// CursorEvery is how often changed cursors are stored. Default 250 ms.
	CursorEvery time.Duration
	// MaxUnacked is how many unacknowledged messages an inbox may hold before
	// Admit refuses more. Default 10,000.
	MaxUnacked int
	// Restarted, if set, is told when the reading of the stream was repaired.
	Restarted func(reason string)
	// Heartbeat of the stream reader; see reader.Options. Default 1 s.
	Heartbeat time.Duration
}

func (o *Options) validate() error {
	if o.Read == nil || o.Fetch == nil || o.Publish == nil {
		return errors.New("inbox: Read, Fetch and Publish are needed")
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	if o.TailMessages <= 0 {
		o.TailMessages = 32768
	}
	if o.TailBytes <= 0 {
		o.TailBytes = 16 << 20
	}
	if o.MaxUnacked <= 0 {
		o.MaxUnacked = 10_000
	}
	if o.CursorEvery <= 0 {
		o.CursorEvery = 250 * time.Millisecond
	}
	return nil
}

// Hub reads the inbox stream of one account and hands each message to the
// device it is for, if that device is attached here.
type Hub struct {
	opts     Options
	reader   *reader.Reader
	fetch    *direct.Client
	last     *direct.Last // of the inbox stream, sequences only
	cursors  *cursorWriter
	outcomes *outcomeWriter
	fills    *fillPool

	// head: everything up to it has been handed out. It is stored after the
	// handing out, so that a cursor never claims what is still on its way.
	head atomic.Uint64

	// first is where the stream began when it was last looked at, and perLane
	// how many messages it keeps of one subject; 0 or less: all.
	first    atomic.Uint64
	perLane  atomic.Int64
	replicas atomic.Int64 // of the stream
	started  time.Time
	js       jetstream.JetStream // on Options.Fetch
	ends     ends
	sweeps   sweeps

	// closing ends when the hub stops.
	closing context.Context
	cut     context.CancelFunc
	wg      sync.WaitGroup

	mu    sync.Mutex
	boxes map[subjects.Key]*Mailbox
	// lingering is what devices that left had acknowledged, as long as the
	// outcomes of it are not stored.
	lingering map[subjects.Key]*linger
	depths    map[subjects.Key]*depth
	tail      *tail
	scratch   []*Message
	waits     headWaits
	stopped   bool
}

// New makes a hub; nothing runs until Start.
func New(opts Options) (*Hub, error) {
	if err := opts.validate(); err != nil {
		return nil, err
	}
	h := &Hub{
		opts:  opts,
		boxes: make(map[subjects.Key]*Mailbox), lingering: make(map[subjects.Key]*linger), depths: make(map[subjects.Key]*depth),
		tail: newTail(opts.TailMessages, opts.TailBytes),
	}
	r, err := reader.New(reader.Options{
		Conn: opts.Read, Stream: subjects.StreamInbox, Handle: h.handle,
		Restarted: opts.Restarted, Logger: opts.Logger, Heartbeat: opts.Heartbeat,
	})
	if err != nil {
		return nil, err
	}
	h.reader = r
	if h.js, err = jetstream.New(opts.Fetch); err != nil {
		return nil, fmt.Errorf("inbox: %w", err)
	}
	h.closing, h.cut = context.WithCancel(context.Background())
	h.fetch = direct.New(opts.Fetch)
	h.last = h.fetch.Last(subjects.StreamInbox, true)
	h.cursors = newCursorWriter(opts.Publish, h.fetch.Last(subjects.StreamCursor, false), h.head.Load, opts.CursorEvery, opts.Logger)
	h.outcomes = newOutcomeWriter(opts.Publish, h.settled, opts.Logger)
	h.fills = newFillPool()
	return h, nil
}

// Start begins to read behind the stream's last message.
func (h *Hub) Start(ctx context.Context) error {
	if err := h.fetch.Start(); err != nil {
		return err
	}
	h.started = time.Now()
	if err := h.reader.Start(ctx); err != nil {
		h.fetch.Stop()
		return err
	}
	h.mu.Lock()
	if h.tail.floor == 0 {
		h.tail.floor = h.reader.Last() + 1
		h.head.Store(h.reader.Last())
	}
	h.mu.Unlock()
	if err := h.checkRewind(ctx); err != nil {
		_ = h.reader.Stop(context.WithoutCancel(ctx))
		h.fetch.Stop()
		return err
	}
	if _, err := h.look(ctx); err != nil {
		_ = h.reader.Stop(context.WithoutCancel(ctx))
		h.fetch.Stop()
		return err
	}
	h.cursors.start()
	h.outcomes.start()
	h.wg.Go(h.watchStream)
	return nil
}

// Stop detaches every mailbox, stores all cursors and ends the reading.
func (h *Hub) Stop(ctx context.Context) error {
	h.mu.Lock()
	if h.stopped {
		h.mu.Unlock()
		return nil
	}
	h.stopped = true
	boxes := make([]*Mailbox, 0, len(h.boxes))
	for _, mb := range h.boxes {
		boxes = append(boxes, mb)
	}
	h.mu.Unlock()
	for _, mb := range boxes {
		mb.Detach()
	}
	h.ends.close()
	h.cut()
	h.wg.Wait()
	h.outcomes.stop(ctx)
	err := h.cursors.stop(ctx)
	h.fills.stop()
	err = errors.Join(err, h.reader.Stop(ctx))
	h.fetch.Stop()
	return err
}

// Head is the sequence up to which everything stored has been handed out.
func (h *Hub) Head() uint64 { return h.head.Load() }

// Recipient is a device that a message was stored for.
type Recipient struct {
	Key subjects.Key
	Seq uint64
}

// Recipients says who got the message of which the first copy is seq: those
// that it names, with sequence 0 but for the first, or what was stored next to
// it under the same id by the same sender. A publish that
// turns out to be a repeat was stored for whomever the first one was for.
func (h *Hub) Recipients(ctx context.Context, seq uint64) ([]Recipient, error) {
	return recipients(ctx, h.fetch, seq)
}

func recipients(ctx context.Context, fetch *direct.Client, seq uint64) ([]Recipient, error) {
	var all []Recipient
	var id, from string
	for {
		got, err := fetch.Run(ctx, subjects.StreamInbox, seq+uint64(len(all)), recipientsBatch)
		if err != nil {
			return nil, err
		}
		for _, m := range got {
			key, _, ok := subjects.ParseInbox(m.Subject)
			if names := m.Header.Get(subjects.HeaderCopies); len(all) == 0 && ok && m.Seq == seq && names != "" {
				return namedCopies(key, seq, names), nil
			}
			thisID, thisFrom := m.Header.Get(subjects.HeaderID), m.Header.Get(subjects.HeaderFrom)
			switch {
			case m.Seq != seq+uint64(len(all)), !ok, len(all) > 0 && (thisID != id || thisFrom != from):
				return all, gone(all, seq)
			}
			id, from = thisID, thisFrom
			all = append(all, Recipient{key, m.Seq})
		}
		if len(got) < recipientsBatch {
			return all, gone(all, seq)
		}
	}
}

// namedCopies are the recipients that a first copy names. Where the others are
// stored is not known.
func namedCopies(first subjects.Key, seq uint64, names string) []Recipient {
	var all []Recipient
	for n, name := range strings.Fields(names) {
		to := Recipient{Key: subjects.Key(first.User() + "." + name)}
		if n == 0 {
			to.Seq = seq
		}
		all = append(all, to)
	}
	return all
}

// recipientsBatch is how many messages are read at a time to find a message's
// recipients. Most users have fewer devices.
const recipientsBatch = 16

func gone(found []Recipient, seq uint64) error {
	if len(found) == 0 {
		return fmt.Errorf("inbox: message %d is gone", seq)
	}
	return nil
}

// Release ends the attachment of a device that has moved elsewhere, and returns
// when what it acknowledged here is stored.
func (h *Hub) Release(ctx context.Context, k subjects.Key) error {
	h.mu.Lock()
	mb := h.boxes[k]
	h.mu.Unlock()
	if mb != nil {
		mb.Detach()
	}
	tick := time.NewTicker(storedEvery)
	defer tick.Stop()
	for {
		h.mu.Lock()
		lingering := h.lingering[k] != nil
		h.mu.Unlock()
		if !lingering {
			return h.cursors.stored(ctx, k)
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// Healthy returns an error when the stream cannot be followed, or has not been
// heard from for longer than d.
func (h *Hub) Healthy(d time.Duration) error {
	if err := h.reader.Err(); err != nil {
		return fmt.Errorf("inbox: %w: restart this process", err)
	}
	if quiet := h.reader.Quiet(); quiet > d {
		return fmt.Errorf("inbox: nothing heard from stream %s for %s", subjects.StreamInbox, quiet.Round(time.Millisecond))
	}
	return nil
}

// handle is the reader's callback: one message, in order.
func (h *Hub) handle(e reader.Entry) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.tail.floor == 0 {
		h.tail.floor = e.Seq
	}
	if m, ok := newMessage(e); ok {
		h.tail.add(m)
		h.noteDeadline(m)
		h.countLocked(m)
		if mb := h.boxes[m.Key]; mb != nil {
			mb.deliver(m)
		}
	}
	h.head.Store(e.Seq)
	h.waits.wake(e.Seq)
}

// Attach makes the device's inbox flow here, taking it over from an earlier
// attachment to this hub. When it returns, what waited is counted and the
// first of it is queued.
func (h *Hub) Attach(ctx context.Context, key subjects.Key, opts MailboxOptions) (*Mailbox, error) {
	if opts.Window < 1 || opts.Wake == nil || opts.Evicted == nil {
		return nil, errors.New("inbox: attach: Window, Wake and Evicted are needed")
	}
	mb := &Mailbox{hub: h, key: key, opts: opts, filling: true}
	for n := range mb.lanes {
		mb.lanes[n].behind = true
	}
	if err := h.takeOver(mb); err != nil {
		return nil, err
	}
	if err := h.restore(ctx, mb); err != nil {
		h.detach(mb)
		return nil, fmt.Errorf("inbox: attach %s: %w", key, err)
	}
	return mb, nil
}

// takeOver puts mb in the place of an earlier mailbox, whose state it stores.
func (h *Hub) takeOver(mb *Mailbox) error {
	h.mu.Lock()
	if h.stopped {
		h.mu.Unlock()
		return ErrStopped
	}
	old := h.boxes[mb.key]
	h.boxes[mb.key] = mb
	delete(h.depths, mb.key) // the mailbox knows
	if old != nil {
		h.retire(old)
	}
	if l := h.lingering[mb.key]; l != nil { // mb is not known to anybody yet
		delete(h.lingering, mb.key)
		mb.early = l.acked
	}
	h.mu.Unlock()
	if old != nil {
		old.opts.Evicted()
	}
	return nil
}

// retire closes a mailbox and has its cursor stored, unless it never came so
// far as to know it.
func (h *Hub) retire(mb *Mailbox) {
	mb.mu.Lock()
	defer mb.mu.Unlock()
	if mb.closed {
		return
	}
	c, settling := mb.closeLocked()
	if !mb.ready {
		return
	}
	h.cursors.put(mb.key, c, mb.stored)
	if len(settling) > 0 {
		l := &linger{cursor: c, stored: mb.stored, acked: make(map[uint64]struct{}, len(settling))}
		for _, seq := range settling {
			l.acked[seq] = struct{}{}
		}
		h.lingering[mb.key] = l
	}
}

// linger is what a device that left had acknowledged before.
type linger struct {
	cursor Cursor
	stored *revision
	acked  map[uint64]struct{}
}

// settled hears that what became of a message is stored.
func (h *Hub) settled(o outcome) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if mb := h.boxes[o.key]; mb != nil {
		mb.settle(o.lane, o.seq)
		return
	}
	l := h.lingering[o.key]
	if l == nil {
		return
	}
	if _, ok := l.acked[o.seq]; !ok {
		return
	}
	is := func(seq uint64) bool { return seq == o.seq }
	l.cursor.Unacked[o.lane] = slices.DeleteFunc(slices.Clone(l.cursor.Unacked[o.lane]), is)
	l.cursor.Asked = slices.DeleteFunc(slices.Clone(l.cursor.Asked), is)
	h.cursors.put(o.key, l.cursor, l.stored)
	if delete(l.acked, o.seq); len(l.acked) == 0 {
		delete(h.lingering, o.key)
	}
}

func (h *Hub) detach(mb *Mailbox) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.boxes[mb.key] == mb {
		delete(h.boxes, mb.key)
	}
	h.retire(mb)
}

// restore gives mb the device's cursor and the first of what waits.
func (h *Hub) restore(ctx context.Context, mb *Mailbox) error {
	end := h.askEnd()
	c, stored, err := h.cursors.load(ctx, mb.key)
	if err != nil {
		return err
	}
	h.reach(ctx, end)
	h.mu.Lock()
	floor, head := h.tail.floor, h.head.Load()
	h.mu.Unlock()
	if top := slices.Max(c.Sent[:]); top > head {
		if err := h.trim(ctx, mb.key, &c); err != nil {
			return err
		}
	}
	mb.mu.Lock()
	mb.stored = stored
	mb.retentionLocked(&c)
	away := mb.restoreLocked(&c, floor, head)
	mb.mu.Unlock()
	if away && !h.doubtful() {
		if err := h.probe(ctx, mb, floor); err != nil {
			return err
		}
	}
	if err := mb.fill(ctx); err != nil {
		return err
	}
	mb.mu.Lock()
	defer mb.mu.Unlock()
	mb.filling = false
	if mb.ready = true; len(mb.done) > 0 || len(mb.gaps) > 0 {
		mb.dirtyLocked()
	}
	mb.done = nil
	for n := range mb.lanes {
		l := &mb.lanes[n]
		mb.pending += l.queued()
		if len(mb.early) > 0 {
			for _, m := range l.queue[l.head:] {
				if _, acked := mb.early[m.Seq]; acked {
					mb.pending-- // an earlier connection acknowledged it
				}
			}
		}
		if l.behind {
			mb.pending += l.left
		}
	}
	if mb.pending > 0 || mb.owesLocked() || len(mb.gaps) > 0 {
		mb.opts.Wake()
	}
	if mb.closed {
		return ErrTakenOver
	}
	return nil
}

// ErrTakenOver is wrapped by the error of an Attach that a newer one of the
// same device overtook.
var ErrTakenOver = errors.New("a newer connection took over")

// trim looks at a cursor above the head. Either the store was read ahead of
// the hub, which is fine, or the stream lost its end while this hub was
// reading: then what is stored there now is new to the device.
func (h *Hub) trim(ctx context.Context, key subjects.Key, c *Cursor) error {
	last, err := h.reader.StreamLast(ctx)
	if err != nil {
		return err
	}
	for n := range c.Sent {
		if c.Sent[n] > last {
			h.opts.Logger.Warn("cursor is above the end of the stream, which must have lost messages",
				"device", string(key), "lane", subjects.Lane(n).String(), "cursor", c.Sent[n], "last", last)
			c.cut(subjects.Lane(n), last)
		}
	}
	return nil
}

// restoreLocked applies the cursor; away says that the tail does not reach
// back to it in some lane.
func (mb *Mailbox) restoreLocked(c *Cursor, floor, head uint64) (away bool) {
	mb.open = c.Open
	for n := range mb.lanes {
		l := &mb.lanes[n]
		l.known = c.Sent[n]
		l.owed = slices.DeleteFunc(slices.Clone(c.Unacked[n]), func(seq uint64) bool {
			_, done := mb.done[seq]
			return done
		})
		for _, seq := range l.owed {
			if _, asked := slices.BinarySearch(c.Asked, seq); asked {
				l.asked = append(l.asked, seq)
			}
		}
		l.again = l.known
		if c.Open {
			l.again = max(head, l.known)
		}
		l.skip()
		away = away || l.pos+1 < floor
	}
	return away
}

// probe asks for the last message of each lane, many devices in one request,
// and moves the lanes that have nothing new to where the tail begins.
func (h *Hub) probe(ctx context.Context, mb *Mailbox, floor uint64) error {
	names := make([]string, subjects.Lanes)
	for n := range names {
		names[n] = subjects.Inbox(mb.key, subjects.Lane(n))
	}
	last, err := h.last.Get(ctx, names)
	if err != nil {
		return err
	}
	mb.mu.Lock()
	defer mb.mu.Unlock()
	for n := range mb.lanes {
		l := &mb.lanes[n]
		if last[n] == nil || last[n].Seq <= l.pos {
			l.pos = max(l.pos, floor-1)
		}
	}
	return nil
}
