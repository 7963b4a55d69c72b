package node

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"os"
	"sync/atomic"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/rccs-io/rccs/auth"
	"github.com/rccs-io/rccs/edge"
	"github.com/rccs-io/rccs/internal/enroll"
	"github.com/rccs-io/rccs/internal/inbox"
	"github.com/rccs-io/rccs/internal/reader"
	"github.com/rccs-io/rccs/internal/roster"
	"github.com/rccs-io/rccs/internal/tlsfiles"
	"github.com/rccs-io/rccs/internal/topic"
	"github.com/rccs-io/rccs/subjects"
)

// silence of the inbox stream after which the edge is not ready.
const silence = 5 * time.Second

// dialer makes a NATS connection in the tenant's account.
type dialer func(name string, opts ...nats.Option) (*nats.Conn, error)

// connect dials with what every part's connection has: it reconnects for ever
// and at once, and its reply subjects lie where no service may listen.
func connect(server string, opts ...nats.Option) (*nats.Conn, error) {
	nc, err := nats.Connect(server, append([]nats.Option{
		nats.MaxReconnects(-1), nats.ReconnectWait(100 * time.Millisecond), nats.ReconnectJitter(100*time.Millisecond, time.Second),
		nats.CustomInboxPrefix(subjects.PartReplyPrefix), nats.Timeout(5 * time.Second),
		nats.PingInterval(10 * time.Second), nats.MaxPingsOutstanding(2), // a half-open link is noticed within 30 s
	}, opts...)...)
	if err != nil {
		return nil, fmt.Errorf("node: connect to NATS: %w", err)
	}
	return nc, nil
}

// edgeName is what an edge is called that was given no name: where devices find
// it.
func edgeName(listen string) string {
	host, err := os.Hostname()
	if err != nil {
		host = "unknown"
	}
	return host + "/" + listen
}

type edgeOptions struct {
	listen      string
	dial        dialer
	account     string // public key
	accountJWTs []string
	edge        roster.EdgeInfo
	inboxLimit  int
	transport   Transport
	limits      Limits
	logger      *slog.Logger
	registry    prometheus.Registerer
}

// edgePart is an edge with its connections, hub and listener.
type edgePart struct {
	opts    edgeOptions
	conns   []*nats.Conn
	core    *nats.Conn
	fetch   *nats.Conn
	pub     *inbox.Publisher
	hub     *inbox.Hub
	roster  *roster.Roster
	topics  *topic.Hub
	tenant  *edge.Tenant
	account *reader.Reader
	server  *edge.Server
	serving atomic.Pointer[edge.Server] // server, for who may ask early
	tls     *tlsfiles.Store             // nil without TLS
	http    *http.Server
	addr    net.Addr
	served  chan error
}

// startEdge returns when devices can connect. On an error nothing is left
// running.
func startEdge(ctx context.Context, opts edgeOptions) (_ *edgePart, err error) {
	p := &edgePart{opts: opts, served: make(chan error, 1)}
	defer func() {
		if err != nil {
			_ = p.stop(context.WithoutCancel(ctx))
		}
	}()
	if err := p.openInbox(ctx); err != nil {
		return nil, err
	}
	verifier, err := auth.NewVerifier(opts.accountJWTs...)
	if err != nil {
		return nil, err
	}
	p.server, err = edge.New(edge.Options{
		Verifier: verifier,
		Tenant:   func(account string) (*edge.Tenant, bool) { return p.tenant, account == opts.account },
		Logger:   opts.logger,
		Metrics:  opts.registry,
		Origins:  opts.transport.Origins,
		Limits:   opts.limits.Limits,

		MaxMessageBytes:  opts.limits.MessageBytes,
		MaxRegisterBytes: opts.limits.RegisterBytes,
		RegisterWithin:   opts.limits.RegisterWithin,
		MaxTopics:        opts.limits.Topics,
	})
	if err != nil {
		return nil, err
	}
	p.account, err = followAccount(p.core, verifier, opts.logger, func(string) { p.server.Recheck() })
	if err != nil {
		return nil, err
	}
	if err := p.account.Start(ctx); err != nil {
		return nil, err
	}
	return p, p.listen(ctx)
}

// openInbox connects, and starts what reads and writes streams.
func (p *edgePart) openInbox(ctx context.Context) error {
	var err error
	p.pub, err = inbox.NewPublisher(func(opts ...nats.Option) (*nats.Conn, error) { return p.opts.dial("publish", opts...) }, p.opts.logger)
	if err != nil {
		return err
	}
	var conns [4]*nats.Conn
	for i, name := range []string{"read", "fetch", "roster", "core"} {
		nc, err := p.opts.dial(name)
		if err != nil {
			return err
		}
		conns[i] = nc
		p.conns = append(p.conns, nc)
	}
	p.fetch, p.core = conns[1], conns[3]
	restarts := prometheus.NewCounter(prometheus.CounterOpts{
		Name: "rccs_hub_restarts_total", Help: "Times that the reading of the inbox stream was repaired.",
	})
	if p.opts.registry != nil {
		p.opts.registry.MustRegister(restarts)
	}
	hub, err := inbox.New(inbox.Options{
		Read: conns[0], Fetch: conns[1], Publish: p.pub, Logger: p.opts.logger,
		Restarted: func(string) { restarts.Inc() }, MaxUnacked: p.opts.inboxLimit,
	})
	if err != nil {
		return err
	}
	if err := hub.Start(ctx); err != nil {
		return err
	}
	p.hub = hub
	return p.openTenant(ctx, conns[2])
}

// openTenant starts what knows the devices, and what passes on what is not
// stored.
func (p *edgePart) openTenant(ctx context.Context, read *nats.Conn) error {
	devices, err := roster.New(roster.Options{
		Read: read, Logger: p.opts.logger, Put: p.put, Edge: &p.opts.edge,
		Changed: func(c roster.Change) { p.tenant.Presence(c) },
		Lost:    func(k subjects.Key, epoch uint64) { p.tenant.Lost(k, epoch) },
	})
	if err != nil {
		return err
	}
	topics, err := topic.New(topic.Options{Read: read, Fetch: p.fetch, Logger: p.opts.logger})
	if err != nil {
		return err
	}
	if err := topics.Start(ctx); err != nil {
		return err
	}
	p.topics = topics
	p.tenant, err = edge.NewTenant(ctx, edge.TenantOptions{
		Inbox: p.hub, Publisher: p.pub, Roster: devices, Topics: topics, Core: p.core, Logger: p.opts.logger,
		Drain: p.drain,
	})
	if err != nil {
		return err
	}
	if err := devices.Start(ctx); err != nil {
		return err
	}
	p.roster = devices
	return nil
}

// drain is what operators ask for. It may come before the edge serves.
func (p *edgePart) drain(ask edge.DrainAsk) int {
	server := p.serving.Load()
	if server == nil {
		return 0
	}
	switch ask.Do {
	case edge.DrainStart:
		return server.Drain(ask.Rate)
	case edge.DrainUndo:
		server.Resume()
	}
	return server.Connections()
}

// put stores a roster's entry.
func (p *edgePart) put(msg *nats.Msg, done func(uint64, error)) { putEntry(p.pub, msg, done) }

func putEntry(pub *inbox.Publisher, msg *nats.Msg, done func(uint64, error)) {
	pub.Publish(msg, func(r inbox.Receipt, err error) {
		if inbox.Lost(err) {
			err = roster.ErrConflict
		}
		done(r.Seq, err)
	})
}

// What a request over HTTP may cost before it is a device.
const (
	requestWithin = 10 * time.Second
	maxHeader     = 16 << 10
)

func (p *edgePart) listen(ctx context.Context) error {
	if err := p.opts.limits.check(p.core.MaxPayload()); err != nil {
		return err
	}
	store, err := openTLS(p.opts.transport.edge(), p.opts.registry, p.opts.logger)
	if err != nil {
		return err
	}
	var lc net.ListenConfig
	l, err := lc.Listen(ctx, "tcp", p.opts.listen)
	if err != nil {
		return fmt.Errorf("node: listen for devices: %w (choose another address with --listen)", err)
	}
	p.addr = l.Addr()
	l = edge.Listener(l)
	if store != nil {
		p.tls = store
		p.tls.Start()
		l = tls.NewListener(l, p.tls.Config())
	}
	p.http = &http.Server{
		Handler:           guarded(p.routes(), edgePolicy),
		ReadHeaderTimeout: requestWithin,
		// Of what is no WebSocket: those have time limits of their own.
		ReadTimeout:    requestWithin,
		WriteTimeout:   requestWithin,
		IdleTimeout:    requestWithin,
		MaxHeaderBytes: maxHeader,
		ConnState:      p.server.Watch,
		ErrorLog:       slog.NewLogLogger(p.opts.logger.Handler(), slog.LevelDebug),
	}
	p.server.Start()
	p.serving.Store(p.server)
	go func() {
		err := p.http.Serve(l)
		if errors.Is(err, http.ErrServerClosed) {
			err = nil
		}
		p.served <- err
	}()
	return nil
}

// routes are the edge's paths for devices.
func (p *edgePart) routes() http.Handler {
	mux := http.NewServeMux()
	gateway := enroll.NewGateway(p.core, p.server, p.opts.logger)
	mux.Handle(enroll.PathEnroll, gateway)
	mux.Handle(enroll.PathRenew, gateway)
	mux.Handle("/", p.server)
	return mux
}

// stop ends the edge: devices are told to go, acknowledgements are stored,
// connections are drained.
func (p *edgePart) stop(ctx context.Context) error {
	var errs []error
	if p.http != nil {
		// Hijacked connections are the edge's own; Close only stops accepting.
		errs = append(errs, p.http.Close(), <-p.served)
	}
	if p.server != nil {
		errs = append(errs, p.server.Stop(ctx))
	}
	if p.tls != nil {
		errs = append(errs, p.tls.Stop(ctx))
	}
	if p.account != nil {
		errs = append(errs, p.account.Stop(ctx))
	}
	if p.roster != nil {
		errs = append(errs, p.roster.Stop(ctx))
	}
	if p.tenant != nil {
		p.tenant.Close()
	}
	if p.topics != nil {
		errs = append(errs, p.topics.Stop(ctx))
	}
	if p.hub != nil {
		errs = append(errs, p.hub.Stop(ctx))
	}
	if p.pub != nil {
		p.pub.Stop()
	}
	for _, nc := range p.conns {
		nc.Close()
	}
	return errors.Join(errs...)
}

// healthy returns why the edge cannot serve.
func (p *edgePart) healthy() error {
	if p.server.Draining() {
		return errors.New("the edge is draining: 'rccs edges drain --undo' ends that")
	}
	if !p.pub.Connected() {
		return errors.New("the edge is not connected to NATS for publishing")
	}
	for _, nc := range p.conns {
		if !nc.IsConnected() {
			return errors.New("the edge is not connected to NATS")
		}
	}
	if err := p.topics.Healthy(silence); err != nil {
		return err
	}
	if err := p.roster.Healthy(silence); err != nil {
		return err
	}
	return p.hub.Healthy(silence)
}
