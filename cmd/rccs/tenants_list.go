package main

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/spf13/cobra"

	"github.com/rccs-io/rccs/auth"
	"github.com/rccs-io/rccs/internal/ops"
	"github.com/rccs-io/rccs/subjects"
)

func newTenantsListCommand(env *environment) *cobra.Command {
	var f tenantFlags
	cmd := &cobra.Command{
		Use:   "ls",
		Short: "List the tenants",
		Long: `List the tenants that the keys have, with their limits and what they use. Where no
server can be reached, what they use is shown as '?', and the status is 1.`,
		Example: "  rccs tenants ls",
		Args:    arguments(0, "none"),
		RunE:    func(cmd *cobra.Command, _ []string) error { return env.listTenants(cmd.Context(), &f) },
	}
	f.register(cmd)
	return cmd
}

func (env *environment) listTenants(ctx context.Context, f *tenantFlags) error {
	keys, dial, err := env.at(&f.revokeFlags)
	if err != nil {
		return err
	}
	var away error
	rows, err := ops.Tenants(keys, func(t *auth.Keystore, info *ops.TenantInfo) error {
		away = cmp.Or(away, useOf(ctx, dial, t, info))
		return nil
	})
	if err != nil {
		return err
	}
	if err := env.tenantRows(f, rows); err != nil {
		return err
	}
	if away != nil {
		return fmt.Errorf("what the tenants use is not known: %w", (&serverFlags{server: f.server}).explain(away))
	}
	return nil
}

func (env *environment) tenantRows(f *tenantFlags, rows []ops.TenantInfo) error {
	if f.json {
		return env.json(rows)
	}
	tab := newTable(column{title: "NAME"}, column{title: "DEVICES", right: true}, column{title: "LIMIT", right: true}, column{title: "STORED", right: true},
		column{title: "SHARE", right: true}, column{title: "CONSUMERS", right: true, extra: 1}, column{title: "CONSUMER LIMIT", right: true, extra: 2}, column{title: "ACCOUNT", extra: 3})
	most := func(n int64, text string) string {
		if n == 0 {
			return "-"
		}
		return text
	}
	for _, r := range rows {
		l := r.Limits
		devices, stored, consumers := strconv.Itoa(r.Devices), size(r.Stored), strconv.Itoa(r.Consumers)
		share := cmp.Or(l.StorageBytes, r.Share)
		if !r.Served {
			devices, stored, consumers = "?", "?", "?"
		}
		tab.row(r.Name, devices, most(l.Devices, strconv.FormatInt(l.Devices, 10)), stored, most(share, size(uint64(share))), //nolint:gosec // never negative
			consumers, most(l.Consumers, strconv.FormatInt(l.Consumers, 10)), r.Account)
	}
	return env.table(tab)
}

// usageTimeout bounds the wait for one tenant, which its own parts can keep from
// answering: the others are listed all the same.
const usageTimeout = 10 * time.Second

// useOf fills in what the tenant uses, if a server says so. The error is why no
// server can be reached; one that does not serve the tenant yet is none.
func useOf(ctx context.Context, dial dialFunc, keys *auth.Keystore, r *ops.TenantInfo) error {
	ctx, cancel := context.WithTimeout(ctx, usageTimeout)
	defer cancel()
	nc, err := dialPart(dial, keys)
	if errors.Is(err, nats.ErrAuthorization) {
		return nil
	} else if err != nil {
		return err
	}
	defer nc.Close()
	js, err := jetstream.New(nc)
	if err != nil {
		return err
	}
	info, err := js.AccountInfo(ctx)
	if err != nil {
		return nil //nolint:nilerr // it is not served
	}
	share, err := ops.Share(ctx, js)
	if err != nil {
		return nil //nolint:nilerr // the same
	}
	sessions, err := online(ctx, nc)
	if err != nil {
		return nil //nolint:nilerr // the same
	}
	r.Served, r.Devices, r.Stored, r.Share, r.Consumers = true, sessions, info.Store, share, info.Consumers
	return nil
}

// online is how many devices are connected, as the edges say.
func online(ctx context.Context, nc *nats.Conn) (int, error) {
	answer, err := nc.RequestWithContext(ctx, subjects.CoordinatorEndpoint("status"), nil)
	if err != nil {
		return 0, err
	}
	var status struct{ Online int }
	err = json.Unmarshal(answer.Data, &status)
	return status.Online, err
}
