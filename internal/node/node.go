package node

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
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
	"github.com/rccs-io/rccs/internal/roster"
	"github.com/rccs-io/rccs/internal/share"
	"github.com/rccs-io/rccs/internal/stops"
	"github.com/rccs-io/rccs/internal/survey"
	"github.com/rccs-io/rccs/internal/tracing"
	"github.com/rccs-io/rccs/internal/wake"
)

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
