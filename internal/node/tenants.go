package node

import (
	"context"
	"errors"
	"os"
	"slices"
	"sync"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/rccs-io/rccs/auth"
	"github.com/rccs-io/rccs/internal/api"
	"github.com/rccs-io/rccs/internal/enroll"
	"github.com/rccs-io/rccs/internal/leader"
	"github.com/rccs-io/rccs/internal/stops"
	"github.com/rccs-io/rccs/internal/wake"
)

// A server runs a coordinator for each tenant, and its edge serves the devices of
// all. Which tenants there are is what the keys say, so that they come and go
// while it runs.

// lookForTenants is how often the keys are looked at.
const lookForTenants = 500 * time.Millisecond

// tenantPart is what runs for one tenant, beside its share of the edge.
type tenantPart struct {
	keys     *auth.Keystore
	coord    coordinators
	streams  *streamWatch
	enroller *enroll.Service
	services string      // public key of the services' account
	api      *api.Tenant // nil without the API
	bounds   bounds
	stops    stops.Stack

	revoked     func(userKey string, issued time.Time) bool // reports whether a credential is revoked
	revocations wake.Signal                                 // revoked may answer otherwise
}

// upgrade gives all tenants what this version wants of them.
func upgrade(keys *auth.Keystore) error {
	names, err := keys.TenantNames()
	if err != nil {
		return err
	}
	for _, name := range names {
		t, err := keys.Tenant(name)
		if err != nil {
			return err
		}
		if _, err := t.Upgrade(); err != nil {
			return err
		}
	}
	return nil
}

// dialer connects to the server in the tenant's account.
func (n *Node) dialer(keys *auth.Keystore, part string) (dialer, error) {
	cred, err := keys.PartOption(part)
	if err != nil {
		return nil, err
	}
	return func(name string, opts ...nats.Option) (*nats.Conn, error) {
		return connect(n.opts.Logger, "", append([]nats.Option{n.server.InProcess(), cred, nats.Name("rccs " + part + " " + name)}, opts...)...)
	}, nil
}

// startFirst starts the default tenant. In a cluster a stream that answered may be
// without a leader again, and a busy server alone may be slow to answer.
func (n *Node) startFirst(ctx context.Context) error {
	start := func(context.Context) error { return n.startTenant(ctx, auth.DefaultTenant) }
	if !n.server.Clustered() {
		return n.waiter().until(ctx, leader.Unanswered, start)
	}
	return n.waiter().until(ctx, waitsForServers, start)
}

// startTenant returns when the tenant is served. On an error nothing of it is
// left running.
func (n *Node) startTenant(ctx context.Context, name string) (err error) {
	keys, err := n.keys.Tenant(name)
	if err != nil {
		return err
	}
	t := &tenantPart{keys: keys, revocations: wake.New()}
	defer func() {
		if err != nil {
			err = errors.Join(err, t.stops.Stop(context.WithoutCancel(ctx)))
		}
	}()
	dial, err := n.dialer(keys, "edge")
	if err != nil {
		return err
	}
	if err := n.ensure(ctx, dial, keys); err != nil {
		return err
	}
	if n.edge != nil {
		account := keys.Account()
		opts := edgeTenantOptions{name: name, account: account.PublicKey, jwt: account.JWT, dial: dial, drains: name == auth.DefaultTenant, count: keys.Shards()}
		if err := n.edge.serve(ctx, opts); err != nil {
			return err
		}
	}
	// Last: that it answers says that the tenant is served.
	if err := n.startCoordinator(ctx, t); err != nil {
		if n.edge != nil {
			err = errors.Join(err, n.edge.drop(context.WithoutCancel(ctx), keys.Account().PublicKey, nil))
		}
		return err
	}
	if err := n.startAPI(ctx, t); err != nil {
		return err
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	n.tenants[name] = t
	return nil
}

// running are the tenants that run.
func (n *Node) running() []*tenantPart {
	n.mu.Lock()
	defer n.mu.Unlock()
	all := make([]*tenantPart, 0, len(n.tenants))
	for _, t := range n.tenants {
		all = append(all, t)
	}
	return all
}

// stopTenants ends the coordinators. The edge has stopped.
func (n *Node) stopTenants(ctx context.Context) error {
	var each []func(context.Context) error
	for _, t := range n.running() {
		each = append(each, t.stops.Stop)
	}
	return stops.Together(ctx, each...)
}

// follow starts and stops tenants as the keys change, until the node stops. tried is
// closed when it was tried once to start each.
func (n *Node) follow() (tried <-chan struct{}) {
	ctx, cancel := context.WithCancel(context.Background())
	done, first := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(done)
		tried := sync.OnceFunc(func() { close(first) })
		tick := time.NewTicker(lookForTenants)
		defer tick.Stop()
		for {
			n.reconcile(ctx)
			if n.triedAll() {
				tried()
			}
			select {
			case <-tick.C:
			case <-n.ended:
			case <-ctx.Done():
				return
			}
		}
	}()
	n.stops.Add(func(ctx context.Context) error {
		cancel()
		<-done
		ended := make(chan struct{})
		go func() {
			n.starting.Wait()
			close(ended)
		}()
		select {
		case <-ended:
			return nil
		case <-time.After(startEndsTimeout):
		case <-ctx.Done():
		}
		return errors.New("node: a tenant is still being started")
	})
	return first
}

// startEndsTimeout bounds how long a start that is given up keeps the node from
// stopping.
const startEndsTimeout = 2 * time.Second

// reconcile begins to start the tenants that the keys have and that do not run,
// stops those that they do not have any more, and has the streams of the others
// follow their shares. What fails is told, and tried again.
func (n *Node) reconcile(ctx context.Context) {
	at, changed := n.keysChanged()
	if changed && n.reconciled(ctx) {
		n.looked = at
	}
	n.rebound(ctx, changed)
}

// keysChanged reports whether the directory of the keys has changed since it was
// looked at, and when. Of a change just now it is not sure.
func (n *Node) keysChanged() (time.Time, bool) {
	info, err := os.Stat(n.keys.Dir())
	if err != nil {
		return time.Time{}, true // which is told when it is read
	}
	at := info.ModTime()
	return at, !at.Equal(n.looked) || time.Since(at) < sureAfter
}

// sureAfter is more than what a file system's clock may be coarse by.
const sureAfter = 2 * time.Second

// reconciled reports whether the keys and what runs agree now.
func (n *Node) reconciled(ctx context.Context) bool {
	for name, a := range n.attempts {
		n.collect(ctx, name, a)
	}
	names, err := n.keys.TenantNames()
	if err != nil {
		n.opts.Logger.Error("which tenants there are is not known", "err", err)
		return false
	}
	all := true
	for _, t := range append(n.running(), n.unstarted()...) {
		name := t.keys.Account().Name
		if slices.Contains(names, name) && !n.replaced(t) {
			continue
		}
		if a := n.attempts[name]; a != nil && a.underWay() {
			all = false
			a.giveUp() // it is removed when that has ended
			continue
		}
		delete(n.attempts, name)
		n.missing.set(name, nil)
		if err := n.removeTenant(ctx, t); err != nil {
			all = false
			n.opts.Logger.Error("a removed tenant did not end in order", "tenant", name, "err", err)
		} else {
			n.opts.Logger.Info("tenant removed", "tenant", name)
		}
	}
	return n.begin(ctx, names) && all
}

// runs reports whether a tenant is served.
func (n *Node) runs(name string) bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.tenants[name] != nil
}

// replaced reports whether the keys have another tenant of the name by now.
func (n *Node) replaced(t *tenantPart) bool {
	now, err := n.keys.Tenant(t.keys.Account().Name)
	return err == nil && now.Account().PublicKey != t.keys.Account().PublicKey
}
