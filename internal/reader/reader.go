package reader

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/rccs-io/rccs/internal/leader"
	"github.com/rccs-io/rccs/internal/shard"
	"github.com/rccs-io/rccs/internal/wake"
)

// ConsumerPrefix begins the names of readers' consumers. What follows cannot be
// guessed: who may make and delete consumers on the same stream, as services may
// on some, must not find these.
const ConsumerPrefix = "rccs-reader-"

// Entry is one stored message. The reader never touches it again after it was
// handed out.
type Entry struct {
	Subject string
	Seq     uint64 // stream sequence
	Time    int64  // when it was stored, Unix nanoseconds
	Header  nats.Header
	Data    []byte
}

// Options say what to read and what to do with it.
type Options struct {
	// Conn carries requests and messages; it should carry little else.
	Conn *nats.Conn
	// Stream is the stream's name.
	Stream string
	// Shard says whose stream it is, if each shard has one of its own.
	Shard shard.Shard
	// FromStart reads what is stored already before what comes; otherwise
	// reading starts behind the stream's last message.
	FromStart bool
	// After, with FromStart, leaves out what is stored up to this sequence.
	After uint64
	// Filter narrows what is read to these subjects, which may have wildcards
	// and must not overlap. None is all of the stream.
	Filter []string
	// HeadersOnly leaves the data out; the header Nats-Msg-Size says how much
	// that is.
	HeadersOnly bool
	// Handle gets every entry in order. It must not block.
	Handle func(Entry)
	// Drained, if set, is called when all that was received has been handed out:
	// after one entry or many, from where Handle is called.
	Drained func()
	// Restarted, if set, is told why a consumer was replaced.
	Restarted func(reason string)
	// Logger gets one line a restart; nil discards.
	Logger *slog.Logger
	// Heartbeat is how often the server speaks when there is nothing to read.
	// After two and a half of them in silence the consumer is replaced, or later if
	// the one before was silent, too.
	// Default 1 s.
	Heartbeat time.Duration
	// Batch is how many messages one pull request asks for. Default 2,000.
	Batch int
	// MaxBytes bounds one pull request. Default 8 MiB.
	MaxBytes int

	// accept, if set, is given the name of the server that reads for a consumer, ""
	// outside of a cluster. If it reports false, the consumer is not used.
	accept func(server string) bool
}

func (o *Options) validate() error {
	if o.Conn == nil || o.Stream == "" || o.Handle == nil {
		return errors.New("reader: Conn, Stream and Handle are needed")
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	if o.Heartbeat <= 0 {
		o.Heartbeat = time.Second
	}
	if o.Batch <= 0 {
		o.Batch = 2000
	}
	if o.MaxBytes <= 0 {
		o.MaxBytes = 8 << 20
	}
	return nil
}

// Reader follows a stream. Make one with [New].
type Reader struct {
	opts  Options
	js    jetstream.JetStream
	began time.Time

	upTo  uint64                               // where the stream ended at the start; 0 unless it has several copies
	last  atomic.Uint64                        // highest sequence handed out or known to be before the start
	info  atomic.Pointer[jetstream.StreamInfo] // as of the last request for the state
	beats atomic.Int64                         // of the last sign of life, in ns since began: nobody sets the monotonic clock
	left  atomic.Uint64                        // stored and not handed out yet, as the server last said

	failed atomic.Pointer[error] // why it can never go on

	restart chan string // capacity 1: why the current consumer is no good
	quiet   wake.Signal // the consumer has nothing to deliver
	caught  chan struct{}
	once    sync.Once // closes caught

	cancel context.CancelFunc
	done   chan struct{}
}

// New checks the options; nothing runs until Start.
func New(opts Options) (*Reader, error) {
	if err := opts.validate(); err != nil {
		return nil, err
	}
	js, err := jetstream.New(opts.Conn)
	if err != nil {
		return nil, fmt.Errorf("reader: %w", err)
	}
	opts.Stream = opts.Shard.Stream(opts.Stream)
	opts.Filter = slices.Clone(opts.Filter)
	for i, subject := range opts.Filter {
		opts.Filter[i] = opts.Shard.Stored(subject)
	}
	return &Reader{
		opts:    opts,
		js:      js,
		began:   time.Now(),
		restart: make(chan string, 1),
		quiet:   wake.New(),
		caught:  make(chan struct{}),
		done:    make(chan struct{}),
	}, nil
}

// ErrCutBack says that the stream ends before what was read from it already:
// it lost its end, or was made anew. The sequences to come are not the ones
// that were read, so the reader has stopped; its owner must begin again.
var ErrCutBack = errors.New("the stream was cut back below what was read from it")

// Start returns when the first consumer reads, and, with FromStart, when all
// that was stored before has been handed out. ctx bounds only the start.
func (r *Reader) Start(ctx context.Context) error {
	state, err := r.State(ctx)
	if err != nil {
		return err
	}
	r.last.Store(state.LastSeq)
	if r.opts.FromStart {
		r.last.Store(min(r.opts.After, state.LastSeq))
	}
	if r.Info().Config.Replicas > 1 {
		r.upTo = state.LastSeq
	}
	first, err := leader.Patient(ctx, r.open)
	if err != nil {
		return err
	}
	run, cancel := context.WithCancel(context.WithoutCancel(ctx))
	r.cancel = cancel
	go r.supervise(run, first)
	if !r.opts.FromStart {
		return nil
	}
	select {
	case <-r.caught:
		return nil
	case <-ctx.Done():
		_ = r.Stop(context.WithoutCancel(ctx))
		return fmt.Errorf("reader: read %s from the start: %w", r.opts.Stream, ctx.Err())
	}
}

// Stop ends the reading and waits for it. It is idempotent; a reader that was
// never started has nothing to stop.
func (r *Reader) Stop(ctx context.Context) error {
	if r.cancel == nil {
		return nil
	}
	r.cancel()
	select {
	case <-r.done:
		return nil
	case <-ctx.Done():
		return fmt.Errorf("reader: stop %s: %w", r.opts.Stream, ctx.Err())
	}
}

// Last is the highest sequence handed out, or where reading began.
func (r *Reader) Last() uint64 { return r.last.Load() }

// State asks for the stream's state.
func (r *Reader) State(ctx context.Context) (jetstream.StreamState, error) {
	return r.StateFrom(ctx, 0)
}

// StateFrom is State for one who knows that the stream ended at seq or above. A
// state that ends before that is certain: see [leader.InfoFrom].
func (r *Reader) StateFrom(ctx context.Context, seq uint64) (jetstream.StreamState, error) {
	info, err := leader.InfoFrom(ctx, r.js, r.opts.Stream, seq)
	if err != nil {
		return jetstream.StreamState{}, fmt.Errorf("reader: %w", err)
	}
	r.info.Store(info)
	return info.State, nil
}

// Info is what the stream said of itself when its state was asked for last; nil
// before the start. It must not be changed.
func (r *Reader) Info() *jetstream.StreamInfo { return r.info.Load() }

// Err is why the reader can never go on: nil or an error that wraps
// [ErrCutBack].
func (r *Reader) Err() error {
	if err := r.failed.Load(); err != nil {
		return *err
	}
	return nil
}

// checkEnd compares the stream's end with what was read.
func (r *Reader) checkEnd(ctx context.Context) error {
	last := r.last.Load()
	state, err := r.StateFrom(ctx, last)
	if err != nil {
		return err
	}
	if state.LastSeq < last {
		return fmt.Errorf("reader: %s ends at %d, read was %d: %w", r.opts.Stream, state.LastSeq, last, ErrCutBack)
	}
	return nil
}

// Healthy returns an error when the reader can never go on, or has not heard from
// the stream for longer than d.
func (r *Reader) Healthy(d time.Duration) error {
	if err := r.Err(); err != nil {
		return fmt.Errorf("%w: restart this process", err)
	}
	if quiet := r.Quiet(); quiet > d {
		return fmt.Errorf("nothing heard from stream %s for %s", r.opts.Stream, quiet.Round(time.Millisecond))
	}
	return nil
}

// Quiet is how long nothing was heard from the stream, heartbeats included.
func (r *Reader) Quiet() time.Duration {
	return time.Since(r.began) - time.Duration(r.beats.Load())
}

// Behind is how many stored messages were not handed out yet when the server
// last said so, with a message or while it had none.
func (r *Reader) Behind() uint64 { return r.left.Load() }

// Silence after which the consumer is replaced.
func (r *Reader) patience() time.Duration { return r.opts.Heartbeat * 5 / 2 }

// open makes a consumer at last+1 and asks it for messages.
func (r *Reader) open(ctx context.Context) (*pull, error) {
	name := ConsumerPrefix + rand.Text()
	consumer, err := r.js.CreateConsumer(ctx, r.opts.Stream, jetstream.ConsumerConfig{
		Name:              name,
		Description:       "rccs reader",
		DeliverPolicy:     jetstream.DeliverByStartSequencePolicy,
		OptStartSeq:       r.last.Load() + 1,
		FilterSubjects:    r.opts.Filter,
		HeadersOnly:       r.opts.HeadersOnly,
		AckPolicy:         jetstream.AckNonePolicy,
		MemoryStorage:     true,
		Replicas:          1,
		InactiveThreshold: 30 * time.Second,
	})
	if err != nil {
		r.drop(name) // it may be made yet
		return nil, fmt.Errorf("reader: create consumer on %s: %w", r.opts.Stream, err)
	}
	if r.opts.accept != nil && !r.opts.accept(serverOf(consumer.CachedInfo())) {
		r.drop(consumer.CachedInfo().Name)
		return nil, errWasRead
	}
	if consumer.CachedInfo().NumPending == 0 {
		r.ended(r.last.Load())
	}
	p := &pull{r: r, name: consumer.CachedInfo().Name, began: time.Now()}
	if err := p.start(); err != nil {
		return nil, err
	}
	return p, nil
}

// serverOf returns the name of the server that has a consumer; "" outside of a
// cluster.
func serverOf(info *jetstream.ConsumerInfo) string {
	if info.Cluster == nil {
		return ""
	}
	return info.Cluster.Leader
}
