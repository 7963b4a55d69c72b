package node

import (
	"cmp"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"slices"
	"sync"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/rccs-io/rccs/auth"
	"github.com/rccs-io/rccs/coordinator"
	"github.com/rccs-io/rccs/internal/roster"
	"github.com/rccs-io/rccs/internal/share"
	"github.com/rccs-io/rccs/internal/stops"
	"github.com/rccs-io/rccs/internal/survey"
	"github.com/rccs-io/rccs/internal/tracing"
)

// RemoteOptions are what a process needs whose NATS servers run elsewhere.
type RemoteOptions struct {
	// Server is the NATS servers' URLs, separated by commas. Needed.
	Server string
	// Logins are how to connect for each tenant that is to be served. The first is
	// needed, and awaited; the others are served as soon as they can be.
	Logins []Login
	// Name tells this process from others of its kind, and stays over restarts.
	// Default: the host's name, and where devices connect.
	Name string
	// AdminListen is where health and metrics are served; empty: nowhere.
	AdminListen string
	// Version of the program, which NATS clients are shown.
	Version string
	// Transport says how operators, and devices, reach this process.
	Transport Transport
	// NATS says how the process reaches the NATS servers, such as by TLS.
	NATS []nats.Option
	// Reread asks for all files of certificates to be read again. May be nil.
	Reread <-chan struct{}
	// Tracing says where the way of single messages is recorded.
	Tracing tracing.Options
	// Logger; nil discards.
	Logger *slog.Logger
	// StartWait bounds how long a start waits for NATS servers and their streams;
	// 0: no bound.
	StartWait time.Duration
	// StopWithin bounds a stop. Default [DefaultStopWithin].
	StopWithin time.Duration
	// Limits bound what devices may cost. A coordinator holds those of what they
	// send.
	Limits Limits
	// InboxLimit is how many unacknowledged messages an inbox may hold.
	// Default 10,000.
	InboxLimit int
}

// Login is how a part connects in the account of a tenant.
type Login struct {
	// Tenant is the tenant's name, where it is known. Requests over HTTP that
	// name one go by it.
	Tenant string
	// Credential is that of a part of RCCS. Needed.
	Credential auth.Credential
	// Option, if set, is used to connect instead: it may find a newer credential
	// each time.
	Option nats.Option
}

// name is what the tenant is called; its account, where that is not known.
func (l *Login) name() string {
	if l.Tenant != "" {
		return l.Tenant
	}
	account, _ := l.Credential.Account()
	return account
}

func (o *RemoteOptions) validate() error {
	if o.Server == "" || len(o.Logins) == 0 {
		return errors.New("node: Server and a credential are needed")
	}
	for _, l := range o.Logins {
		if l.Credential.JWT == "" {
			return errors.New("node: a credential is needed for each tenant")
		}
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	if o.StopWithin <= 0 {
		o.StopWithin = DefaultStopWithin
	}
	return errors.Join(o.Tracing.Validate(), o.Transport.validate(o.AdminListen))
}

// dialer connects as the part that kind names, for one tenant.
func (o *RemoteOptions) dialer(l Login, kind string) dialer {
	login := l.Option
	if login == nil {
		login = l.Credential.Option()
	}
	return func(name string, opts ...nats.Option) (*nats.Conn, error) {
		own := []nats.Option{login, nats.Name("rccs " + kind + " " + name)}
		return connect(o.Logger, o.Server, slices.Concat(own, o.NATS, opts)...)
	}
}

// remote is what all such processes are: one part and an admin listener.
type remote struct {
	opts    RemoteOptions
	admin   *adminPart
	part    part // set before the admin listener says that it serves
	ready   readiness
	missing unserved
	tracer  *tracing.Tracer // nil: no messages are recorded
	stops   stops.Stack
}

// part is an edge or a coordinator.
type part interface {
	// serve returns when the tenant is served. On an error nothing of it is left
	// running. It may be called for several tenants at once.
	serve(ctx context.Context, l Login) error
	// open lets in whoever connects to the process.
	open(ctx context.Context) error
	healthy() health
	stop(ctx context.Context) error
}

// start returns when the part that begin makes does its work; kind is what it
// is, for traces. On an error everything that was started has been stopped.
func (r *remote) start(ctx context.Context, kind string, begin func(*prometheus.Registry) (part, error)) (err error) {
	defer func() {
		if err != nil {
			_ = r.Stop(context.WithoutCancel(ctx))
		}
	}()
	if r.tracer, err = startTracer(named(r.opts.Tracing, kind, r.opts.Name, r.opts.Version, r.opts.Logger), &r.stops); err != nil {
		return err
	}
	registry := prometheus.NewRegistry()
	r.ready = readiness{check: r.check, log: r.opts.Logger} // asked when the part has started only
	registerProcess(registry, r.opts.Version, func() bool { return r.admin.isUp() && r.ready.now() == nil })
	if r.opts.AdminListen != "" {
		if r.admin, err = startAdmin(adminOptions{
			listen: r.opts.AdminListen, transport: r.opts.Transport, registry: registry, ready: r.ready.now, others: r.ready.unserved, logger: r.opts.Logger,
		}); err != nil {
			return err
		}
		r.stops.Add(r.admin.stop)
	}
	w := &waiter{within: r.opts.StartWait, admin: r.admin, log: r.opts.Logger}
	first := r.opts.Logins[0]
	if err := awaitStreams(ctx, r.opts.dialer(first, "any"), first.Credential.Shards(), w); err != nil {
		return ofTenant(first.Tenant, err)
	}
	// A stream that answered may be without a leader again.
	err = w.until(ctx, waitsForServers, func(ctx context.Context) error {
		metrics := prometheus.NewRegistry() // of this try
		p, err := begin(metrics)
		if err != nil {
			return err
		}
		if err := p.serve(ctx, first); err != nil {
			return errors.Join(ofTenant(first.Tenant, err), p.stop(context.WithoutCancel(ctx)))
		}
		r.part = p
		r.stops.Add(p.stop)
		return registry.Register(metrics)
	})
	if err != nil {
		return err
	}
	r.serveOthers(ctx)
	if err := r.part.open(ctx); err != nil {
		return err
	}
	r.admin.serving()
	return nil
}

// serveOthers begins to serve the tenants beside the first.
func (r *remote) serveOthers(ctx context.Context) {
	others := &later{log: r.opts.Logger, missing: &r.missing, serve: func(ctx context.Context, l Login) error {
		if err := lookForStreams(ctx, r.opts.dialer(l, "any"), l.Credential.Shards()); err != nil {
			return err
		}
		return r.part.serve(ctx, l)
	}}
	others.start(r.opts.Logins[1:])
	r.stops.AddFunc(others.stop)
	others.firstTries(ctx)
}

// check is how the part is, and the tenants that it does not serve yet.
func (r *remote) check() health {
	h := r.part.healthy()
	r.missing.addTo(&h)
	return h
}

// Stop ends everything, what devices see first. It is idempotent.
func (r *remote) Stop(ctx context.Context) error {
	r.admin.stopping()
	ctx, cancel := context.WithTimeout(ctx, r.opts.StopWithin)
	defer cancel()
	return r.stops.Stop(ctx)
}

// run serves until ctx ends. started is called when it does.
func (r *remote) run(ctx context.Context, start func(context.Context) error, started func()) error {
	if err := start(ctx); err != nil {
		return err
	}
	started()
	var watches sync.WaitGroup
	watches.Go(func() { r.ready.watch(ctx) })
	watches.Go(func() { giveMemoryBack(ctx, r.opts.Logger) })
	reread(ctx, r.opts.Reread, r.Reload)
	watches.Wait()
	r.opts.Logger.Info("stopping")
	return r.Stop(context.WithoutCancel(ctx))
}

// AdminAddr is where health and metrics are served, or nil.
func (r *remote) AdminAddr() net.Addr {
	if r.admin == nil {
		return nil
	}
	return r.admin.addr
}

// EdgeOptions configure an [Edge]. Zero values mean the documented default.
type EdgeOptions struct {
	RemoteOptions
	// Listen is where devices connect, HOST:PORT. Needed; port 0 is any.
	Listen string
	// Shards are the shards that are served, such as "0-3" or "0,2"; empty: all.
	Shards string
	// Advertise is where devices of its shards are sent by other edges; empty:
	// they are not sent here.
	Advertise string
}

// Edge is a process that serves devices, with its NATS servers elsewhere. The
// streams must be there: 'rccs serve' makes them.
type Edge struct {
	remote
	opts EdgeOptions
	edge *edgePart
}

// NewEdge checks the options.
func NewEdge(opts EdgeOptions) (*Edge, error) {
	if err := opts.validate(); err != nil {
		return nil, err
	}
	if opts.Listen == "" {
		return nil, errors.New("node: Listen of an edge is needed")
	}
	if opts.Name == "" {
		opts.Name = edgeName(opts.Listen)
	}
	return &Edge{remote: remote{opts: opts.RemoteOptions}, opts: opts}, nil
}

// Start returns when devices can connect. On an error everything that was
// started has been stopped. Of an address that it cannot have it knows at once,
// before it waits for servers.
func (e *Edge) Start(ctx context.Context) error {
	l, err := listenForDevices(ctx, e.opts.Listen)
	if err != nil {
		return err
	}
	// Nobody is to connect yet: a load balancer would take it for up.
	if err := l.Close(); err != nil {
		return fmt.Errorf("node: %w", err)
	}
	return e.start(ctx, "rccs-edge", func(registry *prometheus.Registry) (part, error) {
		edge, err := newEdge(edgeOptions{
			listen: e.opts.Listen, logger: e.opts.Logger, registry: registry, inboxLimit: e.opts.InboxLimit,
			edge: roster.EdgeInfo{
				Name: e.opts.Name, Process: rand.Text(), URL: e.opts.Advertise, Version: e.opts.Version,
			},
			missing:   &e.missing,
			transport: e.opts.Transport, limits: e.opts.Limits, shares: share.NewMetrics(registry),
			tracer: e.tracer,
		})
		if err != nil {
			return nil, err
		}
		for _, l := range e.opts.Logins {
			account, err := l.Credential.Account()
			if err != nil {
				return nil, ofTenant(l.Tenant, err)
			}
			edge.verifier.Expect(account)
		}
		e.edge = edge
		return remoteEdge{edge, e}, nil
	})
}

// remoteEdge is the part of an [Edge].
type remoteEdge struct {
	*edgePart
	e *Edge
}

func (p remoteEdge) open(ctx context.Context) error { return p.listen(ctx) }

// serve has the first login's operators drain the edge: of several tenants, one is
// whose it is.
func (p remoteEdge) serve(ctx context.Context, l Login) error {
	account, err := l.Credential.Account()
	if err != nil {
		return err
	}
	first, err := p.e.opts.Logins[0].Credential.Account()
	if err != nil {
		return err
	}
	return p.edgePart.serve(ctx, edgeTenantOptions{
		name: l.Tenant, account: account, dial: p.e.opts.dialer(l, "edge"), drains: account == first,
		count: l.Credential.Shards(), serves: shardSet(p.e.opts.Shards),
	})
}

// Run serves until ctx ends. started is called when devices can connect.
func (e *Edge) Run(ctx context.Context, started func()) error { return e.run(ctx, e.Start, started) }

// Addr is where devices connect; valid while started.
func (e *Edge) Addr() net.Addr { return e.edge.addr }

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
