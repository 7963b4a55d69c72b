package node

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"sync"
	"time"

	"github.com/nats-io/jwt/v2"
	"github.com/nats-io/nats.go"

	"github.com/rccs-io/rccs/auth"
	"github.com/rccs-io/rccs/internal/api"
	"github.com/rccs-io/rccs/internal/backbone"
	"github.com/rccs-io/rccs/internal/enroll"
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
// without a leader again.
func (n *Node) startFirst(ctx context.Context) error {
	start := func(context.Context) error { return n.startTenant(ctx, auth.DefaultTenant) }
	if !n.server.Clustered() {
		return start(ctx)
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
		case <-time.After(startEndsWithin):
		case <-ctx.Done():
		}
		return errors.New("node: a tenant is still being started")
	})
	return first
}

// startEndsWithin bounds how long a start that is given up keeps the node from
// stopping.
const startEndsWithin = 2 * time.Second

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

// begin begins to start the tenants that do not run, and reports whether there are
// none. It waits for none of them: any part of a tenant can keep that from starting.
func (n *Node) begin(ctx context.Context, names []string) (none bool) {
	var now []*attempt
	starting := 0
	for _, name := range names {
		if n.runs(name) {
			continue
		}
		a := n.attempts[name]
		if a == nil {
			a = new(attempt)
			n.attempts[name] = a
		}
		took := time.Since(a.at)
		switch {
		case a.underWay() && took < startSoon:
			starting++
		case a.underWay():
			n.missing.set(name, errStarting)
		case a.tried && took < again:
		default:
			if err := n.announce(a, name); err != nil {
				n.notStarted(name, a, err)
			} else {
				now = append(now, a)
			}
		}
	}
	if now = now[:min(len(now), max(startAtOnce-starting, 0))]; len(now) > 0 {
		n.rebound(ctx, true) // the others make room for their shares
	}
	for _, a := range now {
		a.at = time.Now()
		a.ended = make(chan error, 1)
		ctx, cancel := context.WithTimeout(ctx, startWithin)
		a.cancel = cancel
		n.starting.Go(func() {
			defer cancel()
			a.ended <- n.startTenant(ctx, a.keys.Account().Name)
			n.ended.Set()
		})
	}
	return len(n.attempts) == 0
}

const (
	// startAtOnce bounds how many tenants are started at once, without those that
	// take longer than startSoon.
	startAtOnce = 16
	// startSoon is how long a busy machine may take. For so long the node does not let
	// devices come.
	startSoon = 20 * time.Second
)

// announce reads the tenant's keys, and has the server trust its accounts. Its
// devices are not turned away for good while it is being started.
func (n *Node) announce(a *attempt, name string) (err error) {
	if a.keys, err = n.keys.Tenant(name); err != nil {
		return err
	}
	if n.edge != nil {
		n.edge.verifier.Expect(a.keys.Account().PublicKey)
	}
	return n.update(a.keys.Account())
}

// collect notes how an attempt has ended.
func (n *Node) collect(ctx context.Context, name string, a *attempt) {
	select {
	case err := <-a.ended:
		a.ended = nil
		switch {
		case err == nil:
			delete(n.attempts, name)
			n.missing.set(name, nil)
			n.opts.Logger.Info("tenant is served", "tenant", name)
		case ctx.Err() == nil && !a.givenUp:
			n.notStarted(name, a, err)
		}
	default: // it goes on, or there is none
	}
}

// notStarted notes why a tenant could not be started.
func (n *Node) notStarted(name string, a *attempt, err error) {
	if fault, _ := a.said.look(err); fault {
		n.opts.Logger.Error("tenant is not served, trying again", "tenant", name, "err", err)
	}
	n.missing.set(name, err)
	a.at, a.tried = time.Now(), true
}

// triedAll reports whether it was tried to start each tenant.
func (n *Node) triedAll() bool {
	for _, a := range n.attempts {
		if !a.tried {
			return false
		}
	}
	return true
}

// again is how long a tenant waits that could not be started: what is wrong with
// it takes no more of the process than that.
const again = 3 * time.Second

// unstarted are the tenants that do not run yet. Servers trust these too, until they
// are removed.
func (n *Node) unstarted() (all []*tenantPart) {
	for name, a := range n.attempts {
		if a.keys != nil && !n.runs(name) {
			all = append(all, &tenantPart{keys: a.keys})
		}
	}
	return all
}

// attempt is one to start a tenant.
type attempt struct {
	keys    *auth.Keystore // nil: they cannot be read
	at      time.Time      // when the last one began, or has failed
	tried   bool           // one has failed
	said    saying
	ended   chan error // how the one under way has ended; nil: there is none
	cancel  context.CancelFunc
	givenUp bool
}

func (a *attempt) underWay() bool { return a.ended != nil }

func (a *attempt) giveUp() {
	a.givenUp = true
	a.cancel()
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

// removeTenant ends the connections of a tenant that was removed, deletes its
// streams and has this server refuse what was issued for it.
func (n *Node) removeTenant(ctx context.Context, t *tenantPart) error {
	name := t.keys.Account().Name
	n.mu.Lock()
	delete(n.tenants, name)
	n.mu.Unlock()
	var errs []error
	removed, err := n.keys.Removed()
	if err != nil {
		return err
	}
	if n.edge != nil {
		errs = append(errs, n.edge.drop(ctx, t.keys.Account().PublicKey, removed))
	}
	errs = append(errs, t.stops.Stop(ctx), n.deleteStreams(ctx, t.keys))
	// Past that, not even a part of RCCS gets in. The account that parts are in
	// comes last: who sees a part refused knows that services are, too.
	for _, token := range ownLast(removed, t.keys.Account().PublicKey) {
		if err := n.server.UpdateAccount(token); err != nil && !errors.Is(err, backbone.ErrStale) {
			errs = append(errs, err)
		}
	}
	return errors.Join(errs...)
}

// ownLast returns the JWTs of removed accounts with that of own at the end.
func ownLast(removed []string, own string) []string {
	var first, last []string
	for _, token := range removed {
		if claims, err := jwt.DecodeAccountClaims(token); err == nil && claims.Subject == own {
			last = append(last, token)
		} else {
			first = append(first, token)
		}
	}
	return append(first, last...)
}

func (n *Node) deleteStreams(ctx context.Context, keys *auth.Keystore) error {
	dial, err := n.dialer(keys, "edge")
	if err != nil {
		return err
	}
	nc, err := dial("remove")
	if err != nil {
		return err
	}
	defer nc.Close()
	ctx, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	if err := backbone.Remove(ctx, nc, keys.Shards()); err != nil {
		return fmt.Errorf("node: streams of %s: %w", keys.Account().Name, err)
	}
	return nil
}
