package node

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"net"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/rccs-io/rccs/internal/roster"
	"github.com/rccs-io/rccs/internal/share"
)

// EdgeOptions configure an [Edge]. Zero values mean the documented default.
type EdgeOptions struct {
	RemoteOptions
	// Listen is where devices connect, HOST:PORT. Needed; port 0 is any.
	Listen string
	// Shards are the shards of the first tenant that are served, such as "0-3" or
	// "0,2"; empty: all. Of another tenant those are that it has, or all if it has none.
	Shards string
	// Advertise is where devices of its shards are sent by other edges; empty:
	// they are not sent here.
	Advertise string
	// GiveBackAfter is for how long no device of a shard that the edge has taken up is
	// connected before the edge gives it back. Default 6 min.
	GiveBackAfter time.Duration
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
	if err := errors.Join(CheckShards(opts.Shards), CheckAdvertised(opts.Advertise)); err != nil {
		return nil, fmt.Errorf("node: %w", err)
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
		count: l.Credential.Shards(), serves: shardSet(p.e.opts.Shards), idle: p.e.opts.GiveBackAfter,
	})
}

// Run serves until ctx ends. started is called when devices can connect.
func (e *Edge) Run(ctx context.Context, started func()) error { return e.run(ctx, e.Start, started) }

// Addr is where devices connect; valid while started.
func (e *Edge) Addr() net.Addr { return e.edge.addr }
