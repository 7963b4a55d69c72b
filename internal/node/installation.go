package node

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/rccs-io/rccs/auth"
	"github.com/rccs-io/rccs/internal/audit"
	"github.com/rccs-io/rccs/internal/backbone"
	"github.com/rccs-io/rccs/internal/ops"
	"github.com/rccs-io/rccs/internal/revoke"
	"github.com/rccs-io/rccs/subjects"
)

// installation is what operators do by the HTTP API with the keys of this node.
type installation struct{ n *Node }

// keys are those of a tenant, as they are now.
func (i *installation) keys(tenant string) (*auth.Keystore, error) { return i.n.keys.Tenant(tenant) }

// revoker ends credentials of a tenant.
func (i *installation) revoker(tenant string) (*revoke.Installation, error) {
	keys, err := i.keys(tenant)
	if err != nil {
		return nil, err
	}
	return &revoke.Installation{Keys: keys, Dial: func(cred auth.Credential) (*nats.Conn, error) {
		return connect(i.n.opts.Logger, "", i.n.server.InProcess(), cred.Option(), nats.Name("rccs api revoke"))
	}}, nil
}

// Doctor implements [api.Installation].
func (i *installation) Doctor(ctx context.Context, t *ops.Tenant) ([]ops.Finding, error) {
	store := filepath.Join(i.n.opts.Data, "jetstream")
	return t.Doctor(ctx, ops.DoctorOptions{Differences: Differences, Free: func() (uint64, error) { return ops.DiskFree(store) }})
}

// Differences compares the streams with what a server makes.
func Differences(ctx context.Context, js jetstream.JetStream) ([]ops.Difference, error) {
	all, err := backbone.Compare(ctx, js, backbone.Plan{Shards: auth.ShardsOf(js.Conn())})
	if err != nil {
		return nil, fmt.Errorf("compare the streams: %w", err)
	}
	list := make([]ops.Difference, 0, len(all))
	for _, d := range all {
		list = append(list, ops.Difference(d))
	}
	return list, nil
}

// Revocations implements [api.Installation].
func (i *installation) Revocations(tenant string) ([]auth.Revocation, error) {
	keys, err := i.keys(tenant)
	if err != nil {
		return nil, err
	}
	return keys.Revocations()
}

// Revoke implements [api.Installation].
func (i *installation) Revoke(ctx context.Context, tenant string, r auth.Revocation, by audit.Record) (known bool, err error) {
	revoker, err := i.revoker(tenant)
	if err != nil {
		return false, err
	}
	if known, err = i.known(revoker.Keys, tenant, r); err != nil {
		return false, err
	}
	return known, revoker.Revoke(ctx, r, by)
}

// known reports whether somebody is known whose credentials a revocation ends:
// for whom one was made with these keys, or who has registered.
func (i *installation) known(keys *auth.Keystore, tenant string, r auth.Revocation) (bool, error) {
	devices, services, err := keys.Holders(r)
	if err != nil || len(devices)+len(services) > 0 || r.Kind == auth.RevokedAll {
		return err == nil, err
	}
	t, ok := i.n.apiTenant(tenant)
	if !ok {
		return false, nil
	}
	directory := t.Directory()
	switch r.Kind {
	case auth.RevokedDevice:
		a, err := subjects.ParseAddress(r.Name)
		return err == nil && directory.Device(a) != nil, nil
	case auth.RevokedUser:
		list, _ := directory.Devices(ops.DeviceQuery{User: subjects.UserID(r.Name), Limit: 1})
		return len(list) > 0, nil
	case auth.RevokedService, auth.RevokedAll:
	}
	return false, nil
}

// Unrevoke implements [api.Installation].
func (i *installation) Unrevoke(ctx context.Context, tenant string, r auth.Revocation, by audit.Record) error {
	revoker, err := i.revoker(tenant)
	if err != nil {
		return err
	}
	return revoker.Undo(ctx, r, by)
}

// Edges implements [api.Installation].
func (i *installation) Edges() (*ops.Tenant, bool) {
	t, ok := i.n.apiTenant(auth.DefaultTenant)
	if !ok {
		return nil, false
	}
	return t.Ops, true
}

// Tenants implements [api.Installation].
func (i *installation) Tenants(ctx context.Context) ([]ops.TenantInfo, error) {
	return ops.Tenants(i.n.keys, func(_ *auth.Keystore, info *ops.TenantInfo) error {
		t, served := i.n.apiTenant(info.Name)
		if !served {
			return nil
		}
		return t.Ops.Use(ctx, info, t.Directory().Online())
	})
}

// tenantWait is how long it is waited for a tenant to be served, or not any more.
const tenantWait = 30 * time.Second

// AddTenant implements [api.Installation].
func (i *installation) AddTenant(ctx context.Context, name string, shards int, limits auth.Limits, by audit.Record) error {
	return i.act(ctx, by, func() error {
		if _, err := i.n.keys.AddTenantWith(name, shards, limits); err != nil {
			return err
		}
		return i.await(ctx, func() bool { _, ok := i.n.apiTenant(name); return ok })
	})
}

// RemoveTenant implements [api.Installation].
func (i *installation) RemoveTenant(ctx context.Context, name string, by audit.Record) error {
	keys, err := i.keys(name)
	if err != nil {
		return err
	}
	return i.act(ctx, by, func() error {
		if _, err := keys.RemoveTenant(); err != nil {
			return err
		}
		return i.await(ctx, func() bool { _, ok := i.n.apiTenant(name); return !ok })
	})
}

// act does something that is recorded with the default tenant.
func (i *installation) act(ctx context.Context, by audit.Record, f func() error) error {
	t, ok := i.Edges()
	if !ok {
		return errors.New("node: the default tenant is not served")
	}
	return t.Act(ctx, by, f)
}

// await returns when the loop that follows the keys has come so far.
func (i *installation) await(ctx context.Context, done func() bool) error {
	ctx, cancel := context.WithTimeout(ctx, tenantWait)
	defer cancel()
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for !done() {
		select {
		case <-tick.C:
		case <-ctx.Done():
			return fmt.Errorf("node: the change is made, but not in force yet: %w", ctx.Err())
		}
	}
	return nil
}
