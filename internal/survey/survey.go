package survey

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
	"github.com/prometheus/client_golang/prometheus"

	"github.com/rccs-io/rccs/internal/direct"
	"github.com/rccs-io/rccs/internal/layout"
	"github.com/rccs-io/rccs/internal/shard"
	"github.com/rccs-io/rccs/internal/wake"
)

// Options configure a [Survey].
type Options struct {
	// Streams are the names of a tenant's streams. Needed.
	Streams []string
	// Metrics is where the figures go; nil: nowhere.
	Metrics prometheus.Registerer
	// Every is the time between two rounds. Default 10 s.
	Every time.Duration
	// MaxTenants bounds the tenants that have a label of their own. Default 20.
	MaxTenants int
	// Logger; nil discards.
	Logger *slog.Logger
}

// Survey keeps figures of any number of tenants. Make one with [New].
type Survey struct {
	opts    Options
	metrics *metrics
	kick    wake.Signal // there is a new tenant
	quit    context.CancelFunc
	done    chan struct{}

	mu      sync.Mutex
	tenants []*tenant // in the order in which they came
}

// tenant is one that is looked at. Its fields but found belong to the goroutine
// of the Survey, which holds busy while it looks.
type tenant struct {
	name    string
	streams []string // their names
	nc      *nats.Conn
	js      jetstream.JetStream
	parts   []part // by shard

	busy  sync.Mutex
	gone  bool     // guarded by busy
	found *figures // guarded by Survey.mu; nil: nothing yet
}

// part is one shard of a tenant.
type part struct {
	shard   shard.Shard
	direct  *direct.Client
	backlog *backlog
}

// New checks the options; nothing runs until Start.
func New(opts Options) (*Survey, error) {
	if len(opts.Streams) == 0 {
		return nil, errors.New("survey: Streams are needed")
	}
	if opts.Every <= 0 {
		opts.Every = 10 * time.Second
	}
	if opts.MaxTenants <= 0 {
		opts.MaxTenants = 20
	}
	if opts.Logger == nil {
		opts.Logger = slog.New(slog.DiscardHandler)
	}
	return &Survey{opts: opts, metrics: newMetrics(opts.Metrics), kick: wake.New(), done: make(chan struct{})}, nil
}

// Start begins to look.
func (s *Survey) Start() {
	ctx, cancel := context.WithCancel(context.Background())
	s.quit = cancel
	go s.run(ctx)
}

// Stop ends it, and waits for a look that is under way. Tenants that were added
// are to be removed by whoever added them.
func (s *Survey) Stop() {
	s.quit()
	<-s.done
}

// Add has a tenant with one shard looked at; see [Survey.AddShards].
func (s *Survey) Add(name string, nc *nats.Conn) error {
	return s.AddShards(name, nc, s.opts.Streams, 1)
}

// AddShards has a tenant looked at that has so many shards, and these streams. The
// connection is in its account, and is closed with [Survey.Remove].
func (s *Survey) AddShards(name string, nc *nats.Conn, streams []string, shards int) error {
	js, err := jetstream.New(nc)
	if err != nil {
		return fmt.Errorf("survey: %w", err)
	}
	t := &tenant{name: name, streams: streams, nc: nc, js: js}
	for _, one := range shard.All(shards) {
		c := direct.New(nc).In(one)
		if err := c.Start(); err != nil {
			t.stop()
			return err
		}
		t.parts = append(t.parts, part{one, c, newBacklog(c)})
	}
	s.mu.Lock()
	s.tenants = append(s.tenants, t)
	s.labelLocked()
	s.mu.Unlock()
	s.kick.Set()
	return nil
}

// Remove ends the looking at a tenant, and its series.
func (s *Survey) Remove(name string) {
	s.mu.Lock()
	i := slices.IndexFunc(s.tenants, func(t *tenant) bool { return t.name == name })
	if i < 0 {
		s.mu.Unlock()
		return
	}
	t := s.tenants[i]
	s.tenants = slices.Delete(s.tenants, i, i+1)
	s.metrics.end(name)
	s.labelLocked()
	s.mu.Unlock()
	t.stop() // which ends a look that is under way
	t.busy.Lock()
	t.gone = true
	t.busy.Unlock()
	t.nc.Close()
}

// Unacknowledged is how many messages wait in a tenant's inboxes, as of the last
// round; 0 for one that is not looked at.
func (s *Survey) Unacknowledged(tenant string) uint64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, t := range s.tenants {
		if t.name == tenant && t.found != nil {
			return t.found.unacknowledged
		}
	}
	return 0
}

// labelLocked has the series of all labels in use be there.
func (s *Survey) labelLocked() {
	for _, t := range s.tenants[:min(len(s.tenants), s.opts.MaxTenants)] {
		s.metrics.begin(t.name, t.streams)
		if t.found != nil {
			s.metrics.set(t.name, t.found)
		}
	}
	unlisted := max(len(s.tenants)-s.opts.MaxTenants, 0)
	if unlisted > 0 {
		s.metrics.begin(Others, s.opts.Streams)
	} else {
		s.metrics.end(Others)
	}
	s.metrics.tenants.Set(float64(len(s.tenants)))
	s.metrics.tenantsUnlisted.Set(float64(unlisted))
}

// restShare is how many times as long as a round takes it rests at the least.
const restShare = 3

func (s *Survey) run(ctx context.Context) {
	defer close(s.done)
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-s.kick:
		case <-timer.C:
		}
		began := time.Now()
		s.round(ctx)
		timer.Reset(max(s.opts.Every, restShare*time.Since(began)))
	}
}

// round looks at every tenant once.
func (s *Survey) round(ctx context.Context) {
	s.mu.Lock()
	tenants := slices.Clone(s.tenants)
	s.mu.Unlock()
	for _, t := range tenants {
		if ctx.Err() != nil {
			return
		}
		f, err := t.look(ctx)
		s.keep(ctx, t, f, err)
	}
	s.keepOthers()
}

// keep takes what was found out, unless the tenant was removed meanwhile.
func (s *Survey) keep(ctx context.Context, t *tenant, f *figures, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	i := slices.Index(s.tenants, t)
	if i < 0 || ctx.Err() != nil {
		return
	}
	label := t.name
	if i >= s.opts.MaxTenants {
		label = Others
	}
	if err != nil {
		s.metrics.failures.WithLabelValues(label).Inc()
		s.opts.Logger.Debug("figures of a tenant not found out", "tenant", t.name, "err", err)
	}
	if f == nil {
		return
	}
	if t.found = f; label != Others {
		s.metrics.set(label, f)
	}
}

// keepOthers sums up the tenants that share a label.
func (s *Survey) keepOthers() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.tenants) <= s.opts.MaxTenants {
		return
	}
	var sum figures
	for _, t := range s.tenants[s.opts.MaxTenants:] {
		if t.found != nil {
			sum.add(t.found)
		}
	}
	if !sum.at.IsZero() {
		s.metrics.set(Others, &sum)
	}
}

// stop ends what is asked.
func (t *tenant) stop() {
	for _, p := range t.parts {
		p.direct.Stop()
	}
}

// lookTimeout bounds one look at a tenant, but the first, which reads all
// cursors.
const (
	lookTimeout  = 30 * time.Second
	firstTimeout = 10 * time.Minute
)

// look finds out what is so of one tenant. Of what is returned with an error
// the streams are right, and the rest is as it was.
func (t *tenant) look(ctx context.Context) (*figures, error) {
	t.busy.Lock()
	defer t.busy.Unlock()
	if t.gone {
		return nil, nil
	}
	within := lookTimeout
	if !t.parts[0].backlog.began {
		within = firstTimeout
	}
	ctx, cancel := context.WithTimeout(ctx, within)
	defer cancel()
	f := &figures{at: time.Now()}
	infos := t.ask(ctx)
	f.streams = measure(infos)
	var err error
	edges := make(map[string]bool)
	for _, p := range t.parts {
		err = errors.Join(err, p.backlog.look(ctx, infos[p.shard.Stream(layout.StreamInbox)]))
		p.backlog.sum(f)
		if infos[p.shard.Stream("KV_"+layout.BucketEdges)] != nil {
			err = errors.Join(err, p.edges(ctx, edges))
		}
	}
	f.edges = len(edges)
	f.took = time.Since(f.at)
	return f, err
}
