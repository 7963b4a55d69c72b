package node

import (
	"context"

	"github.com/rccs-io/rccs/auth"
)

// Each tenant has a share of the store. One with a limit of its own has that;
// the others divide what is left alike.

// share is how many bytes the tenant may store.
func (n *Node) share(keys *auth.Keystore) (int64, error) {
	own, err := keys.Limits()
	if err != nil || own.StorageBytes > 0 {
		return own.StorageBytes, err
	}
	names, err := n.keys.TenantNames()
	if err != nil {
		return 0, err
	}
	left, among := n.server.StoreLimit(), int64(0)
	for _, name := range names {
		tenant, err := n.keys.Tenant(name)
		if err != nil {
			return 0, err
		}
		l, err := tenant.Limits()
		if err != nil {
			return 0, err
		}
		if left -= l.StorageBytes; l.StorageBytes == 0 {
			among++
		}
	}
	return max(left, 0) / max(among, 1), nil
}

// makeRoom lets the tenants that run have no more than their shares, before
// another one gets its own. A tenant whose streams cannot be changed now keeps
// its bounds.
func (n *Node) makeRoom(ctx context.Context) {
	for _, t := range n.running() {
		dial, err := n.dialer(t.keys, "edge")
		if err == nil {
			err = n.ensure(ctx, dial, t.keys)
		}
		if err != nil {
			n.opts.Logger.Warn("a tenant's share of the store was not changed", "tenant", t.keys.Account().Name, "err", err)
		}
	}
}
