package node

import (
	"cmp"
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/rccs-io/rccs/auth"
	"github.com/rccs-io/rccs/coordinator"
	"github.com/rccs-io/rccs/internal/api"
	"github.com/rccs-io/rccs/internal/backbone"
	"github.com/rccs-io/rccs/internal/enroll"
	"github.com/rccs-io/rccs/internal/roster"
	"github.com/rccs-io/rccs/internal/share"
	"github.com/rccs-io/rccs/internal/stops"
	"github.com/rccs-io/rccs/internal/survey"
	"github.com/rccs-io/rccs/internal/tracing"
	"github.com/rccs-io/rccs/internal/wake"
)

// Options configure a [Node]. Zero values mean the documented default.
type Options struct {
	// Data is the directory of keys and streams. Needed.
	Data string
	// KeysFrom is a directory of an installation's keys, which are copied where
	// Data has none; empty: new ones are made there.
	KeysFrom string
	// Listen is where devices connect, HOST:PORT; port 0 is any; empty:
	// nowhere, there is no edge in this process.
	Listen string
	// Shards is how many shards the default tenant has, if it is made now. 0 is 1,
	// or as it was made.
	Shards int
	// NATSListen is where NATS clients connect; empty: nowhere.
	NATSListen string
	// AdminListen is where health and metrics are served; empty: nowhere.
	AdminListen string
	// APIListen is where the rows of the HTTP API for services are served, to
	// who has a token; empty: nowhere but on AdminListen.
	APIListen string
	// Config is the text of nats.conf; ConfigPath names a file instead.
	Config     []byte
	ConfigPath string
	// Transport says how devices and operators reach this process.
	Transport Transport
	// Reread asks for the nats.conf and all files of certificates to be read
	// again. May be nil.
	Reread <-chan struct{}
	// StoreKey and OldStoreKey are as in [backbone.Options].
	StoreKey, OldStoreKey string
	// Version of the program, which NATS clients are shown.
	Version string
	// Limits bound what devices may cost.
	Limits Limits
	// InboxLimit is how many unacknowledged messages an inbox may hold.
	// Default 10,000.
	InboxLimit int
	// Tracing says where the way of single messages is recorded.
	Tracing tracing.Options
	// Enrolment says how devices are enrolled.
	Enrolment Enrolment
	// Logger; nil discards.
	Logger *slog.Logger
	// StartWait bounds how long a start waits for room on the disk, and for the
	// other servers of a cluster; 0: no bound.
	StartWait time.Duration
	// Restoring has a server of a cluster make no streams, and wait for those
	// that a restore brings.
	Restoring bool
	// StopWithin bounds a stop. Default [DefaultStopWithin].
	StopWithin time.Duration
}

// DefaultStopWithin is how long a stop may take: less than the 10 s after which
// `docker stop` kills.
const DefaultStopWithin = 8 * time.Second

// Enrolment says how devices that make their own key get a credential.
type Enrolment struct {
	// Life of a credential. Default 24 h.
	Life time.Duration
	// RenewFor is how long after a credential was made the next one can be
	// had with the same key. Default 30 days.
	RenewFor time.Duration
	// Tokens checks the identity tokens of a third party; nil: none is taken.
	Tokens enroll.TokenVerifier
}

func (o *Options) validate() error {
	if o.Data == "" {
		return errors.New("node: Data is needed")
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	if o.StopWithin <= 0 {
		o.StopWithin = DefaultStopWithin
	}
	return errors.Join(o.Tracing.Validate(), o.Transport.validate(o.AdminListen))
}

// Node is one process that serves everything: NATS, an edge, the admin
// listener.
type Node struct {
	opts     Options
	keys     *auth.Keystore
	registry *prometheus.Registry
	server   *backbone.Server
	coord    *coordinator.Metrics
	shares   *share.Metrics
	survey   *survey.Survey
	edge     *edgePart // nil without Listen
	admin    *adminPart
	apiDoor  *adminPart     // of APIListen
	api      *api.API       // nil without AdminListen
	services *auth.Verifier // of services' tokens
	serving  atomic.Bool    // requests of the API can be answered
	ready    readiness
	missing  unserved        // tenants
	tracer   *tracing.Tracer // nil: no messages are recorded
	stops    stops.Stack

	mu      sync.Mutex
	tenants map[string]*tenantPart // that run, by name

	starting sync.WaitGroup // of tenants
	ended    wake.Signal    // an attempt to start one has ended

	// Of the loop that follows the keys.
	attempts map[string]*attempt // to start tenants that do not run, by name
	looked   time.Time           // when the keys had changed that the tenants were last compared with
}

// checkKeys refuses a data directory that has lost its keys. New keys would open
// nothing of what is stored there.
func checkKeys(dir string) error {
	keys := filepath.Join(dir, "keys")
	if _, err := os.Stat(keys); !errors.Is(err, fs.ErrNotExist) {
		return nil // whatever else is wrong with it is found when it is opened
	}
	if stored, err := os.ReadDir(filepath.Join(dir, "jetstream")); err != nil || len(stored) == 0 {
		return nil
	}
	return fmt.Errorf("node: %s holds messages and %s is missing: put the keys back from a backup; new keys would open none of it", dir, keys)
}

// New opens the data directory, making the operator's keys if there are none.
func New(opts Options) (*Node, error) {
	if err := opts.validate(); err != nil {
		return nil, err
	}
	if err := backbone.CheckDir(opts.Data); err != nil { // before keys are made there
		return nil, err
	}
	if opts.KeysFrom != "" {
		if err := auth.TakeKeys(opts.Data, opts.KeysFrom); err != nil {
			return nil, err
		}
	}
	if err := checkKeys(opts.Data); err != nil {
		return nil, err
	}
	keys, err := auth.OpenKeystoreWith(opts.Data, max(opts.Shards, 1))
	if err != nil {
		return nil, err
	}
	if err := keys.CheckShards(opts.Shards); err != nil {
		return nil, fmt.Errorf("node: %w", err)
	}
	n := &Node{opts: opts, keys: keys, registry: prometheus.NewRegistry(), tenants: make(map[string]*tenantPart), attempts: make(map[string]*attempt), ended: wake.New()}
	n.ready = readiness{check: n.check, log: opts.Logger}
	registerProcess(n.registry, opts.Version, n.isReady)
	if err := upgrade(keys); err != nil {
		return nil, err
	}
	accounts, derived, err := keys.Accounts()
	if err != nil {
		return nil, err
	}
	n.server, err = backbone.New(backbone.Options{
		Config: opts.Config, ConfigPath: opts.ConfigPath, Dir: opts.Data, Listen: opts.NATSListen,
		Operator: keys.Operator(), SystemAccount: keys.System().PublicKey, Accounts: accounts, Derived: derived,
		StoreKey: opts.StoreKey, OldStoreKey: opts.OldStoreKey, Logger: opts.Logger,
		RouteSecret: hex.EncodeToString(keys.Secret("routes between servers")),
	})
	if err != nil {
		return nil, err
	}
	n.registry.MustRegister(&serverCollector{server: n.server, dir: opts.Data})
	n.survey, err = newSurvey(n.registry, opts.Logger)
	return n, err
}

// Start returns when devices can connect. On an error everything that was
// started has been stopped.
func (n *Node) Start(ctx context.Context) (err error) {
	defer func() {
		if err != nil {
			_ = n.Stop(context.WithoutCancel(ctx))
		}
	}()
	if n.tracer, err = startTracer(named(n.opts.Tracing, "rccs-server", edgeName(n.opts.Listen), n.opts.Version, n.opts.Logger), &n.stops); err != nil {
		return err
	}
	if err := n.openDoors(); err != nil {
		return err
	}
	if err := n.waiter().until(ctx, always, func(context.Context) error { return backbone.CheckRoom(n.opts.Data) }); err != nil {
		return err
	}
	if err := n.server.Start(ctx); err != nil {
		return err
	}
	n.stops.Add(n.server.Stop)
	n.coord, n.shares = coordinator.NewMetrics(n.registry), share.NewMetrics(n.registry)
	n.survey.Start()
	n.stops.AddFunc(n.survey.Stop)
	if err := n.openEdge(); err != nil {
		return err
	}
	if err := n.startFirst(ctx); err != nil {
		return err
	}
	select {
	case <-n.follow():
	case <-time.After(startSoon):
	case <-ctx.Done():
		return ctx.Err()
	}
	if n.edge != nil {
		if err := n.edge.listen(ctx); err != nil {
			return err
		}
	}
	if err := n.countConnections(); err != nil {
		return err
	}
	n.serving.Store(true)
	if n.api != nil {
		n.stops.AddFunc(n.stopAPI) // before all else: streams of events would keep the listeners
	}
	n.admin.serving()
	return nil
}

// countConnections bounds those of devices on plain NATS.
func (n *Node) countConnections() error {
	nc, err := n.systemDialer()()
	if err != nil {
		return err
	}
	c, err := startConnections(nc, n.registry, n.opts.Logger)
	if err != nil {
		nc.Close()
		return fmt.Errorf("node: connections of devices are not counted: %w", err)
	}
	n.stops.Add(c.stop)
	return nil
}

// openDoors listens for operators and for services that use HTTP.
func (n *Node) openDoors() (err error) {
	if n.opts.AdminListen == "" && n.opts.APIListen == "" {
		return nil
	}
	if err := n.openAPI(); err != nil {
		return err
	}
	n.stops.AddFunc(n.stopAPI) // also when the node does not get as far as to serve
	opts := adminOptions{transport: n.opts.Transport, registry: n.registry, api: n.api, logger: n.opts.Logger}
	if opts.listen = n.opts.APIListen; opts.listen != "" {
		opts.services = true
		if n.apiDoor, err = startAdmin(opts); err != nil {
			return err
		}
		n.stops.Add(n.apiDoor.stop)
	}
	if opts.listen = n.opts.AdminListen; opts.listen != "" {
		opts.services, opts.ready, opts.others = false, n.ready.now, n.ready.unserved
		if n.admin, err = startAdmin(opts); err != nil {
			return err
		}
		n.stops.Add(n.admin.stop)
	}
	return nil
}

// openEdge makes the edge, which does not listen yet. It ends before the tenants.
func (n *Node) openEdge() error {
	n.stops.Add(n.stopTenants)
	if n.opts.Listen == "" {
		return nil
	}
	var err error
	if n.edge, err = newEdge(n.edgeOptions()); err != nil {
		return err
	}
	n.stops.Add(n.edge.stop)
	removed, err := n.keys.Removed()
	if err != nil {
		return err
	}
	return n.edge.forget(removed)
}

// waiter waits while the node starts.
func (n *Node) waiter() *waiter {
	return &waiter{within: n.opts.StartWait, admin: n.admin, log: n.opts.Logger}
}

func (n *Node) edgeOptions() edgeOptions {
	return edgeOptions{
		listen: n.opts.Listen, logger: n.opts.Logger, registry: n.registry,
		edge:       roster.EdgeInfo{Name: edgeName(n.opts.Listen), Process: rand.Text(), Version: n.opts.Version},
		inboxLimit: n.opts.InboxLimit, transport: n.opts.Transport, limits: n.opts.Limits, shares: n.shares,
		missing: &n.missing,
		tracer:  n.tracer,
	}
}

// Stop ends everything, what devices see first. It is idempotent.
func (n *Node) Stop(ctx context.Context) error {
	n.admin.stopping()
	ctx, cancel := context.WithTimeout(ctx, n.opts.StopWithin)
	defer cancel()
	return n.stops.Stop(ctx)
}

// Run serves until ctx ends. started is called when devices can connect. When
// the store cannot be written any more, which only a restart mends, Run ends by
// itself, with the reason.
func (n *Node) Run(ctx context.Context, started func()) error {
	if err := n.Start(ctx); err != nil {
		return err
	}
	started()
	ctx, broken := context.WithCancelCause(ctx)
	var watches sync.WaitGroup
	watches.Go(func() { n.watchStore(ctx, broken) })
	watches.Go(func() { n.ready.watch(ctx) })
	watches.Go(func() { giveMemoryBack(ctx, n.opts.Logger) })
	reread(ctx, n.opts.Reread, n.Reload)
	watches.Wait()
	var cause error
	if errors.Is(context.Cause(ctx), backbone.ErrBroken) {
		cause = context.Cause(ctx)
		n.opts.Logger.Error("stopping, to be started again", "err", cause)
	} else {
		n.opts.Logger.Info("stopping")
	}
	return errors.Join(cause, n.Stop(context.WithoutCancel(ctx)))
}

// storeEvery is how often the store is looked at.
const storeEvery = 500 * time.Millisecond

// watchStore ends ctx when the store is broken.
func (n *Node) watchStore(ctx context.Context, broken context.CancelCauseFunc) {
	every(ctx, storeEvery, func() {
		if err := n.server.Broken(); err != nil {
			broken(err)
		}
	})
}

// every does something again and again until ctx ends.
func every(ctx context.Context, d time.Duration, do func()) {
	tick := time.NewTicker(d)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
			do()
		}
	}
}

// Addr is where devices connect, or nil; valid after Start.
func (n *Node) Addr() net.Addr {
	if n.edge == nil {
		return nil
	}
	return n.edge.addr
}

// AdminAddr is where health and metrics are served, or nil.
func (n *Node) AdminAddr() net.Addr {
	if n.admin == nil {
		return nil
	}
	return n.admin.addr
}

// APIAddr is where the HTTP API for services is served, or nil.
func (n *Node) APIAddr() net.Addr {
	if n.apiDoor == nil {
		return nil
	}
	return n.apiDoor.addr
}

// NATSURL is where NATS clients connect, or empty.
func (n *Node) NATSURL() string {
	if n.opts.NATSListen == "" {
		return ""
	}
	return n.server.ClientURL()
}

// Keys are the installation's.
func (n *Node) Keys() *auth.Keystore { return n.keys }

// Connections is how many devices are connected.
func (n *Node) Connections() int {
	if n.edge == nil {
		return 0
	}
	return n.edge.server.Connections()
}

// isReady says whether a message could be accepted now.
func (n *Node) isReady() bool { return n.serving.Load() && n.admin.isUp() && n.ready.now() == nil }

// check returns why a message could not be accepted now.
func (n *Node) check() (h health) {
	h.own = n.server.Healthy()
	for _, t := range n.running() {
		name := t.keys.Account().Name
		h.add(name, name == auth.DefaultTenant, cmp.Or(t.streams.healthy(everyStream), t.coord.Healthy()))
	}
	if n.edge != nil {
		at := n.edge.healthy()
		h.own, h.others = cmp.Or(h.own, at.own), errors.Join(h.others, at.others)
	}
	n.missing.addTo(&h)
	return h
}
