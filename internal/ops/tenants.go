package ops

import (
	"context"
	"fmt"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/rccs-io/rccs/auth"
	"github.com/rccs-io/rccs/internal/layout"
	"github.com/rccs-io/rccs/internal/shard"
)

// TenantInfo is a tenant as it is listed.
type TenantInfo struct {
	Name    string      `json:"name"`
	Account string      `json:"account"`
	Limits  auth.Limits `json:"limits"`
	Shards  int         `json:"shards,omitzero"` // if it has several
	// Devices, Stored and Share (bytes) and Consumers are of a tenant that is
	// served. Share is how much it may store, reserve and all; 0: it has none.
	Served    bool   `json:"served"`
	Devices   int    `json:"devices"`
	Stored    uint64 `json:"stored"`
	Share     int64  `json:"share"`
	Consumers int    `json:"consumers"`
}

// inboxPercent is what inboxes may take of a tenant's share.
const inboxPercent = 60

// Share is how many bytes the tenant of js may store, as its streams are bounded;
// 0: they are not.
func Share(ctx context.Context, js jetstream.JetStream) (int64, error) {
	shards := auth.ShardsOf(js.Conn())
	if !shard.InShard(js) {
		js = shard.At(0, shards).JetStream(js)
	}
	stream, err := js.Stream(ctx, layout.StreamInbox)
	if err != nil {
		return 0, fmt.Errorf("ops: look up stream %s: %w", layout.StreamInbox, err)
	}
	return max(stream.CachedInfo().Config.MaxBytes, 0) * int64(shards) * 100 / inboxPercent, nil // all are alike
}

// Use fills in what a tenant that is served uses.
func (t *Tenant) Use(ctx context.Context, info *TenantInfo, online int) error {
	store, err := t.store(ctx)
	if err != nil {
		return err
	}
	share, err := Share(ctx, t.js)
	if err != nil {
		return err
	}
	info.Served, info.Devices, info.Stored, info.Share, info.Consumers = true, online, store.Used, share, store.Consumers
	return nil
}

// Tenants lists the tenants of the keys. use fills in what one uses that is
// served.
func Tenants(keys *auth.Keystore, use func(tenant *auth.Keystore, info *TenantInfo) error) ([]TenantInfo, error) {
	names, err := keys.TenantNames()
	if err != nil {
		return nil, err
	}
	list := make([]TenantInfo, 0, len(names))
	for _, name := range names {
		tenant, err := keys.Tenant(name)
		if err != nil {
			return nil, err
		}
		info := TenantInfo{Name: name, Account: tenant.Account().PublicKey}
		if n := tenant.Shards(); n > 1 {
			info.Shards = n
		}
		if info.Limits, err = tenant.Limits(); err != nil {
			return nil, err
		}
		if err := use(tenant, &info); err != nil {
			return nil, err
		}
		list = append(list, info)
	}
	return list, nil
}
