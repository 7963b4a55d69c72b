package coordinator

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync/atomic"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/nats-io/nuid"

	"github.com/rccs-io/rccs/internal/direct"
	"github.com/rccs-io/rccs/internal/guard"
	"github.com/rccs-io/rccs/internal/inbox"
	"github.com/rccs-io/rccs/internal/layout"
	"github.com/rccs-io/rccs/internal/leader"
	"github.com/rccs-io/rccs/internal/ops"
	"github.com/rccs-io/rccs/internal/proof"
	"github.com/rccs-io/rccs/internal/roster"
	"github.com/rccs-io/rccs/internal/send"
	"github.com/rccs-io/rccs/internal/share"
	"github.com/rccs-io/rccs/internal/stops"
)

// Coordinator is one of any number that may serve a tenant.
//
// Its connections may publish to any subject, and NATS does not check whether a
// requester may publish to the reply subject that it names. So a Coordinator
// answers only where the requester could have been sent an answer anyway: a
// device below its own prefix, anybody else on the reply subjects that NATS
// clients make, which no device hears. Otherwise its answer could become a
// message in somebody's inbox, or a command to JetStream.
type Coordinator struct {
	opts    Options
	id      string
	log     *slog.Logger
	metrics *Metrics
	started time.Time

	conns       []*nats.Conn
	core        *nats.Conn // requests, and what is not stored
	js          jetstream.JetStream
	pub         *inbox.Publisher
	tell        *inbox.Teller
	direct      *direct.Client
	roster      *roster.Roster
	collapses   collapses
	cursors     *inbox.Cursors
	ops         *ops.Tenant
	tasks       send.Tasks
	fetches     waitingFetches
	delivered   deliveries
	shares      *share.Shares
	intake      *send.Intake
	read        *nats.Conn           // of streams
	duty        atomic.Pointer[duty] // nil while another coordinator works the shard
	members     *members             // nil with Quiet
	beatEvery   time.Duration
	service     *service
	idle        context.Context // for requests that wait for a message: ends before the work does
	cancelWaits context.CancelFunc
	stops       stops.Stack
}

// New checks the options; nothing runs until Start.
func New(opts Options) (*Coordinator, error) {
	if err := opts.validate(); err != nil {
		return nil, err
	}
	c := &Coordinator{opts: opts, id: nuid.Next(), log: opts.Logger, metrics: opts.Metrics, beatEvery: beatEvery}
	if c.opts.Name == "" {
		c.opts.Name = c.id
	}
	return c, nil
}

// Start returns when requests are answered and everything stored is being routed.
// The tenant's streams must exist. If it returns an error, nothing is left
// running.
func (c *Coordinator) Start(ctx context.Context) (err error) {
	defer func() {
		if err != nil {
			err = errors.Join(err, c.Stop(context.WithoutCancel(ctx)))
		}
	}()
	c.started = time.Now()
	c.idle, c.cancelWaits = context.WithCancel(context.Background())
	fetch, err := c.connect()
	if err != nil {
		return err
	}
	js, err := jetstream.New(c.core)
	if err != nil {
		return fmt.Errorf("coordinator: %w", err)
	}
	c.js = c.opts.Shard.JetStream(js)
	if err := c.startStores(ctx, fetch); err != nil {
		return err
	}
	if err := c.startRoster(ctx); err != nil {
		return err
	}
	c.shares, err = share.New(share.Options{Conn: fetch, Shard: c.opts.Shard, Bounds: c.opts.Shares, Proof: c.pub.Proof, Metrics: c.opts.ShareMetrics, ClearEvery: share.ClearEvery, Logger: c.log})
	if err != nil {
		return err
	}
	c.stops.Add(func(context.Context) error { c.shares.Stop(); return nil })
	if c.intake, err = c.newIntake(); err != nil {
		return err
	}
	if c.opts.Quiet {
		c.stops.AddFunc(c.cancelWaits) // otherwise when no more requests are taken
		return nil
	}
	c.members = newMembers(c)
	c.stops.AddFunc(c.members.stop)
	if err := c.members.start(ctx); err != nil {
		return err
	}
	return c.startAnswering()
}

// startAnswering answers requests.
func (c *Coordinator) startAnswering() (err error) {
	c.service, err = startService(c)
	if err != nil {
		return err
	}
	c.stops.Add(func(ctx context.Context) error { c.service.stop(ctx); return nil })
	watch, err := guard.Start(c.core, guard.Options{
		Shares: allShares(c.all()), Waiting: c.waitsOn, Purge: c.purgeLater, Shards: c.opts.Shard.Count(), MaxDelay: c.opts.MaxDelay, Logger: c.log,
		Undeliverable: func(reason string) { c.metrics.undeliverable.WithLabelValues(reason).Inc() },
	})
	if err != nil {
		return fmt.Errorf("coordinator: %w", err)
	}
	c.stops.Add(func(ctx context.Context) error { watch.Stop(ctx); return nil })
	return nil
}

// connect makes the connections, one for each kind of traffic.
func (c *Coordinator) connect() (fetch *nats.Conn, err error) {
	c.stops.AddFunc(func() {
		for _, nc := range c.conns {
			nc.Close()
		}
	})
	var conns [3]*nats.Conn
	for i, name := range []string{"core", "read", "fetch"} {
		nc, err := c.opts.Dial(name)
		if err != nil {
			return nil, err
		}
		conns[i] = nc
		c.conns = append(c.conns, nc)
	}
	c.core, c.read = conns[0], conns[1]
	return conns[2], nil
}

// startStores starts the readers and writers of streams.
func (c *Coordinator) startStores(ctx context.Context, fetch *nats.Conn) error {
	dial := func(name string) inbox.Dial {
		return func(opts ...nats.Option) (*nats.Conn, error) { return c.opts.Dial(name, opts...) }
	}
	pub, err := inbox.NewPublisher(dial("publish"), c.log)
	if err != nil {
		return err
	}
	pub.Shard = c.opts.Shard
	c.pub = pub
	c.tell = inbox.NewTeller(pub, c.log, func(reason string) { c.metrics.undeliverable.WithLabelValues(reason).Inc() })
	c.stops.AddFunc(pub.Stop)
	if pub.Proof, err = proof.Load(ctx, c.js); err != nil {
		return err
	}
	c.direct = direct.New(fetch).In(c.opts.Shard)
	if err := c.direct.Start(); err != nil {
		return err
	}
	c.stops.AddFunc(c.direct.Stop)
	if c.cursors, err = inbox.NewCursors(c.direct, c.pub); err != nil {
		return err
	}
	if c.ops, err = ops.Open(ops.Options{Dial: dial("operations"), Shard: c.opts.Shard, Shards: 1, Logger: c.log}); err != nil {
		return err
	}
	c.stops.AddFunc(c.ops.Close)
	c.tasks.KV, err = leader.Bucket(ctx, c.js, layout.BucketTasks)
	if err != nil {
		return fmt.Errorf("coordinator: bucket %s: %w", layout.BucketTasks, err)
	}
	return nil
}

// startRoster starts the roster.
func (c *Coordinator) startRoster(ctx context.Context) (err error) {
	c.roster, err = roster.New(roster.Options{
		Read: c.read, Shard: c.opts.Shard, Put: c.put, Logger: c.log, Changed: c.changed, Died: c.died,
	})
	if err != nil {
		return err
	}
	if err := c.roster.Start(ctx); err != nil {
		return err
	}
	c.stops.Add(c.roster.Stop)
	c.stops.Add(c.dropShard)
	return nil
}

// Stop finishes the work under way, until ctx ends, and then ends everything. It
// is idempotent.
func (c *Coordinator) Stop(ctx context.Context) error { return c.stops.Stop(ctx) }

// Roster returns what the coordinator knows of the tenant's devices. It is valid
// after Start.
func (c *Coordinator) Roster() *roster.Roster { return c.roster }

// silence is for how long nothing may be heard of the devices' buckets.
const silence = 5 * time.Second

// Healthy returns why the coordinator cannot do its work now, or nil.
func (c *Coordinator) Healthy() error {
	if !c.pub.Connected() {
		return errors.New("the coordinator is not connected to NATS for publishing")
	}
	for _, nc := range c.conns {
		if !nc.IsConnected() {
			return errors.New("the coordinator is not connected to NATS")
		}
	}
	if d := c.duty.Load(); d != nil {
		if err := errors.Join(d.router.reader.Err(), d.deadlines.reader.Err()); err != nil {
			return fmt.Errorf("the coordinator must be restarted: %w", err)
		}
	}
	return c.roster.Healthy(silence)
}

// healthy is Healthy of all shards in this process.
func (c *Coordinator) healthy() error {
	for _, one := range c.all() {
		if err := one.Healthy(); err != nil {
			return err
		}
	}
	return nil
}
