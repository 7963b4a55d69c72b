package node

import (
	"context"
	"time"

	"github.com/rccs-io/rccs/auth"
)

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
		ctx, cancel := context.WithTimeout(ctx, startTimeout)
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
