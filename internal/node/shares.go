package node

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/rccs-io/rccs/auth"
	"github.com/rccs-io/rccs/internal/backbone"
)

// Each tenant has a share of the store. One with a limit of its own has that;
// the others divide what is left alike. The bounds of a tenant's streams are
// parts of its share, and follow it while the node runs.

const (
	// reboundTimeout is how long the bounds of one tenant are tried at a time, and
	// reboundEvery how soon after that it is tried again.
	reboundTimeout = 10 * time.Second
	reboundEvery   = time.Second
	// seldomEvery is how soon a tenant is tried again that stores more than its
	// share, or for which it does not work for long.
	seldomEvery = 10 * time.Second
	// tellAfter is how long bounds may not have followed before that is told, and
	// tellEvery how often.
	tellAfter = 3 * time.Second
	tellEvery = time.Minute
)

// bounds are how far the streams of a tenant have followed its share.
type bounds struct {
	share allotment // that they have the bounds of; zero: not known
	since time.Time // when it began that they do not have them; zero: they do
	due   time.Time // when to try again; zero: when the share changes
	told  time.Time
}

// allotment is what a tenant may store, in bytes.
type allotment struct {
	server int64 // on one server
	limit  int64 // on all together, as the account is limited; 0: it is not
}

// reckon says what each tenant may store, by name.
func (n *Node) reckon() (map[string]allotment, error) {
	names, err := n.keys.TenantNames()
	if err != nil {
		return nil, err
	}
	copies := int64(1) // a limit counts all copies of a message
	if n.server.Clustered() {
		copies = ClusterCopies
	}
	left, among := n.server.StoreLimit(), int64(0)
	all := make(map[string]allotment, len(names))
	for _, name := range names {
		tenant, err := n.keys.Tenant(name)
		if errors.Is(err, auth.ErrNoTenant) {
			continue // it was just removed
		}
		if err != nil {
			return nil, err
		}
		l, err := tenant.Limits()
		if err != nil {
			return nil, err
		}
		own := l.StorageBytes / copies
		all[name] = allotment{server: own, limit: l.StorageBytes}
		if left -= own; own == 0 {
			among++
		}
	}
	for name, a := range all {
		if a.server == 0 {
			a.server = max(left, 0) / max(among, 1)
			all[name] = a
		}
	}
	return all, nil
}

// resize is a tenant whose share is another by now, or whose streams do not have
// its bounds yet.
type resize struct {
	t     *tenantPart
	keys  *auth.Keystore // as they are now
	share allotment
}

// rebound has the streams of the tenants that run follow their shares. changed
// says that these may be others. What one tenant gives up another may need, so
// that bounds become lower everywhere before any becomes higher.
func (n *Node) rebound(ctx context.Context, changed bool) {
	list := n.resizes(changed)
	for _, r := range list {
		_ = n.resize(ctx, r, func(ctx context.Context, js jetstream.JetStream, plan backbone.Plan) ([]backbone.Bound, error) {
			return nil, backbone.Shrink(ctx, js, plan) // what comes of it is told below
		})
	}
	for _, r := range list {
		err := n.resize(ctx, r, backbone.Rebound)
		if ctx.Err() != nil {
			return
		}
		n.resized(r, err)
	}
}

// resizes are the tenants that there is something to do for.
func (n *Node) resizes(changed bool) []resize {
	var list []resize
	var shares map[string]allotment
	for _, t := range n.running() {
		b := &t.bounds
		if due := !b.due.IsZero() && time.Now().After(b.due); !due && !changed {
			continue
		}
		var err error
		if shares == nil {
			shares, err = n.reckon()
		}
		name := t.keys.Account().Name
		share, known := shares[name]
		if err == nil && (!known || share == b.share && b.since.IsZero()) {
			continue
		}
		keys, unread := n.keys.Tenant(name)
		if err = errors.Join(err, unread); err != nil {
			n.resized(resize{t: t}, err)
			continue
		}
		list = append(list, resize{t, keys, share})
	}
	return list
}

// resized notes what came of it.
func (n *Node) resized(r resize, err error) {
	b, now := &r.t.bounds, time.Now()
	name := r.t.keys.Account().Name
	if err == nil {
		if !b.told.IsZero() {
			n.opts.Logger.Info("a tenant's streams have the bounds of its share", "tenant", name, "share", r.share.server)
		}
		*b = bounds{share: r.share}
		return
	}
	if b.since.IsZero() {
		b.since = now
	}
	b.due = now.Add(reboundEvery)
	if errors.Is(err, errOverfull) || now.Sub(b.since) >= tellEvery {
		b.due = now.Add(seldomEvery)
	}
	if now.Sub(b.since) >= tellAfter && now.Sub(b.told) >= tellEvery {
		b.told = now
		n.opts.Logger.Warn("a tenant's streams do not have the bounds of its share yet, trying again", "tenant", name, "share", r.share.server, "err", err)
	}
}

// errOverfull says that streams hold more than they should. Only what goes from
// them makes room.
var errOverfull = errors.New("more is stored than the share allows; nothing is removed, and new messages are refused")

// resize changes the bounds of one tenant's streams. This server knows the
// tenant's limit by then. In a cluster the others hear of it at their own time,
// and refuse until then.
func (n *Node) resize(
	ctx context.Context, r resize, change func(context.Context, jetstream.JetStream, backbone.Plan) ([]backbone.Bound, error),
) error {
	ctx, cancel := context.WithTimeout(ctx, reboundTimeout)
	defer cancel()
	if err := n.update(r.keys.Account()); err != nil {
		return err
	}
	dial, err := n.dialer(r.keys, "edge")
	if err != nil {
		return err
	}
	js, nc, err := dial.jetStream("bounds")
	if err != nil {
		return err
	}
	defer nc.Close()
	plan := backbone.Plan{Logger: n.opts.Logger, StoreBytes: r.share.server, Shards: r.keys.Shards()}
	limit, err := n.lifted(r.keys, func() error {
		for {
			short, err := change(ctx, js, plan)
			if err == nil {
				err = shortOf(short)
			}
			if err == nil || !n.server.Clustered() || errors.Is(err, errOverfull) {
				return err
			}
			select {
			case <-time.After(awaitEvery):
			case <-ctx.Done():
				return err
			}
		}
	})
	return cmp.Or(err, limit)
}

// shortOf is the error about streams that do not have their bounds; nil: all have
// them.
func shortOf(short []backbone.Bound) error {
	var full error
	for _, b := range short {
		if b.Refused != nil {
			return fmt.Errorf("node: stream %s keeps %d bytes instead of %d: %w", b.Stream, b.Have, b.Want, b.Refused)
		}
		full = fmt.Errorf("node: stream %s holds %d bytes, its part is %d: %w", b.Stream, b.Have, b.Want, errOverfull)
	}
	return full
}

// lifted calls f, of which err is, while this server does not apply the
// limit of what the tenant may store; limit is why it does not apply it afterwards. It would refuse
// each step of a change that is right as a whole.
func (n *Node) lifted(keys *auth.Keystore, f func() error) (limit, err error) {
	restore, err := n.server.Lift(keys.Account().PublicKey)
	if err != nil {
		return nil, err
	}
	err = f()
	return restore(), err
}
