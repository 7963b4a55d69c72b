package node

import (
	"context"
	"errors"
	"fmt"
	"math"
	"time"

	"github.com/nats-io/jwt/v2"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/prometheus/client_golang/prometheus"
	dto "github.com/prometheus/client_model/go"

	"github.com/rccs-io/rccs/auth"
	"github.com/rccs-io/rccs/internal/api"
	"github.com/rccs-io/rccs/internal/enroll"
	"github.com/rccs-io/rccs/internal/envelope"
	"github.com/rccs-io/rccs/internal/inbox"
	"github.com/rccs-io/rccs/internal/layout"
	"github.com/rccs-io/rccs/internal/leader"
	"github.com/rccs-io/rccs/internal/ops"
	"github.com/rccs-io/rccs/internal/proof"
	"github.com/rccs-io/rccs/internal/roster"
	"github.com/rccs-io/rccs/internal/send"
	"github.com/rccs-io/rccs/internal/shard"
	"github.com/rccs-io/rccs/subjects"
	"github.com/rccs-io/rccs/wire"
)

// The HTTP API of a server: what of it is a tenant's comes and goes with the
// tenant.

// openAPI makes the API, which serves nobody before the node has started.
func (n *Node) openAPI() error {
	var token func(string) bool
	if path := n.opts.Transport.AdminTokenFile; path != "" {
		file, err := openToken(path, n.opts.Logger)
		if err != nil {
			return err
		}
		token = file.is
	}
	var err error
	n.services, err = auth.NewVerifier()
	if err != nil {
		return err
	}
	n.api, err = api.New(api.Options{
		Ready:  func() bool { return n.serving.Load() },
		Tenant: n.apiTenant, Exists: n.tenantExists, Installation: &installation{n},
		OperatorToken: token, ServiceToken: n.serviceToken, Loopback: loopback(n.opts.AdminListen),
		Stats: func() api.Counters { return counters(n.registry) }, Unacknowledged: n.survey.Unacknowledged, MaxMessageBytes: n.opts.Limits.MessageBytes,
		Tracer: tracerOf(n.tracer), Version: n.opts.Version, Logger: n.opts.Logger,
	})
	return err
}

// stopAPI ends streams of events, which would keep the node from stopping.
func (n *Node) stopAPI() {
	n.serving.Store(false)
	n.api.Stop()
}

func (n *Node) apiTenant(name string) (*api.Tenant, bool) {
	n.mu.Lock()
	defer n.mu.Unlock()
	t := n.tenants[name]
	if t == nil || t.api == nil {
		return nil, false
	}
	return t.api, true
}

func (n *Node) tenantExists(name string) bool {
	_, err := n.keys.Tenant(name)
	return err == nil
}

// serviceToken says whose token it is.
func (n *Node) serviceToken(token string) (api.Service, error) {
	s, err := n.services.VerifyService(token, time.Now())
	if err != nil {
		return api.Service{}, err
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	for name, t := range n.tenants {
		if t.services == s.Account {
			return api.Service{Tenant: name, Name: s.Name, MayIssue: s.MayIssue, IssuedTo: layout.IssuedTo(s.UserKey, s.Issued)}, nil
		}
	}
	return api.Service{}, errors.New("node: the tenant of the service's token is not served")
}

// trust takes the account of a tenant's services for one whose tokens count, or
// what has become of it.
func (n *Node) trust(account auth.Account) error {
	if n.services == nil || account.Services == "" { // nobody asks
		return nil
	}
	if err := n.services.Update(account.Services); err != nil && !errors.Is(err, auth.ErrStale) {
		return err
	}
	return nil
}

// startAPI makes what the API needs of a tenant.
func (n *Node) startAPI(ctx context.Context, t *tenantPart) error {
	if n.api == nil {
		return nil
	}
	dial, err := n.dialer(t.keys, "api")
	if err != nil {
		return err
	}
	claims, err := jwt.DecodeAccountClaims(t.keys.Account().Services)
	if err != nil {
		return fmt.Errorf("node: the account of services: %w", err)
	}
	named := func(name string) inbox.Dial {
		return func(opts ...nats.Option) (*nats.Conn, error) { return dial(name, opts...) }
	}
	tenant, err := ops.Open(ops.Options{Dial: named("operations"), URL: n.NATSURL(), Shards: t.keys.Shards(), System: n.systemDialer(), Logger: n.opts.Logger})
	if err != nil {
		return err
	}
	t.stops.AddFunc(tenant.Close)
	core, err := dial("core")
	if err != nil {
		return err
	}
	t.stops.AddFunc(core.Close)
	pub, err := inbox.NewPublisher(named("publish"), n.opts.Logger)
	if err != nil {
		return err
	}
	t.stops.AddFunc(pub.Stop)
	if err := n.trust(t.keys.Account()); err != nil {
		return err
	}
	known, intake, err := n.intakesOf(ctx, t, core, pub, named("publish"))
	if err != nil {
		return err
	}
	t.services = claims.Subject
	t.api = &api.Tenant{
		Name: t.keys.Account().Name, Ops: tenant, Roster: known[0], Others: known[1:], Core: core, Proof: pub.Proof,
		Codes:   func(ctx context.Context, want enroll.Code) (*enroll.Code, error) { return t.enroller.Make(ctx, want) },
		Issue:   func(a subjects.Address, opts auth.DeviceOptions) (string, error) { return issue(t.keys, a, opts) },
		Intake:  intake,
		Publish: func(ctx context.Context, p *api.Publication) (uint64, bool, error) { return publishTopic(ctx, pub, p) },
	}
	return nil
}

// intakes take messages, by the shard of the user.
type intakes []*send.Intake

// Start implements [api.Intake].
func (all intakes) Start(ctx context.Context, from send.From, e *wire.Envelope, w send.Waiter) {
	all[shard.Of(from.Key.User(), len(all))].Start(ctx, from, e, w)
}

// intakesOf is how a tenant's messages over HTTP come in, and who knows its
// devices, by shard. first publishes what is in the first shard, or in none, and
// gets the tenant's key.
func (n *Node) intakesOf(ctx context.Context, t *tenantPart, core *nats.Conn, first *inbox.Publisher, dial inbox.Dial) (known []*roster.Roster, all intakes, err error) {
	js, err := jetstream.New(core)
	if err != nil {
		return nil, nil, fmt.Errorf("node: %w", err)
	}
	for _, s := range shard.All(t.keys.Shards()) {
		pub := first
		if s.N() > 0 {
			if pub, err = inbox.NewPublisher(dial, n.opts.Logger); err != nil {
				return nil, nil, err
			}
			t.stops.AddFunc(pub.Stop)
		}
		pub.Shard = s
		r, in, err := n.intakeOf(ctx, t, s, core, s.JetStream(js), pub)
		if err != nil {
			return nil, nil, err
		}
		known, all = append(known, r), append(all, in)
	}
	return known, all, nil
}

// intakeOf returns those of one shard: the edge of this process, which knows at
// once who has registered there and counts its inboxes, else the coordinator. pub
// gets the tenant's key.
func (n *Node) intakeOf(
	ctx context.Context, t *tenantPart, s shard.Shard, core *nats.Conn, js jetstream.JetStream, pub *inbox.Publisher,
) (_ *roster.Roster, _ *send.Intake, err error) {
	if pub.Proof, err = proof.Load(ctx, js); err != nil {
		return nil, nil, err
	}
	e := n.edgeOf(t, s)
	if e == nil {
		r, in := t.coord.of(s)
		return r, in, nil
	}
	tasks, err := leader.Bucket(ctx, js, layout.BucketTasks)
	if err != nil {
		return nil, nil, fmt.Errorf("node: bucket %s: %w", layout.BucketTasks, err)
	}
	intake, err := send.New(send.Options{
		Roster: e.roster, Inbox: e.hub, Publisher: pub, Core: core, JetStream: js, Tasks: send.Tasks{KV: tasks}, Proof: pub.Proof,
		Forgetful: e.hub.Forgetful, MaxDelay: n.opts.Limits.Delay, Tracer: tracerOf(n.tracer), Logger: n.opts.Logger,
	})
	return e.roster, intake, err
}

// edgeOf is what the edge of this process runs for a shard; nil without one.
func (n *Node) edgeOf(t *tenantPart, s shard.Shard) *edgeShard {
	if n.edge == nil {
		return nil
	}
	n.edge.mu.RLock()
	tenant := n.edge.tenants[t.keys.Account().PublicKey]
	n.edge.mu.RUnlock()
	if tenant == nil {
		return nil
	}
	tenant.mu.RLock()
	defer tenant.mu.RUnlock()
	return tenant.shards[s.N()]
}

// systemDialer connects in the system account.
func (n *Node) systemDialer() inbox.Dial {
	return func(opts ...nats.Option) (*nats.Conn, error) {
		cred, err := n.keys.IssueSystem("api")
		if err != nil {
			return nil, err
		}
		return connect(n.opts.Logger, "", append([]nats.Option{n.server.InProcess(), cred.Option(), nats.Name("rccs api system")}, opts...)...)
	}
}

// issue makes a device's token, and writes down for whom.
func issue(keys *auth.Keystore, a subjects.Address, opts auth.DeviceOptions) (string, error) {
	cred, err := keys.IssueDevice(a, opts)
	if err != nil {
		return "", err
	}
	issued := keys.RecordIssued()
	issued.Add(a, opts)
	return cred.JWT, issued.Flush()
}

// counters are what the metrics have counted.
func counters(reg *prometheus.Registry) (c api.Counters) {
	families, err := reg.Gather()
	if err != nil {
		return c
	}
	for _, f := range families {
		if len(f.GetMetric()) == 0 {
			continue
		}
		m := f.GetMetric()[0]
		switch f.GetName() {
		case "rccs_connections":
			c.Connections = int(m.GetGauge().GetValue())
		case "rccs_messages_received_total":
			c.Received = m.GetCounter().GetValue()
		case "rccs_messages_sent_total":
			c.Delivered = m.GetCounter().GetValue()
		case "rccs_messages_acked_total":
			c.Acked = m.GetCounter().GetValue()
		case "rccs_stored_to_written_seconds":
			c.StoredToWritten = histogram(m.GetHistogram())
		case "rccs_stored_to_acked_seconds":
			c.StoredToAcked = histogram(m.GetHistogram())
		}
	}
	return c
}

func histogram(h *dto.Histogram) (out api.Histogram) {
	for _, b := range h.GetBucket() {
		out.Bounds = append(out.Bounds, b.GetUpperBound())
		out.Counts = append(out.Counts, b.GetCumulativeCount())
	}
	out.Bounds = append(out.Bounds, math.Inf(1))
	out.Counts = append(out.Counts, h.GetSampleCount())
	return out
}

// publishTopic stores a message of a topic.
func publishTopic(ctx context.Context, pub *inbox.Publisher, p *api.Publication) (uint64, bool, error) {
	name := "service:" + p.Service
	from := envelope.Sender{Key: subjects.Key(subjects.Escape(name)), Device: subjects.DeviceID(name), Proof: pub.Proof}
	e := wire.NewEnvelope(p.ID, wire.TypePublish, nil)
	e.Traceparent = p.Traceparent
	type result struct {
		receipt inbox.Receipt
		err     error
	}
	done := make(chan result, 1)
	pub.Publish(envelope.Topic(&e, from, p.Subject, p.Data, time.Now()), func(r inbox.Receipt, err error) { done <- result{r, err} })
	select {
	case r := <-done:
		return r.receipt.Seq, r.receipt.Duplicate, r.err
	case <-ctx.Done():
		return 0, false, ctx.Err()
	}
}
