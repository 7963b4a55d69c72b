package node

import (
	"context"
	"errors"
	"fmt"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/rccs-io/rccs/auth"
	"github.com/rccs-io/rccs/edge"
	"github.com/rccs-io/rccs/internal/inbox"
	"github.com/rccs-io/rccs/internal/proof"
	"github.com/rccs-io/rccs/internal/roster"
	"github.com/rccs-io/rccs/internal/share"
	"github.com/rccs-io/rccs/internal/stops"
	"github.com/rccs-io/rccs/internal/topic"
	"github.com/rccs-io/rccs/subjects"
)

// edgeTenantOptions say which tenant's devices an edge is to serve.
type edgeTenantOptions struct {
	name    string
	account string // its public key
	jwt     string // as far as it is known; empty: what is stored counts
	dial    dialer
	drains  bool // its operators may drain the edge
}

// edgeTenant is what an edge runs for one tenant: connections, hub, roster.
type edgeTenant struct {
	edgeTenantOptions
	edge   *edgePart
	conns  []*nats.Conn
	core   *nats.Conn
	fetch  *nats.Conn
	pub    *inbox.Publisher
	hub    *inbox.Hub
	roster *roster.Roster
	topics *topic.Hub
	tenant *edge.Tenant
	stops  stops.Stack
}

// serve returns when the tenant's devices can connect. On an error nothing of it
// is left running.
func (p *edgePart) serve(ctx context.Context, opts edgeTenantOptions) (err error) {
	t := &edgeTenant{edgeTenantOptions: opts, edge: p}
	defer func() {
		if err != nil {
			err = errors.Join(err, t.stop(context.WithoutCancel(ctx)))
		}
	}()
	if err := t.openInbox(ctx); err != nil {
		return err
	}
	if opts.jwt != "" {
		if err := p.verifier.Update(opts.jwt); err != nil {
			return err
		}
	}
	changes, err := followAccount(t.core, p.verifier, p.opts.logger, func(string) { p.server.Recheck() })
	if err != nil {
		return err
	}
	t.stops.Add(changes.Stop)
	if err := changes.Start(ctx); err != nil {
		return err
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.tenants[opts.account] = t
	return nil
}

// drop ends what runs for a tenant whose credentials are not good any more, as
// the JWTs of removed accounts say.
func (p *edgePart) drop(ctx context.Context, account string, removed []string) error {
	if err := p.forget(removed); err != nil {
		return err
	}
	p.mu.Lock()
	t := p.tenants[account]
	delete(p.tenants, account)
	p.mu.Unlock()
	if t == nil {
		return nil
	}
	return errors.Join(p.server.Expel(ctx, t.tenant), t.stop(ctx))
}

// forget has the edge refuse what was issued in accounts that were removed.
func (p *edgePart) forget(removed []string) error {
	for _, token := range removed {
		if err := p.verifier.Update(token); err != nil && !errors.Is(err, auth.ErrStale) {
			return err
		}
	}
	return nil
}

// of finds the tenant of an account.
func (p *edgePart) of(account string) (*edge.Tenant, bool) {
	p.mu.RLock()
	defer p.mu.RUnlock()
	t := p.tenants[account]
	if t == nil {
		return nil, false
	}
	return t.tenant, true
}

// openInbox connects, and starts what reads and writes streams.
func (t *edgeTenant) openInbox(ctx context.Context) error {
	p := t.edge
	t.stops.AddFunc(func() {
		for _, nc := range t.conns {
			nc.Close()
		}
	})
	var err error
	t.pub, err = inbox.NewPublisher(func(opts ...nats.Option) (*nats.Conn, error) { return t.dial("publish", opts...) }, p.opts.logger)
	if err != nil {
		return err
	}
	t.stops.AddFunc(t.pub.Stop)
	var conns [4]*nats.Conn
	for i, name := range []string{"read", "fetch", "roster", "core"} {
		nc, err := t.dial(name)
		if err != nil {
			return err
		}
		conns[i] = nc
		t.conns = append(t.conns, nc)
	}
	t.fetch, t.core = conns[1], conns[3]
	js, err := jetstream.New(t.core)
	if err != nil {
		return fmt.Errorf("node: %w", err)
	}
	if t.pub.Proof, err = proof.Load(ctx, js); err != nil {
		return err
	}
	t.hub, err = inbox.New(inbox.Options{
		Read: conns[0], Fetch: conns[1], Publish: t.pub, Logger: p.opts.logger,
		Restarted: func(string) { p.restarts.Inc() }, MaxUnacked: p.opts.inboxLimit,
		Edge: p.opts.edge.Name, MaxDeliveries: p.opts.limits.Deliveries,
		Undeliverable: p.countUndeliverable,
		Rejected:      func(cause string) { p.rejected.WithLabelValues(cause).Inc() },
	})
	if err != nil {
		return err
	}
	if err := t.hub.Start(ctx); err != nil {
		return err
	}
	t.stops.Add(t.hub.Stop)
	return t.openTenant(ctx, conns[2])
}

// countUndeliverable counts a message of a service that reaches nobody.
func (p *edgePart) countUndeliverable(reason string) { p.undeliverable.WithLabelValues(reason).Inc() }

// openTenant starts what knows the devices, and what passes on what is not
// stored.
func (t *edgeTenant) openTenant(ctx context.Context, read *nats.Conn) error {
	p := t.edge
	self := p.opts.edge
	self.Unready, self.Address, self.Draining = t.unready, p.address, p.draining
	devices, err := roster.New(roster.Options{
		Read: read, Logger: p.opts.logger, Put: t.put, Edge: &self,
		Changed: func(c roster.Change) { t.tenant.Presence(c) },
		Lost:    func(k subjects.Key, epoch uint64) { t.tenant.Lost(k, epoch) },
	})
	if err != nil {
		return err
	}
	teller := inbox.NewTeller(t.pub, p.opts.logger, p.countUndeliverable)
	topics, err := topic.New(topic.Options{
		Read: read, Fetch: t.fetch, Logger: p.opts.logger, Examine: teller.Topic,
	})
	if err != nil {
		return err
	}
	if err := topics.Start(ctx); err != nil {
		return err
	}
	t.topics = topics
	t.stops.Add(topics.Stop)
	shares, err := share.New(share.Options{Conn: t.fetch, Bounds: p.opts.limits.Shares, Proof: t.pub.Proof, Metrics: p.opts.shares, Logger: p.opts.logger})
	if err != nil {
		return err
	}
	t.stops.Add(func(context.Context) error { shares.Stop(); return nil })
	opts := edge.TenantOptions{
		Inbox: t.hub, Publisher: t.pub, Roster: devices, Topics: topics, Core: t.core, Proof: t.pub.Proof, Shares: shares,
		MaxDelay: p.opts.limits.Delay, Examine: teller.Passing,
		Tracer: tracerOf(p.opts.tracer), Logger: p.opts.logger,
	}
	if t.drains {
		opts.Drain = p.drain
	}
	if t.tenant, err = edge.NewTenant(ctx, opts); err != nil {
		return err
	}
	t.stops.AddFunc(t.tenant.Close)
	t.roster = devices
	if err := devices.Start(ctx); err != nil {
		return err
	}
	t.stops.Add(devices.Stop)
	return nil
}

// put stores a roster's entry.
func (t *edgeTenant) put(msg *nats.Msg, done func(uint64, error)) { putEntry(t.pub, msg, done) }

func putEntry(pub *inbox.Publisher, msg *nats.Msg, done func(uint64, error)) {
	pub.Publish(msg, func(r inbox.Receipt, err error) {
		if inbox.Lost(err) {
			err = roster.ErrConflict
		}
		done(r.Seq, err)
	})
}

// stop ends it, acknowledgements stored. Its devices must have gone.
func (t *edgeTenant) stop(ctx context.Context) error { return t.stops.Stop(ctx) }

// healthy returns why the tenant's devices cannot be served.
func (t *edgeTenant) healthy() error {
	if !t.pub.Connected() {
		return errors.New("the edge is not connected to NATS for publishing")
	}
	for _, nc := range t.conns {
		if !nc.IsConnected() {
			return errors.New("the edge is not connected to NATS")
		}
	}
	if err := t.topics.Healthy(silence); err != nil {
		return err
	}
	if err := t.roster.Healthy(silence); err != nil {
		return err
	}
	return t.hub.Healthy(silence)
}

// unready is what the edge's lease says of it: why the tenant's devices cannot be
// served, empty when they can.
func (t *edgeTenant) unready() string {
	if err := t.healthy(); err != nil {
		return err.Error()
	}
	return ""
}

// ofTenant says which tenant an error is about, unless it is the default one.
func ofTenant(name string, err error) error {
	if err == nil || name == "" || name == auth.DefaultTenant {
		return err
	}
	return fmt.Errorf("tenant %s: %w", name, err)
}
