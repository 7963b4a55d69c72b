package edge

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/rccs-io/rccs/internal/layout"
	"github.com/rccs-io/rccs/internal/leader"
	"github.com/rccs-io/rccs/internal/pool"
	"github.com/rccs-io/rccs/internal/proof"
	"github.com/rccs-io/rccs/internal/roster"
	"github.com/rccs-io/rccs/internal/send"
	"github.com/rccs-io/rccs/internal/shard"
	"github.com/rccs-io/rccs/internal/share"
	"github.com/rccs-io/rccs/internal/stops"
	"github.com/rccs-io/rccs/internal/trace"
	"github.com/rccs-io/rccs/subjects"
)

// TenantOptions are what a [Tenant] is made of. All are needed but those said to
// be optional.
type TenantOptions struct {
	Inbox     Inbox
	Publisher Publisher
	Roster    *roster.Roster
	Topics    Topics
	// Core carries what is not stored, such as signals and requests, and calls of
	// JetStream and of the coordinator's endpoints. No service may be able to
	// listen on its reply subjects.
	Core *nats.Conn
	// Proof is the tenant's key. It gives a device's messages ids that no service
	// can use.
	Proof *proof.Key
	// Shares bound what each device and user may store; nil: no bounds.
	Shares *share.Shares
	// MaxDelay is how far ahead deliverAt may lie; 0 is [wire.MaxDelay].
	MaxDelay time.Duration
	// Shard is the one whose users the Tenant has, Shards finds the Tenants of the
	// account's other shards here, by a user's token, and Slots is what they share.
	// With several shards all are needed, and only one of an account's Tenants,
	// which stays, has Hears: it listens to signals for all.
	Shard  shard.Shard
	Shards func(user string) *Tenant
	Slots  *Slots
	Hears  bool
	// Examine, if set, is called with each signal and each request for a device
	// here. It must not block.
	Examine func(key subjects.Key, subject string, h nats.Header)
	// Drain, if set, does what an operator asks, and returns the number of
	// connections and whether the edge drained before.
	Drain func(DrainAsk) (connections int, was bool)
	// Tracer records single messages on their way; nil: none is recorded.
	Tracer trace.Tracer
	// Logger; nil discards.
	Logger *slog.Logger
}

// Tenant is one NATS account as an edge uses it, with the account's devices that
// are connected here. If the account has several shards, a Tenant is one of them.
type Tenant struct {
	TenantOptions
	intake *send.Intake
	flush  flusher

	subs  []*nats.Subscription
	base  string         // of the reply subjects of requests
	asked chan *nats.Msg // requests to devices here, of all their subscriptions
	turns *pool.Pool     // handle them: one worker, which keeps each requester's requests in order
	room  *pool.Places   // bounds the bytes of waiting requests
	quit  chan struct{}
	wg    sync.WaitGroup

	mu    sync.RWMutex
	conns map[subjects.Key]*conn

	users users // has a lock of its own

	registering keyedLock // one registration of a device at a time

	asksMu sync.Mutex
	asks   map[string]*ask // requests of devices here, by the token of their reply subject
	askNo  uint64
}

// Bounds of requests to devices that have arrived and are not handled yet.
const (
	askedAtOnce  = 8192
	askedBacklog = 8192 // that wait for their turn
	askedBytes   = 256 << 20
	askerBytes   = 16 << 20 // of one requester
)

// NewTenant listens for signals, requests and responses to the tenant's devices.
// Close ends that.
func NewTenant(ctx context.Context, opts TenantOptions) (*Tenant, error) {
	if opts.Inbox == nil || opts.Publisher == nil || opts.Roster == nil || opts.Topics == nil || opts.Core == nil {
		return nil, errors.New("edge: Inbox, Publisher, Roster, Topics and Core of a tenant are needed")
	}
	if opts.Logger == nil {
		opts.Logger = slog.New(slog.DiscardHandler)
	}
	if opts.Slots == nil {
		opts.Slots = new(Slots)
	}
	js, err := jetstream.New(opts.Core)
	if err != nil {
		return nil, fmt.Errorf("edge: %w", err)
	}
	js = opts.Shard.JetStream(js)
	tasks, err := leader.Bucket(ctx, js, layout.BucketTasks)
	if err != nil {
		return nil, fmt.Errorf("edge: bucket %s: %w", layout.BucketTasks, err)
	}
	intake, err := send.New(send.Options{
		Roster: opts.Roster, Inbox: opts.Inbox, Publisher: opts.Publisher, Core: opts.Core, JetStream: js, Tasks: send.Tasks{KV: tasks},
		Proof: opts.Proof, Forgetful: opts.Inbox.Forgetful, Shares: opts.Shares, MaxDelay: opts.MaxDelay,
		Tracer: opts.Tracer, Protocol: "websocket", Logger: opts.Logger,
	})
	if err != nil {
		return nil, err
	}
	t := &Tenant{
		TenantOptions: opts, intake: intake, flush: flusher{nc: opts.Core},
		base: opts.Core.NewInbox() + ".", asked: make(chan *nats.Msg, askedAtOnce), quit: make(chan struct{}),
		turns: pool.New(1, askedBacklog), room: pool.NewPlaces(askedBytes, askerBytes),
		conns: make(map[subjects.Key]*conn), users: users{idle: time.Now()}, asks: make(map[string]*ask),
	}
	id := opts.Roster.EdgeID()
	handlers := map[string]nats.MsgHandler{t.base + "*": t.onAnswer, layout.Release(id): t.onRelease, layout.Drain(id): t.onDrain}
	if opts.Hears || opts.Shard.Alone() {
		handlers[layout.AllSignals()] = t.onSignal
	}
	for subject, handle := range handlers {
		sub, err := opts.Core.Subscribe(subject, handle)
		if err != nil {
			t.unsubscribe()
			return nil, fmt.Errorf("edge: subscribe to %s: %w", subject, err)
		}
		t.subs = append(t.subs, sub)
	}
	t.wg.Go(t.serve)
	return t, nil
}

func (t *Tenant) unsubscribe() {
	ctx, cancel := context.WithTimeout(context.Background(), flushTimeout)
	defer cancel()
	stops.Drain(ctx, t.Core, t.subs...) // another edge may wait for a device that was here
}

// Close ends the listening. The edge must have stopped before, or the Tenant be retired:
// see [Tenant.Retire].
func (t *Tenant) Close() {
	t.unsubscribe()
	close(t.quit)
	t.wg.Wait()
	t.turns.Stop()
}

// serve passes requests to the devices they are for. Requesters take turns.
func (t *Tenant) serve() {
	for {
		select {
		case <-t.quit:
			return
		case m := <-t.asked:
			t.queueRequest(m)
		}
	}
}

// join makes c the device's connection here. c takes over the open requests of an
// earlier connection, those it was given and those it made: the device can answer
// the former on c, and gets the responses to the latter.
func (t *Tenant) join(c *conn) {
	t.mu.Lock()
	old := t.conns[c.key]
	if old != nil {
		c.calls.inherit(&old.calls) // before a request can find c
	}
	t.conns[c.key] = c
	t.mu.Unlock()
	if old == nil {
		t.Slots.taken.Add(1)
		return
	}
	t.asksMu.Lock()
	defer t.asksMu.Unlock()
	c.calls.asks, old.calls.asks = old.calls.asks, nil
	for _, a := range c.calls.asks {
		a.c = c
	}
}

// errNoSlot means that the tenant may have no more devices connected.
var errNoSlot = errors.New("as many devices are connected as the tenant may have")

// slotAfter is the wait that a device without a slot is asked for.
const slotAfter = 30 * time.Second

// Slots counts the devices of an account, in all of its shards, that are connected
// here or about to be.
type Slots struct {
	mu    sync.Mutex // of taking the last one
	taken atomic.Int64
}

// acquireSlot lets a device connect, unless limit devices of the tenant are
// connected here; 0 means no limit. The caller calls release when the device has
// joined, or has failed to.
func (t *Tenant) acquireSlot(k subjects.Key, limit int64) (release func(), err error) {
	if t.find(k) != nil { // it takes the place of its earlier connection
		return func() {}, nil
	}
	t.Slots.mu.Lock()
	defer t.Slots.mu.Unlock()
	if limit > 0 && t.Slots.taken.Load() >= limit {
		return nil, errNoSlot
	}
	t.Slots.taken.Add(1)
	return func() { t.Slots.taken.Add(-1) }, nil
}

// leave forgets c, unless another connection of the device has replaced it.
func (t *Tenant) leave(c *conn) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.conns[c.key] == c {
		delete(t.conns, c.key)
		t.Slots.taken.Add(-1)
	}
}

// of returns the Tenant of a device's shard, or nil if that is not served here.
func (t *Tenant) of(k subjects.Key) *Tenant {
	if t.Shard.Holds(k.User()) {
		return t
	}
	return t.Shards(k.User())
}

// find returns the device's connection here, or nil.
func (t *Tenant) find(k subjects.Key) *conn {
	t.mu.RLock()
	defer t.mu.RUnlock()
	return t.conns[k]
}

// flushTimeout bounds one round trip to the server.
const flushTimeout = 5 * time.Second

// flusher waits until the server knows the subscriptions made so far. Callers
// that come during a round trip share the next one, so that many devices together
// cost few round trips.
type flusher struct {
	nc *nats.Conn

	mu      sync.Mutex
	waiting []chan error
	running bool
}

// wait returns when the server knows every subscription made before the call.
func (f *flusher) wait() error {
	done := make(chan error, 1)
	f.mu.Lock()
	f.waiting = append(f.waiting, done)
	if !f.running {
		f.running = true
		go f.run() // ends when nobody waits, each round within its bound
	}
	f.mu.Unlock()
	return <-done
}

func (f *flusher) run() {
	for {
		f.mu.Lock()
		waiting := f.waiting
		f.waiting = nil
		if len(waiting) == 0 {
			f.running = false
			f.mu.Unlock()
			return
		}
		f.mu.Unlock()
		err := f.nc.FlushTimeout(flushTimeout)
		for _, done := range waiting {
			done <- err
		}
	}
}
