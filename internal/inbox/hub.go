package inbox

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/rccs-io/rccs/internal/clock"
	"github.com/rccs-io/rccs/internal/direct"
	"github.com/rccs-io/rccs/internal/envelope"
	"github.com/rccs-io/rccs/internal/layout"
	"github.com/rccs-io/rccs/internal/pool"
	"github.com/rccs-io/rccs/internal/reader"
	"github.com/rccs-io/rccs/internal/shard"
	"github.com/rccs-io/rccs/internal/stops"
	"github.com/rccs-io/rccs/internal/wake"
	"github.com/rccs-io/rccs/subjects"
)

// ErrStopped is returned once the hub has been stopped.
var ErrStopped = errors.New("inbox: the hub has stopped")

// Options configure a hub. The three connections belong to one account. They are
// separate because each carries a load that must not wait for another's.
type Options struct {
	// Read carries the stream to the hub.
	Read *nats.Conn
	// Fetch carries Direct Gets. The server runs them in the read loop of their
	// connection, and holds a lock that publishes need.
	Fetch *nats.Conn
	// Publish stores cursors, outcomes, deadlines and events.
	Publish *Publisher
	// Shard is the one whose inboxes the hub serves. Publish must have the same.
	Shard shard.Shard
	// Logger; nil discards.
	Logger *slog.Logger
	// TailMessages and TailBytes bound the recent messages kept in memory.
	// Defaults 32,768 and 16 MiB.
	TailMessages, TailBytes int
	// CursorEvery is how often changed cursors are stored. Default 1 s.
	CursorEvery time.Duration
	// MaxUnacked is how many unacknowledged messages an inbox may hold before
	// Admit refuses more. Default 10,000.
	MaxUnacked int
	// Undeliverable, if set, is called with the reason when a message reaches
	// nobody.
	Undeliverable func(reason string)
	// Rejected, if set, is called when a message is kept as rejected, with the
	// cause: one of RejectedByDevice and the like.
	Rejected func(cause string)
	// Restarted, if set, is called with the reason when the reading of the stream
	// was repaired.
	Restarted func(reason string)
	// MaxDeliveries is to how many connections a message is sent that none of
	// them acknowledges. Then it is rejected. 0 means no limit.
	MaxDeliveries int
	// Edge names this process among those that follow the stream.
	Edge string
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
		o.CursorEvery = cursorEvery
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
	fills    *pool.Pool
	lanes    *laneReader
	clock    *clock.Store // of the stream

	// head is the sequence up to which everything has been handed out. It is set
	// after the handing out, so that a cursor never covers a message that is
	// still on its way.
	head atomic.Uint64

	streamState // as of the last look at the stream

	started  time.Time
	js       jetstream.JetStream // on Options.Fetch
	fence    *nats.Subscription
	tell     *Teller
	damaged  atomic.Pointer[damaged] // as it was read last
	repaired wake.Signal             // the reading of the stream was repaired
	ends     ends
	barrier  time.Duration // [barrierTimeout], but in tests
	sweeps   sweeps

	// closing ends when the hub stops.
	closing context.Context
	cut     context.CancelFunc
	wg      sync.WaitGroup

	mu        sync.Mutex
	mailboxes map[subjects.Key]*Mailbox
	// departed has, for devices that left, the acknowledged messages whose
	// outcomes are not stored yet.
	departed map[subjects.Key]*pendingOutcomes
	depths   map[subjects.Key]*depth
	tally    tally
	// unanswered are the messages given to mailboxes here whose senders asked,
	// the oldest first. They are kept for a while.
	unanswered []unanswered
	fences     []fenced // recent purges, the oldest first
	tail       *tail
	scratch    []*envelope.Message
	wakes      wakes
	waits      headWaits
	stopped    bool
}

// New makes a hub; nothing runs until Start.
func New(opts Options) (*Hub, error) {
	if err := opts.validate(); err != nil {
		return nil, err
	}
	h := &Hub{
		opts: opts, clock: clock.WatchStore(), repaired: wake.New(), barrier: barrierTimeout,
		mailboxes: make(map[subjects.Key]*Mailbox), departed: make(map[subjects.Key]*pendingOutcomes), depths: make(map[subjects.Key]*depth),
		tail: newTail(opts.TailMessages, opts.TailBytes), tally: newTally(),
	}
	h.tell = NewTeller(opts.Publish, opts.Logger, opts.Undeliverable)
	h.damaged.Store(new(damaged))
	r, err := reader.New(reader.Options{
		Conn: opts.Read, Stream: layout.StreamInbox, Shard: opts.Shard, Handle: h.handle, Drained: h.drained,
		Restarted: h.onRepair, Logger: opts.Logger, Heartbeat: opts.Heartbeat,
	})
	if err != nil {
		return nil, err
	}
	h.reader = r
	js, err := jetstream.New(opts.Fetch)
	if err != nil {
		return nil, fmt.Errorf("inbox: %w", err)
	}
	h.js = opts.Shard.JetStream(js)
	h.closing, h.cut = context.WithCancel(context.Background())
	h.fetch = direct.New(opts.Fetch).In(opts.Shard)
	h.last = h.fetch.Last(layout.StreamInbox, true)
	h.lanes = &laneReader{
		fetch: h.fetch, proof: opts.Publish.Proof, log: opts.Logger,
		replicas: func(context.Context) (int64, error) { return h.replicas.Load(), nil },
	}
	h.cursors = newCursorWriter(opts.Publish, h.fetch, h.replicas.Load, h.head.Load, opts.CursorEvery, opts.Logger)
	h.outcomes = newOutcomeWriter(opts.Publish, h.keepOutcome, h.outcomesTold, h.finalized, opts.Logger)
	h.fills = pool.New(fillWorkers, 0)
	h.wakes.timer = time.AfterFunc(time.Hour, h.wakeLate)
	h.wakes.timer.Stop()
	return h, nil
}

// Start begins to read after the stream's last message.
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
	began := h.tail.floor
	h.mu.Unlock()
	err := h.prepare(ctx, began)
	if err != nil {
		_ = h.reader.Stop(context.WithoutCancel(ctx))
		h.fetch.Stop()
		return err
	}
	if h.fence, err = h.opts.Fetch.Subscribe(h.opts.Shard.Subject(layout.Fence), h.onFence); err == nil {
		err = h.opts.Fetch.FlushTimeout(fenceTimeout) // a purge from here on reaches this hub
	}
	if err != nil {
		_ = h.reader.Stop(context.WithoutCancel(ctx))
		h.fetch.Stop()
		return fmt.Errorf("inbox: %w", err)
	}
	h.cursors.start()
	h.outcomes.start()
	h.wg.Go(h.watchStream)
	go h.runTally()
	return nil
}

// prepare brings cursors and counts in line with the stream. It covers messages
// below began; the hub's own reader hands out the rest.
func (h *Hub) prepare(ctx context.Context, began uint64) error {
	found, err := h.cursors.last.Get(ctx, []string{layout.Watermark, layout.Counted, layout.Damaged(layout.StreamInbox)})
	if err != nil {
		return err
	}
	if found[2] != nil {
		h.damaged.Store(parseDamaged(found[2].Data))
	}
	var mark counted
	if found[1] != nil {
		if err := json.Unmarshal(found[1].Data, &mark); err != nil {
			return fmt.Errorf("inbox: stored counted mark: %w", err)
		}
	}
	if err := h.checkRewind(ctx, found[0], mark.UpTo); err != nil {
		return err
	}
	if _, err := h.refreshState(ctx); err != nil {
		return err
	}
	return h.countMissed(ctx, mark.UpTo, began)
}

// Stop detaches every mailbox, stores all cursors and ends the reading.
func (h *Hub) Stop(ctx context.Context) error {
	h.mu.Lock()
	if h.stopped {
		h.mu.Unlock()
		return nil
	}
	h.stopped = true
	mailboxes := make([]*Mailbox, 0, len(h.mailboxes))
	for _, mb := range h.mailboxes {
		mailboxes = append(mailboxes, mb)
	}
	h.mu.Unlock()
	for _, mb := range mailboxes {
		mb.Detach()
	}
	h.wakes.timer.Stop()
	if h.fence != nil { // a purge waits for the answer
		stops.Drain(ctx, h.opts.Fetch, h.fence)
	}
	h.ends.close()
	h.cut()
	h.wg.Wait()
	h.outcomes.stop(ctx)
	err := h.cursors.stop(ctx)
	err = errors.Join(err, h.stopTally(ctx))
	h.fills.Stop()
	err = errors.Join(err, h.reader.Stop(ctx))
	h.fetch.Stop()
	return err
}

// onRepair is called when the reading of the stream was repaired. A server may
// have been started again, so watchStream looks for damage at once.
func (h *Hub) onRepair(reason string) {
	h.repaired.Set()
	if h.opts.Restarted != nil {
		h.opts.Restarted(reason)
	}
}

// Head returns the sequence up to which everything stored has been handed out.
func (h *Hub) Head() uint64 { return h.head.Load() }

// Forgetful reports whether the stream may have forgotten the ids of messages: the clock
// of its leader was set ahead. What is sent now may be stored already.
func (h *Hub) Forgetful() bool { return h.clock.Within() }

// Epoch stays the same as long as the stream has given out no sequence twice. It
// is as of the last look at the stream; "" before the first.
func (h *Hub) Epoch() string {
	if e := h.epoch.Load(); e != nil {
		return *e
	}
	return ""
}

// Release ends the attachment of a device that has moved elsewhere, and returns
// when what it acknowledged here is stored.
func (h *Hub) Release(ctx context.Context, k subjects.Key) error {
	h.mu.Lock()
	mb := h.mailboxes[k]
	h.mu.Unlock()
	if mb != nil {
		mb.Detach()
	}
	tick := time.NewTicker(storedEvery)
	defer tick.Stop()
	for h.storing(k) {
		select {
		case <-tick.C:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	return nil
}

// storedEvery is how often [Hub.Release] looks whether a cursor is stored. Only
// devices that move between edges wait for that.
const storedEvery = 2 * time.Millisecond

// storing reports whether the store may not have yet what a device that has left
// acknowledged here.
func (h *Hub) storing(k subjects.Key) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.storingLocked(k)
}

func (h *Hub) storingLocked(k subjects.Key) bool {
	return h.departed[k].storing() || h.cursors.holds(k)
}

// Healthy returns an error when the stream cannot be followed, or has not been
// heard from for longer than d.
func (h *Hub) Healthy(d time.Duration) error {
	if err := h.reader.Healthy(d); err != nil {
		return fmt.Errorf("inbox: %w", err)
	}
	return nil
}

// Behind returns how many stored messages the hub has not read yet, and for how
// long it has heard nothing from the stream.
func (h *Hub) Behind() (messages uint64, quiet time.Duration) {
	return h.reader.Behind(), h.reader.Quiet()
}

// handle is the reader's callback. It is called for each message, in order.
func (h *Hub) handle(e reader.Entry) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.tail.floor == 0 {
		h.tail.floor = e.Seq
	}
	if h.clock.Stored(e.Time, layout.DedupWindow) {
		if e.Header == nil {
			e.Header = make(nats.Header)
		}
		e.Header[subjects.HeaderRedelivered] = []string{"true"}
	}
	if m, ok := envelope.Parse(h.opts.Publish.Proof, envelope.Stored(e)); ok {
		h.tail.add(m)
		h.noteDeadline(m)
		mb := h.mailboxes[m.Key]
		h.countLocked(m, mb)
		h.handOutLocked(m, mb)
	}
	h.head.Store(e.Seq)
	if h.replicas.Load() <= 1 { // else a majority has the end of the stream
		h.cursors.mark.headRose()
	}
	h.waits.wake(e.Seq)
	h.wakes.handed()
}

// handOutLocked gives a message to the mailbox of its device, nil if none is
// attached here. If no mailbox counts the message, the tally does.
func (h *Hub) handOutLocked(m *envelope.Message, mb *Mailbox) {
	if mb == nil {
		h.tallyLocked(m)
		return
	}
	wake, counted := mb.deliver(m)
	if wake {
		h.wakes.add(mb, m.Lane)
	}
	switch {
	case !counted:
		h.tallyLocked(m)
	case m.RequiresAck() && m.TTL() == 0:
		h.unanswered = append(h.unanswered, newUnanswered(m))
	}
}
