package node

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/rccs-io/rccs/auth"
	"github.com/rccs-io/rccs/edge"
	"github.com/rccs-io/rccs/internal/inbox"
	"github.com/rccs-io/rccs/internal/proof"
	"github.com/rccs-io/rccs/internal/roster"
	"github.com/rccs-io/rccs/internal/shard"
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
	count   int  // of its shards
	serves  shardSet
	idle    time.Duration // after which a shard that was taken up is given back; 0: giveBackAfter
}

// edgeTenant is what an edge runs for one tenant. Each shard that it serves has
// connections, a hub and a roster of its own; topics are the tenant's.
type edgeTenant struct {
	edgeTenantOptions
	edge   *edgePart
	core   *nats.Conn
	first  *edgeShard // the one that was served first; static once the tenant is served
	topics *topic.Hub // on its connections
	watch  *streamWatch
	slots  *edge.Slots // of all shards
	told   *redirects
	stops  stops.Stack

	taking  sync.WaitGroup  // further shards are taken up, and given back
	inTurn  sync.Mutex      // held while one of them is
	ctx     context.Context //nolint:containedctx // of taking them up
	cancel  context.CancelFunc
	mu      sync.RWMutex
	shards  []*edgeShard    // by number; nil: not served here
	begun   map[int]*taking // those that are taken up now
	stopped bool            // no more are
}

// taking is a shard that is being taken up.
type taking struct {
	done chan struct{}
	err  error // why it is not served; static once done
}

// edgeShard is what an edge runs for one shard.
type edgeShard struct {
	t      *edgeTenant
	shard  shard.Shard
	taken  bool // up: it is not one of the edge's own
	conns  []*nats.Conn
	fetch  *nats.Conn
	pub    *inbox.Publisher
	hub    *inbox.Hub
	roster *roster.Roster
	tenant *edge.Tenant
	stops  stops.Stack
}

// serve returns when the tenant's devices can connect. On an error nothing of it
// is left running.
func (p *edgePart) serve(ctx context.Context, opts edgeTenantOptions) (err error) {
	t := &edgeTenant{edgeTenantOptions: opts, edge: p, begun: make(map[int]*taking)}
	t.ctx, t.cancel = context.WithCancel(context.WithoutCancel(ctx))
	defer func() {
		if err != nil {
			err = errors.Join(err, t.stop(context.WithoutCancel(ctx)))
		}
	}()
	if err := t.open(ctx); err != nil {
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
	var errs []error
	for _, one := range t.served() {
		errs = append(errs, p.server.Expel(ctx, one.tenant))
	}
	return errors.Join(append(errs, t.stop(ctx))...)
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
	return t.first.tenant, true
}

// open connects, and serves the shards that are to be served.
func (t *edgeTenant) open(ctx context.Context) (err error) {
	if t.core, err = t.dial("core"); err != nil {
		return err
	}
	t.stops.AddFunc(t.core.Close)
	if t.watch, err = watchStreams(t.core, t.count, t.owns); err != nil {
		return err
	}
	t.stops.AddFunc(t.watch.stop)
	t.slots, t.shards = new(edge.Slots), make([]*edgeShard, t.count)
	named := t.serves.within
	if t.drains { // it is the process's own tenant, and the numbers are those of its shards
		named = t.serves.in
	}
	serve, err := named(t.count)
	if err != nil {
		return err
	}
	t.stops.Add(t.stopShards)
	for _, n := range serve {
		if err := t.serveShard(ctx, &edgeShard{t: t, shard: shard.At(n, t.count)}); err != nil {
			return err
		}
	}
	if t.count > 1 {
		if t.told, err = followRedirects(t.core); err != nil {
			return err
		}
		t.stops.AddFunc(t.told.stop)
		t.taking.Go(t.giveBackIdle)
	}
	return nil
}

// serveShard serves a shard from now on.
func (t *edgeTenant) serveShard(ctx context.Context, s *edgeShard) (err error) {
	defer func() {
		if err != nil {
			err = errors.Join(err, s.stops.Stop(context.WithoutCancel(ctx)))
		}
	}()
	if err := s.openInbox(ctx); err != nil {
		return err
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.first == nil {
		t.first = s
	}
	t.shards[s.shard.N()] = s
	return nil
}

// stopShards stops the shards that are served, the first one last: the others use its
// topics.
func (t *edgeTenant) stopShards(ctx context.Context) error {
	var errs []error
	for _, s := range t.served() {
		if s != t.first {
			errs = append(errs, s.stops.Stop(ctx))
		}
	}
	if t.first != nil {
		errs = append(errs, t.first.stops.Stop(ctx))
	}
	return errors.Join(errs...)
}

// served are the shards that are served now.
func (t *edgeTenant) served() []*edgeShard {
	t.mu.RLock()
	defer t.mu.RUnlock()
	var all []*edgeShard
	for _, s := range t.shards {
		if s != nil {
			all = append(all, s)
		}
	}
	return all
}

// of returns the shard of a user's token, if it is served here.
func (t *edgeTenant) of(user string) *edgeShard {
	t.mu.RLock()
	defer t.mu.RUnlock()
	return t.shards[shard.Of(user, t.count)]
}

// openInbox connects, and starts what reads and writes streams.
func (s *edgeShard) openInbox(ctx context.Context) error {
	t, p := s.t, s.t.edge
	s.stops.AddFunc(func() {
		for _, nc := range s.conns {
			nc.Close()
		}
	})
	var err error
	s.pub, err = inbox.NewPublisher(func(opts ...nats.Option) (*nats.Conn, error) { return t.dial("publish", opts...) }, p.opts.logger)
	if err != nil {
		return err
	}
	s.pub.Shard = s.shard
	s.stops.AddFunc(s.pub.Stop)
	var conns [3]*nats.Conn
	for i, name := range []string{"read", "fetch", "roster"} {
		nc, err := t.dial(name)
		if err != nil {
			return err
		}
		conns[i] = nc
		s.conns = append(s.conns, nc)
	}
	s.fetch = conns[1]
	js, err := jetstream.New(t.core)
	if err != nil {
		return fmt.Errorf("node: %w", err)
	}
	if s.pub.Proof, err = proof.Load(ctx, s.shard.JetStream(js)); err != nil {
		return err
	}
	s.hub, err = inbox.New(inbox.Options{
		Read: conns[0], Fetch: conns[1], Publish: s.pub, Shard: s.shard, Logger: p.opts.logger,
		Restarted: func(string) { p.restarts.Inc() }, MaxUnacked: p.opts.inboxLimit,
		Edge: p.opts.edge.Name, MaxDeliveries: p.opts.limits.Deliveries,
		Undeliverable: p.countUndeliverable,
		Rejected:      func(cause string) { p.rejected.WithLabelValues(cause).Inc() },
	})
	if err != nil {
		return err
	}
	if err := s.hub.Start(ctx); err != nil {
		return err
	}
	s.stops.Add(s.hub.Stop)
	return s.openTenant(ctx, conns[2])
}

// countUndeliverable counts a message of a service that reaches nobody.
func (p *edgePart) countUndeliverable(reason string) { p.undeliverable.WithLabelValues(reason).Inc() }

// openTenant starts what knows the devices, and what passes on what is not
// stored.
func (s *edgeShard) openTenant(ctx context.Context, read *nats.Conn) error {
	t, p := s.t, s.t.edge
	self := p.opts.edge
	self.Unready, self.Address, self.Draining, self.TakenUp = s.unready, p.address, p.draining, s.taken
	if t.drains {
		self.Others = p.others
	}
	devices, err := roster.New(roster.Options{
		Read: read, Shard: s.shard, Logger: p.opts.logger, Put: s.put, Edge: &self,
		Changed: func(c roster.Change) { s.tenant.Presence(c) },
		Lost:    func(k subjects.Key, epoch uint64) { s.tenant.Lost(k, epoch) },
	})
	if err != nil {
		return err
	}
	teller := inbox.NewTeller(s.pub, p.opts.logger, p.countUndeliverable)
	if err := s.openTopics(ctx, read, teller); err != nil {
		return err
	}
	shares, err := share.New(share.Options{
		Conn: s.fetch, Shard: s.shard, Bounds: p.opts.limits.Shares, Proof: s.pub.Proof, Metrics: p.opts.shares, Logger: p.opts.logger,
	})
	if err != nil {
		return err
	}
	s.stops.Add(func(context.Context) error { shares.Stop(); return nil })
	opts := edge.TenantOptions{
		Inbox: s.hub, Publisher: s.pub, Roster: devices, Topics: t.topics, Core: t.core, Proof: s.pub.Proof, Shares: shares,
		Shard: s.shard, Shards: t.tenantOf, Slots: t.slots, Hears: t.first == nil,
		MaxDelay: p.opts.limits.Delay, Examine: teller.Passing,
		Tracer: tracerOf(p.opts.tracer), Logger: p.opts.logger,
	}
	if t.drains {
		opts.Drain = p.drain
	}
	if s.tenant, err = edge.NewTenant(ctx, opts); err != nil {
		return err
	}
	s.stops.AddFunc(s.tenant.Close)
	s.roster = devices
	if err := devices.Start(ctx); err != nil {
		return err
	}
	s.stops.Add(devices.Stop)
	return nil
}

// openTopics follows the tenant's topics, with the first shard that is served.
func (s *edgeShard) openTopics(ctx context.Context, read *nats.Conn, teller *inbox.Teller) error {
	t := s.t
	if t.topics != nil {
		return nil
	}
	topics, err := topic.New(topic.Options{
		Read: read, Fetch: s.fetch, Shard: shard.At(0, t.count), Logger: t.edge.opts.logger, Examine: teller.Topic,
	})
	if err != nil {
		return err
	}
	if err := topics.Start(ctx); err != nil {
		return err
	}
	t.topics = topics
	s.stops.Add(topics.Stop)
	return nil
}

// tenantOf finds what serves a user's shard; nil if that is not served here.
func (t *edgeTenant) tenantOf(user string) *edge.Tenant {
	if s := t.of(user); s != nil {
		return s.tenant
	}
	return nil
}

// put stores a roster's entry.
func (s *edgeShard) put(msg *nats.Msg, done func(uint64, error)) {
	s.pub.Publish(msg, func(r inbox.Receipt, err error) { done(r.Seq, err) })
}

// stop ends it, acknowledgements stored. Its devices must have gone.
func (t *edgeTenant) stop(ctx context.Context) error {
	t.mu.Lock()
	t.stopped = true
	t.mu.Unlock()
	t.cancel()
	t.taking.Wait()
	return t.stops.Stop(ctx)
}

// healthy returns why the tenant's devices cannot be served.
func (t *edgeTenant) healthy() error {
	for _, s := range t.served() {
		if err := s.healthy(); err != nil {
			return err
		}
	}
	return nil
}

// healthy returns why the shard's devices cannot be served.
func (s *edgeShard) healthy() error {
	if !s.pub.Connected() {
		return errors.New("the edge is not connected to NATS for publishing")
	}
	for _, nc := range slices.Concat(s.conns, []*nats.Conn{s.t.core}) {
		if !nc.IsConnected() {
			return errors.New("the edge is not connected to NATS")
		}
	}
	if err := s.t.watch.healthy(s.owns); err != nil {
		return err
	}
	if err := s.t.topics.Healthy(silence); err != nil {
		return err
	}
	if err := s.roster.Healthy(silence); err != nil {
		return err
	}
	return s.hub.Healthy(silence)
}

// owns reports whether a stream is one of the shard, or of the whole tenant.
func (s *edgeShard) owns(stream string) bool {
	_, own := s.shard.PlainStream(stream)
	return own
}

// owns reports whether a stream is one of a shard that is served, or of the whole
// tenant.
func (t *edgeTenant) owns(stream string) bool {
	return slices.ContainsFunc(t.served(), func(s *edgeShard) bool { return s.owns(stream) })
}

// unready is what the edge's lease says of it: why the shard's devices cannot be
// served, empty when they can.
func (s *edgeShard) unready() string {
	if err := s.healthy(); err != nil {
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
