package node

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"net"
	"net/http"
	"os"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/rccs-io/rccs/auth"
	"github.com/rccs-io/rccs/coordinator"
	"github.com/rccs-io/rccs/edge"
	"github.com/rccs-io/rccs/internal/enroll"
	"github.com/rccs-io/rccs/internal/layout"
	"github.com/rccs-io/rccs/internal/roster"
	"github.com/rccs-io/rccs/internal/share"
	"github.com/rccs-io/rccs/internal/stops"
	"github.com/rccs-io/rccs/internal/tlsfiles"
	"github.com/rccs-io/rccs/internal/tracing"
)

// silence of the inbox stream after which the edge is not ready.
const silence = 5 * time.Second

// dialer makes a NATS connection in the tenant's account.
type dialer func(name string, opts ...nats.Option) (*nats.Conn, error)

// jetStream dials, for as long as the connection that it returns is open.
func (d dialer) jetStream(name string, opts ...jetstream.JetStreamOpt) (jetstream.JetStream, *nats.Conn, error) {
	nc, err := d(name)
	if err != nil {
		return nil, nil, err
	}
	js, err := jetstream.New(nc, opts...)
	if err != nil {
		nc.Close()
		return nil, nil, fmt.Errorf("node: %w", err)
	}
	return js, nc, nil
}

// connect dials with what every part's connection has: it reconnects for ever
// and at once, and its reply subjects lie where no service may listen. A second
// refusal does not end it, as nats.go would by itself: a credential issued in the
// second in which all are revoked is refused, and one of the next second is not.
//
// What nats.go reports beside an answer, such as a right that is missing, goes to
// the log: by itself it would print it.
func connect(log *slog.Logger, server string, opts ...nats.Option) (*nats.Conn, error) {
	opts = append([]nats.Option{
		nats.ErrorHandler(func(nc *nats.Conn, sub *nats.Subscription, err error) { logReported(log, nc, sub, err) }),
		nats.MaxReconnects(-1), nats.ReconnectWait(100 * time.Millisecond), nats.ReconnectJitter(100*time.Millisecond, time.Second),
		nats.IgnoreAuthErrorAbort(),
		nats.CustomInboxPrefix(layout.PartReplyPrefix),
		nats.PingInterval(10 * time.Second), nats.MaxPingsOutstanding(2), // a half-open link is noticed within 30 s
	}, opts...)
	nc, err := Connect(server, opts...)
	if err != nil {
		return nil, fmt.Errorf("node: connect to NATS: %w", err)
	}
	return nc, nil
}

// Connect is [nats.Connect] with more time for the handshake, and dials again where it
// took too long.
func Connect(server string, opts ...nats.Option) (*nats.Conn, error) {
	opts = append([]nats.Option{nats.Timeout(5 * time.Second)}, opts...)
	for try := 1; ; try++ {
		nc, err := nats.Connect(server, opts...)
		if err == nil || try == connectTries || !tooSlow(err) {
			return nc, err
		}
	}
}

// connectTries bounds how often Connect dials while the handshake takes seconds, as
// on a starved machine.
const connectTries = 5

// tooSlow reports whether the server did not answer in time, or gave up waiting for the
// handshake, which this side may see as a connection that is broken, or asked whether
// this side is alive before it had answered the same question. nats.go takes that for a
// fault.
func tooSlow(err error) bool {
	if op, ok := errors.AsType[*net.OpError](err); ok && op.Op == "read" && op.Timeout() {
		return true
	}
	return strings.HasSuffix(err.Error(), "expected 'PONG', got 'PING'") || strings.Contains(strings.ToLower(err.Error()), "authentication timeout") ||
		errors.Is(err, syscall.EPIPE) || errors.Is(err, syscall.ECONNRESET)
}

// logReported logs an error that came on a connection and answers nothing.
func logReported(log *slog.Logger, nc *nats.Conn, sub *nats.Subscription, err error) {
	attrs := []any{"err", err}
	if nc != nil {
		attrs = append(attrs, "connection", nc.Opts.Name)
	}
	if sub != nil {
		attrs = append(attrs, "subject", sub.Subject)
	}
	log.Warn("NATS reports an error", attrs...)
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
	listen     string
	edge       roster.EdgeInfo
	inboxLimit int
	transport  Transport
	limits     Limits
	shares     *share.Metrics
	missing    *unserved       // tenants
	tracer     *tracing.Tracer // nil: no messages are recorded
	logger     *slog.Logger
	registry   prometheus.Registerer
}

// edgePart is an edge with its listener, and what it runs for each tenant.
type edgePart struct {
	opts     edgeOptions
	verifier *auth.Verifier
	restarts prometheus.Counter
	// undeliverable is the coordinator's as well: one metric of the process.
	undeliverable *prometheus.CounterVec
	rejected      *prometheus.CounterVec // likewise
	server        *edge.Server
	serving       atomic.Pointer[edge.Server] // server, for callers that may ask early
	tls           *tlsfiles.Store             // nil without TLS
	http          *http.Server
	addr          net.Addr
	listening     atomic.Pointer[string] // addr as a text, for leases
	served        chan error

	mu      sync.RWMutex
	tenants map[string]*edgeTenant // by the public key of the account
}

// newEdge makes an edge that serves no tenant yet, and does not listen.
func newEdge(opts edgeOptions) (*edgePart, error) {
	p := &edgePart{
		opts: opts, served: make(chan error, 1), tenants: make(map[string]*edgeTenant),
		restarts: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "rccs_hub_restarts_total", Help: "Times that the reading of the inbox stream was repaired.",
		}),
	}
	if opts.registry != nil {
		opts.registry.MustRegister(p.restarts)
	}
	if opts.registry != nil {
		opts.registry.MustRegister(&edgeCollector{edge: p})
	}
	p.undeliverable = coordinator.UndeliverableTotal(opts.registry)
	p.rejected = coordinator.RejectedTotal(opts.registry)
	var err error
	if p.verifier, err = auth.NewVerifier(); err != nil {
		return nil, err
	}
	p.server, err = edge.New(edge.Options{
		Tracer:   tracerOf(opts.tracer),
		Verifier: p.verifier,
		Tenant:   p.of,

		Elsewhere: p.elsewhere,
		Logger:    opts.logger,
		Metrics:   opts.registry,
		Origins:   opts.transport.Origins,
		Ready:     func() error { return p.healthy().own },
		Limits:    opts.limits.Limits,

		MaxMessageBytes:  opts.limits.MessageBytes,
		MaxFrameBytes:    opts.limits.FrameBytes,
		MaxRegisterBytes: opts.limits.RegisterBytes,
		RegisterWithin:   opts.limits.RegisterWithin,
		MaxTopics:        opts.limits.Topics,
	})
	return p, err
}

// address is where the edge listens; until it does, where it is to.
func (p *edgePart) address() string {
	if at := p.listening.Load(); at != nil {
		return *at
	}
	return p.opts.listen
}

// drain is what operators ask for; was reports whether the edge drained before. It
// may come before the edge serves.
func (p *edgePart) drain(ask edge.DrainAsk) (connections int, was bool) {
	server := p.serving.Load()
	if server == nil {
		return 0, false
	}
	was = server.Draining()
	switch ask.Do {
	case edge.DrainStart:
		return server.Drain(ask.Rate), was
	case edge.DrainUndo:
		server.Resume()
	}
	return server.Connections(), was
}

// draining reports whether the edge takes no more devices.
func (p *edgePart) draining() bool {
	server := p.serving.Load()
	return server != nil && server.Draining()
}

// What a request over HTTP may cost before it is a device.
const (
	requestTimeout = 10 * time.Second
	maxHeader      = 16 << 10
)

func (p *edgePart) listen(ctx context.Context) error {
	for _, t := range p.all() {
		if err := p.opts.limits.check(t.core.MaxPayload()); err != nil {
			return err
		}
	}
	store, err := openTLS(p.opts.transport.edge(), p.opts.registry, p.opts.logger)
	if err != nil {
		return err
	}
	l, err := listenForDevices(ctx, p.opts.listen)
	if err != nil {
		return err
	}
	p.addr = l.Addr()
	at := p.addr.String()
	p.listening.Store(&at)
	if store != nil {
		p.tls = store
		p.tls.Start()
		l = tls.NewListener(l, p.tls.Config())
	}
	p.http = &http.Server{
		Handler:           guarded(p.routes(), edgePolicy),
		ReadHeaderTimeout: requestTimeout,
		// Of what is no WebSocket: those have time limits of their own.
		ReadTimeout:    requestTimeout,
		WriteTimeout:   requestTimeout,
		IdleTimeout:    requestTimeout,
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

// listenForDevices has no connection probed by the kernel, which by default it does
// every 15 s: that would wake a sleeping phone's radio each time, and keep a machine
// busy that has 100,000 connections. Pings of the protocol find a peer that is gone,
// as often as a device wants them.
func listenForDevices(ctx context.Context, address string) (net.Listener, error) {
	lc := net.ListenConfig{KeepAlive: -1}
	l, err := lc.Listen(ctx, "tcp", address)
	if err != nil {
		return nil, fmt.Errorf("node: listen for devices: %w (choose another address with --listen)", err)
	}
	return l, nil
}

// routes are the edge's paths for devices.
func (p *edgePart) routes() http.Handler {
	mux := http.NewServeMux()
	gateway := enroll.NewGateway(p.named, p.server, p.opts.logger)
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
	tenants := make([]func(context.Context) error, 0, 1)
	for _, t := range p.all() {
		tenants = append(tenants, t.stop)
	}
	return errors.Join(append(errs, stops.Together(ctx, tenants...))...)
}

// healthy returns why the edge cannot serve.
func (p *edgePart) healthy() (h health) {
	if p.server.Draining() {
		h.own = errors.New("the edge is draining: 'rccs edges drain --undo' ends that")
	}
	for _, t := range p.all() {
		h.add(t.name, t.drains, t.healthy())
	}
	return h
}

// others says which tenants beside the first are not served, and why.
func (p *edgePart) others() string {
	h := p.healthy()
	p.opts.missing.addTo(&h)
	return oneLine(h.others)
}

// all are the tenants that are served now.
func (p *edgePart) all() []*edgeTenant {
	p.mu.RLock()
	defer p.mu.RUnlock()
	return slices.Collect(maps.Values(p.tenants))
}

// named finds a connection in the account of the tenant that a request names.
func (p *edgePart) named(name string) (*nats.Conn, bool) {
	for _, t := range p.all() {
		if t.name == name {
			return t.core, true
		}
	}
	return nil, false
}
