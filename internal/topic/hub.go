package topic

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/rccs-io/rccs/internal/direct"
	"github.com/rccs-io/rccs/internal/epoch"
	"github.com/rccs-io/rccs/internal/layout"
	"github.com/rccs-io/rccs/internal/pool"
	"github.com/rccs-io/rccs/internal/reader"
	"github.com/rccs-io/rccs/internal/shard"
	"github.com/rccs-io/rccs/subjects"
)

// ErrStopped is returned once the hub has been stopped.
var ErrStopped = errors.New("topic: the hub has stopped")

// Options are what a hub needs.
type Options struct {
	// Read carries the stream to the hub, Fetch what is read from the store.
	// Both belong to one account.
	Read, Fetch *nats.Conn
	// Shard is the one among whose cursors hubs store how far topics were read:
	// the first of the tenant.
	Shard shard.Shard
	// Examine, if set, is shown each message before it is handed out, whatever
	// its name, and must not block.
	Examine func(subject string, seq uint64, stored int64, h nats.Header)
	// Logger; nil discards.
	Logger *slog.Logger
}

// Bounds of the recent messages kept in memory.
const (
	tailMessages = 4096
	tailBytes    = 8 << 20
)

// fillsAtOnce bounds how many subscriptions read the store at a time.
const fillsAtOnce = 8

// Hub reads the stream of topics of one account.
type Hub struct {
	opts    Options
	reader  *reader.Reader
	fetch   *direct.Client
	last    *direct.Last // of the topics
	cursors *direct.Last // of what is known of streams
	started time.Time

	fills  *pool.Pool
	ctx    context.Context // of fills and marks
	cancel context.CancelFunc
	wg     sync.WaitGroup // of runMarks

	js     jetstream.JetStream // on Options.Fetch
	marked uint64              // how far it is stored that the stream was read; of runMarks

	mu      sync.Mutex
	stopped bool
	subs    map[string][]*Subscription // by subject
	head    uint64                     // what was handed out last
	tail    []*Message                 // recent messages, ascending
	bytes   int
	floor   uint64  // every message from it to head is in tail
	index   index   // of what was read
	damaged damaged // as far as anybody asked
}

// New makes a hub; nothing runs until Start.
func New(opts Options) (*Hub, error) {
	if opts.Read == nil || opts.Fetch == nil {
		return nil, errors.New("topic: Read and Fetch are needed")
	}
	if opts.Logger == nil {
		opts.Logger = slog.New(slog.DiscardHandler)
	}
	h := &Hub{opts: opts, fills: pool.New(fillsAtOnce, 0), subs: make(map[string][]*Subscription), started: time.Now()}
	h.index.reset(0)
	h.ctx, h.cancel = context.WithCancel(context.Background())
	r, err := reader.New(reader.Options{
		Conn: opts.Read, Stream: subjects.StreamTopic, Handle: h.handle, Logger: opts.Logger,
	})
	if err != nil {
		return nil, err
	}
	h.reader = r
	js, err := jetstream.New(opts.Fetch)
	if err != nil {
		return nil, fmt.Errorf("topic: %w", err)
	}
	h.js = opts.Shard.JetStream(js)
	h.fetch = direct.New(opts.Fetch).In(opts.Shard)
	h.last = h.fetch.Last(subjects.StreamTopic, true)
	h.cursors = h.fetch.Last(layout.StreamCursor, false)
	return h, nil
}

// Start begins to read behind the stream's last message.
func (h *Hub) Start(ctx context.Context) error {
	if err := h.fetch.Start(); err != nil {
		return err
	}
	if err := h.reader.Start(ctx); err != nil {
		h.fetch.Stop()
		return err
	}
	if err := h.checkEnd(ctx); err != nil {
		_ = h.reader.Stop(context.WithoutCancel(ctx))
		h.fetch.Stop()
		return err
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.floor == 0 {
		h.head = h.reader.Last()
		h.floor = h.head + 1
		h.index.reset(h.head)
	}
	if !h.stopped {
		h.wg.Go(h.runMarks)
	}
	return nil
}

// Epoch tells whether sequences may have been given out twice: it stays the same
// as long as they were not.
func (h *Hub) Epoch() string {
	if info := h.reader.Info(); info != nil {
		return epoch.Of(info)
	}
	return ""
}

// Stop ends the reading. It is idempotent.
func (h *Hub) Stop(ctx context.Context) error {
	h.mu.Lock()
	if h.stopped {
		h.mu.Unlock()
		return nil
	}
	h.stopped = true
	h.mu.Unlock()
	h.cancel()
	h.fills.Stop()
	h.wg.Wait()
	err := h.reader.Stop(ctx)
	h.fetch.Stop()
	return err
}

// Healthy returns an error when the stream cannot be followed, or has not been
// heard from for longer than d.
func (h *Hub) Healthy(d time.Duration) error {
	if err := h.reader.Healthy(d); err != nil {
		return fmt.Errorf("topic: %w", err)
	}
	return nil
}

// Behind is how many stored messages the hub has not read yet, and for how long
// it has heard nothing from the stream.
func (h *Hub) Behind() (messages uint64, quiet time.Duration) {
	return h.reader.Behind(), h.reader.Quiet()
}

// handle is the reader's callback: one message, in order.
func (h *Hub) handle(e reader.Entry) {
	h.examine(e)
	h.mu.Lock()
	defer h.mu.Unlock()
	switch {
	case h.floor == 0:
		h.floor = e.Seq
		h.index.reset(e.Seq - 1)
	case e.Seq > h.head+1:
		h.skipLocked(e.Seq)
	}
	h.head = e.Seq
	m, ok := newMessage(e)
	if !ok {
		return
	}
	h.index.add(m.Subject, e.Seq)
	h.tail = append(h.tail, m)
	h.bytes += m.cost()
	drop := 0
	for len(h.tail)-drop > tailMessages || h.bytes > tailBytes && len(h.tail)-drop > 1 {
		h.bytes -= h.tail[drop].cost()
		h.floor = h.tail[drop].Seq + 1
		h.tail[drop] = nil
		drop++
	}
	h.tail = h.tail[drop:]
	for _, s := range h.subs[e.Subject] {
		s.deliver(m)
	}
}

// skipLocked has all subscriptions look for what they lost: the messages before
// next were removed before the hub could read them, and nothing tells of which
// topics they were.
func (h *Hub) skipLocked(next uint64) {
	clear(h.tail)
	h.tail, h.bytes = h.tail[:0], 0
	h.floor = next
	h.index.reset(next - 1)
	for _, all := range h.subs {
		for _, s := range all {
			s.lookBack()
		}
	}
}

// examine shows a message to those that look for what is wrong with it.
func (h *Hub) examine(e reader.Entry) {
	if h.opts.Examine != nil {
		h.opts.Examine(e.Subject, e.Seq, e.Time, e.Header)
	}
}

// examineMissed examines what was stored from after on, while no hub ran, up to
// last.
func (h *Hub) examineMissed(ctx context.Context, after, last uint64) error {
	if h.opts.Examine == nil || after == 0 || after >= last {
		return nil
	}
	r, err := reader.New(reader.Options{
		Conn: h.opts.Read, Stream: subjects.StreamTopic, FromStart: true, After: after, HeadersOnly: true, Logger: h.opts.Logger,
		Handle: func(e reader.Entry) {
			if e.Seq <= last { // the hub's own reader has what is behind it
				h.examine(e)
			}
		},
	})
	if err != nil {
		return err
	}
	if err := r.Start(ctx); err != nil {
		return fmt.Errorf("topic: look at what was stored since %d: %w", after, err)
	}
	return r.Stop(ctx)
}

// History reads up to limit messages of a topic from seq on, and about
// maxBytes of payload. next is where to go on; 0 when there is no more.
func (h *Hub) History(ctx context.Context, topic string, from uint64, limit, maxBytes int) (msgs []*Message, next uint64, err error) {
	subject, err := subjects.Topic(topic)
	if err != nil {
		return nil, 0, err
	}
	msgs, left, err := h.read(ctx, subject, from, limit, maxBytes)
	if err == nil && left > 0 && len(msgs) > 0 {
		next = msgs[len(msgs)-1].Seq + 1
	}
	return msgs, next, err
}

// read reads a batch of one topic; left is how many more there are.
func (h *Hub) read(ctx context.Context, subject string, from uint64, limit, maxBytes int) (msgs []*Message, left int, err error) {
	got, left, err := h.fetch.Next(ctx, subjects.StreamTopic, subject, from, limit, maxBytes)
	if err != nil {
		return nil, 0, err
	}
	msgs = make([]*Message, 0, len(got))
	for _, s := range got {
		if m, ok := newMessage(reader.Entry(s)); ok {
			msgs = append(msgs, m)
		}
	}
	return msgs, left, nil
}

// remove ends the handing out to a subscription.
func (h *Hub) remove(s *Subscription) {
	h.mu.Lock()
	defer h.mu.Unlock()
	all := h.subs[s.subject]
	if i := slices.Index(all, s); i >= 0 {
		all = slices.Delete(all, i, i+1)
	}
	if len(all) == 0 {
		delete(h.subs, s.subject)
	} else {
		h.subs[s.subject] = all
	}
}
