package ops

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/rccs-io/rccs/auth"
	"github.com/rccs-io/rccs/internal/direct"
	"github.com/rccs-io/rccs/internal/inbox"
	"github.com/rccs-io/rccs/internal/layout"
	"github.com/rccs-io/rccs/internal/leader"
	"github.com/rccs-io/rccs/internal/proof"
	"github.com/rccs-io/rccs/internal/shard"
)

// Errors that callers tell apart.
var (
	// ErrUnknownDevice: not registered, and no message.
	ErrUnknownDevice = errors.New("no such device")
	// ErrNotInstalled: the account has no streams of RCCS.
	ErrNotInstalled = errors.New("this account has no streams of RCCS")
)

// Options say how to reach a tenant.
type Options struct {
	// Dial makes a connection in the tenant's account. Its reply subjects
	// should lie where no service may listen. Needed.
	Dial inbox.Dial
	// System makes a connection in the system account, which is told about
	// servers. Without it they are left out.
	System inbox.Dial
	// URL is where clients reach the server that Dial connects to. Default: as Dial
	// does, which says nothing if that is within the process.
	URL string
	// Shards is how many shards of the tenant are looked at; 0: all that it has, as
	// the connection's credential says. If it is 1, Shard is the one.
	Shard  shard.Shard
	Shards int
	// Logger; nil discards.
	Logger *slog.Logger
}

// Tenant is a tenant of a running installation. Make one with [Open].
type Tenant struct {
	dial   inbox.Dial
	system inbox.Dial // or nil
	url    string     // or empty
	log    *slog.Logger
	shard  shard.Shard
	nc     *nats.Conn
	js     jetstream.JetStream
	direct *direct.Client
	parts  []*Tenant // by shard, of a tenant that has several; all on nc
	// The last message of a subject, by stream.
	lastInbox, lastCursor, lastDevice, lastSession *direct.Last

	mu  sync.Mutex
	pub *inbox.Publisher // nil until something is published
	key *proof.Key       // nil until it is needed
}

// Open connects. Close ends it.
func Open(opts Options) (*Tenant, error) {
	if opts.Dial == nil {
		return nil, errors.New("ops: Dial is needed")
	}
	if opts.Logger == nil {
		opts.Logger = slog.New(slog.DiscardHandler)
	}
	nc, err := opts.Dial()
	if err != nil {
		return nil, err
	}
	js, err := jetstream.New(nc)
	if err != nil {
		nc.Close()
		return nil, fmt.Errorf("ops: %w", err)
	}
	if opts.Shards == 0 {
		opts.Shards = auth.ShardsOf(nc)
	}
	if opts.Shards == 1 {
		return open(&opts, opts.Shard, nc, js)
	}
	all, err := open(&opts, shard.At(0, opts.Shards), nc, js)
	if err != nil {
		return nil, err
	}
	for _, s := range shard.All(opts.Shards) {
		part, err := open(&opts, s, nc, js)
		if err != nil {
			all.Close()
			return nil, err
		}
		all.parts = append(all.parts, part)
	}
	return all, nil
}

// open makes what looks at one shard. On an error nc is closed.
func open(opts *Options, s shard.Shard, nc *nats.Conn, js jetstream.JetStream) (*Tenant, error) {
	t := &Tenant{dial: opts.Dial, system: opts.System, url: opts.URL, log: opts.Logger, shard: s, nc: nc, js: s.JetStream(js), direct: direct.New(nc).In(s)}
	if err := t.direct.Start(); err != nil {
		nc.Close()
		return nil, err
	}
	t.lastInbox = t.direct.Last(layout.StreamInbox, true)
	t.lastCursor = t.direct.Last(layout.StreamCursor, false)
	t.lastDevice = t.direct.Last(bucketStream(layout.BucketDevices), false)
	t.lastSession = t.direct.Last(bucketStream(layout.BucketSessions), false)
	return t, nil
}

// Close ends what is under way and the connections.
func (t *Tenant) Close() {
	for _, part := range t.parts {
		part.Close()
	}
	t.mu.Lock()
	pub := t.pub
	t.mu.Unlock()
	if pub != nil {
		pub.Stop()
	}
	t.direct.Stop()
	t.nc.Close()
}

// publisher makes the one that all publishing goes through.
func (t *Tenant) publisher() (*inbox.Publisher, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.pub == nil {
		pub, err := inbox.NewPublisher(t.dial, t.log)
		if err != nil {
			return nil, err
		}
		pub.Shard = t.shard
		t.pub = pub
	}
	return t.pub, nil
}

// proof is the tenant's key, which shows what RCCS itself has stored.
func (t *Tenant) proof(ctx context.Context) (*proof.Key, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.key == nil {
		key, err := proof.Load(ctx, t.js)
		if errors.Is(err, jetstream.ErrBucketNotFound) {
			return nil, fmt.Errorf("%w: %w", ErrNotInstalled, err)
		}
		if err != nil {
			return nil, fmt.Errorf("ops: %w", err)
		}
		t.key = key
	}
	return t.key, nil
}

// bucketStream is the stream of a key-value bucket.
func bucketStream(bucket string) string { return "KV_" + bucket }

// askTimeout bounds one question to JetStream.
const askTimeout = 10 * time.Second

// info asks the stream's leader or, while there is none, any of its servers.
func (t *Tenant) info(ctx context.Context, stream string, opts ...jetstream.StreamInfoOpt) (*jetstream.StreamInfo, error) {
	ctx, cancel := context.WithTimeout(ctx, askTimeout)
	defer cancel()
	s, err := t.js.Stream(ctx, stream)
	if err != nil {
		return nil, t.notInstalled(stream, err)
	}
	if len(opts) == 0 {
		return s.CachedInfo(), nil
	}
	info, err := s.Info(ctx, opts...)
	if err != nil {
		return nil, t.notInstalled(stream, err)
	}
	return info, nil
}

// notInstalled is err of a stream, which it calls what servers and files call it.
func (t *Tenant) notInstalled(stream string, err error) error {
	stream = t.shard.Stream(stream)
	if errors.Is(err, jetstream.ErrStreamNotFound) {
		return fmt.Errorf("%w: %s is missing", ErrNotInstalled, stream)
	}
	return fmt.Errorf("ops: look up stream %s: %w", stream, err)
}

// head is the sequence of the stream's last message.
func (t *Tenant) head(ctx context.Context, stream string) (uint64, error) {
	ctx, cancel := context.WithTimeout(ctx, askTimeout)
	defer cancel()
	info, err := leader.Info(ctx, t.js, stream)
	if err != nil {
		return 0, t.notInstalled(stream, err)
	}
	return info.State.LastSeq, nil
}

// counts are how many messages the stream has on each subject of a pattern.
func (t *Tenant) counts(ctx context.Context, stream, pattern string) (map[string]uint64, error) {
	info, err := t.info(ctx, stream, jetstream.WithSubjectFilter(t.shard.Stored(pattern)))
	if err != nil {
		return nil, err
	}
	if t.shard.Alone() {
		return info.State.Subjects, nil
	}
	all := make(map[string]uint64, len(info.State.Subjects))
	for subject, n := range info.State.Subjects {
		all[t.shard.Plain(subject)] = n
	}
	return all, nil
}

// at is the sequence of the first message that was stored at a time or after
// it; one past the last when there is none.
func (t *Tenant) at(ctx context.Context, stream string, when time.Time) (uint64, error) {
	when = when.UTC()
	msgs, _, err := t.direct.Get(ctx, stream, &direct.Request{StartTime: &when, Batch: 1})
	if err != nil {
		return 0, fmt.Errorf("ops: look for %s in %s: %w", when.Format(time.RFC3339), t.shard.Stream(stream), err)
	}
	if len(msgs) > 0 {
		return msgs[0].Seq, nil
	}
	last, err := t.head(ctx, stream)
	return last + 1, err
}

// workers is how many questions are under way at once.
const workers = 32

// forEach runs f for 0 to n-1, several at a time, and reports progress, which
// may be nil. The first error ends it.
func forEach(ctx context.Context, n int, progress func(done, all int), f func(ctx context.Context, i int) error) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	var wg sync.WaitGroup
	var mu sync.Mutex
	next, done := 0, 0
	take := func() (int, bool) {
		mu.Lock()
		defer mu.Unlock()
		if next >= n || ctx.Err() != nil {
			return 0, false
		}
		next++
		return next - 1, true
	}
	for range min(n, workers) {
		wg.Go(func() {
			for {
				i, ok := take()
				if !ok {
					return
				}
				if err := f(ctx, i); err != nil {
					cancel(err)
					return
				}
				mu.Lock()
				if done++; progress != nil {
					progress(done, n)
				}
				mu.Unlock()
			}
		})
	}
	wg.Wait()
	return context.Cause(ctx)
}
