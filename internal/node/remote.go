package node

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"slices"
	"sync"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/rccs-io/rccs/auth"
	"github.com/rccs-io/rccs/internal/stops"
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
