package node

import (
	"cmp"
	"context"
	"errors"
	"slices"
	"sync"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/rccs-io/rccs/coordinator"
	"github.com/rccs-io/rccs/internal/share"
	"github.com/rccs-io/rccs/internal/stops"
	"github.com/rccs-io/rccs/internal/survey"
)

// Coordinator is a process that does what needs one owner, with its NATS
// servers elsewhere. Any number may run.
type Coordinator struct{ remote }

// NewCoordinator checks the options.
func NewCoordinator(opts RemoteOptions) (*Coordinator, error) {
	if err := opts.validate(); err != nil {
		return nil, err
	}
	return &Coordinator{remote{opts: opts}}, nil
}

// Start returns when requests are answered. On an error everything that was
// started has been stopped.
func (c *Coordinator) Start(ctx context.Context) error {
	return c.start(ctx, "rccs-coordinator", func(registry *prometheus.Registry) (part, error) {
		looks, err := newSurvey(registry, c.opts.Logger)
		if err != nil {
			return nil, err
		}
		looks.Start()
		return &coordinatorParts{c: c, looks: looks, metrics: coordinator.NewMetrics(registry), shares: share.NewMetrics(registry)}, nil
	})
}

// Run serves until ctx ends. started is called when requests are answered.
func (c *Coordinator) Run(ctx context.Context, started func()) error {
	return c.run(ctx, c.Start, started)
}

// coordinatorPart is a tenant's.
type coordinatorPart struct {
	tenant string
	first  bool
	coordinators
	streams *streamWatch
	stops   stops.Stack
}

// coordinatorParts are those of all tenants.
type coordinatorParts struct {
	c       *Coordinator
	looks   *survey.Survey
	metrics *coordinator.Metrics
	shares  *share.Metrics

	mu  sync.Mutex
	all []*coordinatorPart
}

func (ps *coordinatorParts) open(context.Context) error { return nil }

func (ps *coordinatorParts) serve(ctx context.Context, l Login) (err error) {
	o := &ps.c.opts
	p := &coordinatorPart{tenant: l.Tenant, first: l.name() == o.Logins[0].name()}
	defer func() {
		if err != nil {
			err = errors.Join(err, p.stops.Stop(context.WithoutCancel(ctx)))
		}
	}()
	options := coordinator.Options{
		Dial: coordinator.Dial(o.dialer(l, "coordinator")), Name: o.Name, Version: o.Version,
		Logger: o.Logger, Metrics: ps.metrics, InboxLimit: o.InboxLimit, MaxDeliveries: o.Limits.Deliveries, Rates: o.Limits.rates(), MaxDelay: o.Limits.Delay,
		Shares: o.Limits.Shares, ShareMetrics: ps.shares, Tracer: tracerOf(ps.c.tracer),
	}
	if p.first {
		options.Unserved = ps.c.missing.count
	}
	shards := l.Credential.Shards()
	if p.coordinators, err = startCoordinators(ctx, options, shards); err != nil {
		return err
	}
	p.stops.Add(p.Stop)
	if p.streams, err = addSurvey(ps.looks, l.Tenant, shards, o.dialer(l, "survey"), &p.stops); err != nil {
		return err
	}
	ps.mu.Lock()
	defer ps.mu.Unlock()
	ps.all = append(ps.all, p)
	return nil
}

func (ps *coordinatorParts) served() []*coordinatorPart {
	ps.mu.Lock()
	defer ps.mu.Unlock()
	return slices.Clone(ps.all)
}

func (ps *coordinatorParts) healthy() (h health) {
	for _, p := range ps.served() {
		h.add(p.tenant, p.first, cmp.Or(p.streams.healthy(everyStream), p.Healthy()))
	}
	return h
}

func (ps *coordinatorParts) stop(ctx context.Context) error {
	var each []func(context.Context) error
	for _, p := range ps.served() {
		each = append(each, p.stops.Stop)
	}
	err := stops.Together(ctx, each...)
	ps.looks.Stop()
	return err
}
