package node

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"

	"github.com/rccs-io/rccs/auth"
	"github.com/rccs-io/rccs/internal/roster"
)

// EdgeOptions configure an [Edge]. Zero values mean the documented default.
type EdgeOptions struct {
	// Server is the NATS servers' URLs, separated by commas. Needed.
	Server string
	// Credential is that of a part of RCCS. Needed.
	Credential auth.Credential
	// Name tells this edge from others, and stays over restarts. Default: the
	// host's name and Listen.
	Name string
	// Listen is where devices connect, HOST:PORT. Needed; port 0 is any.
	Listen string
	// AdminListen is where health and metrics are served; empty: nowhere.
	AdminListen string
	// InboxLimit is how many unacknowledged messages an inbox may hold.
	// Default 10,000.
	InboxLimit int
	// Logger; nil discards.
	Logger *slog.Logger
	// StopWithin bounds a stop. Default 8 s.
	StopWithin time.Duration
}

func (o *EdgeOptions) validate() error {
	if o.Server == "" || o.Credential.JWT == "" || o.Listen == "" {
		return errors.New("node: Server, Credential and Listen of an edge are needed")
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	if o.StopWithin <= 0 {
		o.StopWithin = 8 * time.Second
	}
	if o.Name == "" {
		o.Name = edgeName(o.Listen)
	}
	return nil
}

// Edge is a process that serves devices, with its NATS servers elsewhere. The
// streams must be there: 'rccs serve' makes them.
type Edge struct {
	opts  EdgeOptions
	part  *edgePart
	admin *adminPart
}

// NewEdge checks the options.
func NewEdge(opts EdgeOptions) (*Edge, error) {
	if err := opts.validate(); err != nil {
		return nil, err
	}
	return &Edge{opts: opts}, nil
}

// Start returns when devices can connect. On an error everything that was
// started has been stopped.
func (e *Edge) Start(ctx context.Context) (err error) {
	defer func() {
		if err != nil {
			_ = e.Stop(context.WithoutCancel(ctx))
		}
	}()
	registry := prometheus.NewRegistry()
	registry.MustRegister(collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	if e.opts.AdminListen != "" {
		if e.admin, err = startAdmin(e.opts.AdminListen, registry, e.ready); err != nil {
			return err
		}
	}
	account, err := e.opts.Credential.Account()
	if err != nil {
		return err
	}
	e.part, err = startEdge(ctx, edgeOptions{
		listen: e.opts.Listen, account: account, logger: e.opts.Logger, registry: registry, inboxLimit: e.opts.InboxLimit,
		edge: roster.EdgeInfo{Name: e.opts.Name},
		dial: func(name string, opts ...nats.Option) (*nats.Conn, error) {
			return connect(e.opts.Server, append([]nats.Option{e.opts.Credential.Option(), nats.Name("rccs edge " + name)}, opts...)...)
		},
	})
	if err != nil {
		return err
	}
	e.admin.serving()
	return nil
}

func (e *Edge) ready() error {
	if e.part == nil {
		return errors.New("the edge is starting")
	}
	return e.part.healthy()
}

// Stop sends the devices away and ends everything. It is idempotent.
func (e *Edge) Stop(ctx context.Context) error {
	e.admin.stopping()
	ctx, cancel := context.WithTimeout(ctx, e.opts.StopWithin)
	defer cancel()
	var errs []error
	if e.part != nil {
		errs = append(errs, e.part.stop(ctx))
		e.part = nil
	}
	if e.admin != nil {
		errs = append(errs, e.admin.stop(ctx))
		e.admin = nil
	}
	return errors.Join(errs...)
}

// Run serves until ctx ends. started is called when devices can connect.
func (e *Edge) Run(ctx context.Context, started func()) error {
	if err := e.Start(ctx); err != nil {
		return err
	}
	started()
	<-ctx.Done()
	e.opts.Logger.Info("stopping")
	return e.Stop(context.WithoutCancel(ctx))
}

// Addr is where devices connect; valid while started.
func (e *Edge) Addr() net.Addr { return e.part.addr }

// AdminAddr is where health and metrics are served, or nil.
func (e *Edge) AdminAddr() net.Addr {
	if e.admin == nil {
		return nil
	}
	return e.admin.addr
}
