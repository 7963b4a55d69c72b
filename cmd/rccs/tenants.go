package main

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/rccs-io/rccs/auth"
	"github.com/rccs-io/rccs/internal/audit"
	"github.com/rccs-io/rccs/internal/revoke"
	"github.com/rccs-io/rccs/subjects"
)

// ofAllTenants are the commands that are of the whole installation.
var ofAllTenants = []string{"serve", "cluster", "backup", "restore", "tenants", "version", "completion"}

// checkTenant refuses --tenant where it has no say.
func (env *environment) checkTenant(cmd *cobra.Command) error {
	if env.tenant == auth.DefaultTenant {
		return nil
	}
	if err := auth.CheckTenant(env.tenant); err != nil {
		return usageError{fmt.Errorf("--tenant: %w", err)}
	}
	for _, name := range ofAllTenants {
		if strings.HasPrefix(cmd.CommandPath()+" ", "rccs "+name+" ") {
			return usageError{fmt.Errorf("--tenant %s: rccs %s is about the whole installation", env.tenant, name)}
		}
	}
	for _, name := range []string{"creds", "context"} {
		if f := cmd.Flags().Lookup(name); f != nil && f.Changed {
			return usageError{fmt.Errorf("--tenant %s: with --%s the tenant is the credential's", env.tenant, name)}
		}
	}
	return nil
}

func (env *environment) completeTenants(cmd *cobra.Command, _ []string, _ string) ([]cobra.Completion, cobra.ShellCompDirective) {
	if env.bind(cmd.Flags()) != nil {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	data := "./data"
	if f := cmd.Flags().Lookup("data"); f != nil {
		data = f.Value.String()
	}
	keys, err := (&environment{tenant: auth.DefaultTenant}).installed(data)
	if err != nil {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	names, err := keys.TenantNames()
	if err != nil {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	return names, cobra.ShellCompDirectiveNoFileComp
}

type tenantFlags struct {
	revokeFlags
	devices, consumers int64
	storage            string
	shards             shardCount
}

func newTenantsCommand(env *environment) *cobra.Command {
	cmd := group(&cobra.Command{
		Use:   "tenants",
		Short: "Add, list and remove tenants",
		Long: `A tenant has NATS accounts, keys, streams and limits of its own. Tenants see
nothing of each other; the same names of users and devices in two tenants are
different users and devices. Every installation has the tenant "default". All
other commands take --tenant NAME.

These commands need the installation's keys. A server that runs with the same
keys finds a change by itself. In a cluster, copy the files of a new tenant to
each server; restart edges that run apart.`,
	})
	cmd.AddCommand(newTenantsAddCommand(env), newTenantsSetCommand(env), newTenantsListCommand(env), newTenantsRemoveCommand(env))
	return cmd
}

func (f *tenantFlags) limits(flags *pflag.FlagSet) {
	flags.Int64Var(&f.devices, "max-devices", 0, "how many devices may be connected to an edge at once; 0: no limit")
	flags.StringVar(&f.storage, "max-storage", "", "how much its streams may take, such as 500MB or 10GB (default: no limit)")
	flags.Int64Var(&f.consumers, "max-consumers", 0, "how many JetStream consumers it may have, with RCCS's own, which are some 20 for each server and edge; 0: no limit")
}

func (f *tenantFlags) wanted() (auth.Limits, error) {
	l := auth.Limits{Devices: f.devices, Consumers: f.consumers}
	for flag, n := range map[string]int64{"max-devices": f.devices, "max-consumers": f.consumers} {
		if n < 0 {
			return l, usageError{fmt.Errorf("--%s %d: want 0, for no limit, or more", flag, n)}
		}
	}
	if f.storage == "" || f.storage == "0" {
		return l, nil
	}
	for unit, factor := range map[string]float64{"KB": 1e3, "MB": 1e6, "GB": 1e9, "TB": 1e12} {
		if text, ok := strings.CutSuffix(strings.ToUpper(f.storage), unit); ok {
			n, err := strconv.ParseFloat(strings.TrimSpace(text), 64)
			if err == nil && n > 0 && n*factor < 1e18 {
				l.StorageBytes = int64(n * factor)
				return l, nil
			}
		}
	}
	return l, usageError{fmt.Errorf("--max-storage %q: want a size such as 500MB or 10GB", f.storage)}
}

func newTenantsAddCommand(env *environment) *cobra.Command {
	var f tenantFlags
	cmd := &cobra.Command{
		Use:   "add NAME",
		Short: "Add a tenant",
		Long: `Make the keys of a new tenant. A running 'rccs serve' with these keys serves it
within a second or two.`,
		Example: `  rccs tenants add acme --max-devices 1000 --max-storage 10GB
  rccs creds device alice/phone --tenant acme > phone.creds`,
		Args: arguments(1, "NAME"),
		RunE: func(cmd *cobra.Command, args []string) error { return env.addTenant(cmd.Context(), &f, args[0]) },
	}
	f.register(cmd)
	f.limits(cmd.Flags())
	cmd.Flags().Var(&f.shards, "shards", "in how many shards its users are divided, 1 to 64; it cannot be changed later (default 1)")
	return cmd
}

// servedTimeout is how long it is waited for the tenant to be served: as long as a
// busy server takes to make its streams. Tests have it wait as long as they do.
var servedTimeout = time.Minute

func (env *environment) addTenant(ctx context.Context, f *tenantFlags, name string) error {
	if err := auth.CheckTenant(name); err != nil {
		return usageError{err}
	}
	limits, err := f.wanted()
	if err != nil {
		return err
	}
	keys, dial, err := env.at(&f.revokeFlags)
	if err != nil {
		return err
	}
	reached := env.recordTenant(ctx, dial, keys, "add", name)
	tenant, err := keys.AddTenantWith(name, max(int(f.shards), 1), limits)
	if err != nil {
		return err
	}
	if reached != nil {
		env.note("%s cannot be reached: %v", shown(f.server), reached)
		return env.answer(f.json, map[string]any{"tenant": name, "served": false}, "added: %s; it is served when 'rccs serve' runs with these keys\n", name)
	}
	ctx, cancel := context.WithTimeout(ctx, servedTimeout)
	defer cancel()
	// At once, or the servers would look for the account elsewhere for a while.
	i := revoke.Installation{Keys: tenant, Dial: dial}
	if err := errors.Join(i.Tell(ctx), awaitTenant(ctx, dial, tenant)); err != nil {
		return fmt.Errorf("added, but it is not served: %w (does the 'rccs serve' at %s use the keys of %s? its log says more)", err, shown(f.server), f.data)
	}
	return env.answer(f.json, map[string]any{"tenant": name, "served": true}, "added: %s, and served\n", name)
}

// dialPart connects in the account of the keys' tenant.
func dialPart(dial dialFunc, keys *auth.Keystore) (*nats.Conn, error) {
	part, err := keys.IssuePart("tenants")
	if err != nil {
		return nil, err
	}
	return dial(part)
}

// recordTenant keeps a record, with the default tenant, of what is about to be
// done. The error says why no server can be reached.
func (env *environment) recordTenant(ctx context.Context, dial dialFunc, keys *auth.Keystore, verb, name string) error {
	return onJetStream(func() (*nats.Conn, error) { return dialPart(dial, keys) }, func(_ *nats.Conn, js jetstream.JetStream) error {
		return audit.Write(ctx, js, act(audit.ActionTenant, name, verb))
	})
}

// onJetStream does something over a connection of its own.
func onJetStream(dial func() (*nats.Conn, error), do func(*nats.Conn, jetstream.JetStream) error) error {
	nc, err := dial()
	if err != nil {
		return err
	}
	defer nc.Close()
	js, err := jetstream.New(nc)
	if err != nil {
		return err
	}
	return do(nc, js)
}

// awaitTenant returns when the tenant's coordinator answers.
func awaitTenant(ctx context.Context, dial dialFunc, keys *auth.Keystore) (err error) {
	tick := time.NewTicker(100 * time.Millisecond)
	defer tick.Stop()
	for {
		if err = askTenant(dial, keys); err == nil {
			return nil
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return err
		}
	}
}

func askTenant(dial dialFunc, keys *auth.Keystore) error {
	nc, err := dialPart(dial, keys)
	if err != nil {
		return err
	}
	defer nc.Close()
	_, err = nc.Request(subjects.CoordinatorEndpoint("edges"), nil, 2*time.Second)
	return err
}

func newTenantsSetCommand(env *environment) *cobra.Command {
	var f tenantFlags
	cmd := &cobra.Command{
		Use:   "set NAME",
		Short: "Change a tenant's limits",
		Long: `Set a tenant's limits. A limit that is not given is removed. A limit of storage is
not made lower than what is stored needs.`,
		Example: "  rccs tenants set acme --max-devices 5000",
		Args:    arguments(1, "NAME"),
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := auth.CheckTenant(args[0]); err != nil {
				return usageError{err}
			}
			return env.setTenant(cmd.Context(), &f, args[0])
		},
	}
	f.register(cmd)
	f.limits(cmd.Flags())
	return cmd
}

func (env *environment) setTenant(ctx context.Context, f *tenantFlags, name string) error {
	limits, err := f.wanted()
	if err != nil {
		return err
	}
	all, dial, err := env.at(&f.revokeFlags)
	if err != nil {
		return err
	}
	keys, err := all.Tenant(name)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, revokeTimeout)
	defer cancel()
	i := revoke.Installation{Keys: keys, Dial: dial}
	err = i.Change(ctx, act(audit.ActionTenant, name, "set"), func() (auth.Account, error) {
		if err := roomFor(ctx, dial, keys, limits); err != nil {
			return auth.Account{}, audit.Refused(fmt.Errorf("%w; nothing was changed", err))
		}
		return keys.SetLimits(limits)
	})
	if untold, changed := errors.AsType[*revoke.UntoldError](err); changed {
		return fmt.Errorf("changed in the keys, but no server has confirmed it: %w (restart 'rccs serve')", untold)
	} else if err != nil {
		return err
	}
	return env.answer(f.json, map[string]any{"tenant": name, "limits": limits}, "changed: %s\n", name)
}

// roomFor refuses a lower limit that what is stored would fill: nothing could be
// written for the tenant then, neither an acknowledgement nor the change itself. Of
// servers that do not answer it is not known what is stored.
func roomFor(ctx context.Context, dial dialFunc, keys *auth.Keystore, limits auth.Limits) error {
	now, err := keys.Limits()
	if err != nil {
		return err
	}
	if limits.StorageBytes == 0 || now.StorageBytes != 0 && limits.StorageBytes >= now.StorageBytes {
		return nil
	}
	stored, known := storedOf(ctx, dial, keys)
	// The streams of messages get nine tenths of the limit: the rest is for
	// acknowledgements and the like.
	least := stored + stored/9
	if !known || uint64(limits.StorageBytes) >= least { //nolint:gosec // it is not negative
		return nil
	}
	return fmt.Errorf("the tenant stores %s, and with a limit of %s no device could acknowledge: remove messages first ('rccs inbox ls' shows where they are), or give --max-storage %dKB or more",
		size(stored), size(uint64(limits.StorageBytes)), least/1000+1) //nolint:gosec // the same
}

// storedOf is how many bytes the tenant stores, if servers say so.
func storedOf(ctx context.Context, dial dialFunc, keys *auth.Keystore) (bytes uint64, known bool) {
	err := onJetStream(func() (*nats.Conn, error) { return dialPart(dial, keys) }, func(_ *nats.Conn, js jetstream.JetStream) error {
		info, err := js.AccountInfo(ctx)
		if err == nil {
			bytes = info.Store
		}
		return err
	})
	return bytes, err == nil
}

func newTenantsRemoveCommand(env *environment) *cobra.Command {
	var f tenantFlags
	cmd := &cobra.Command{
		Use:   "rm NAME",
		Short: "Remove a tenant with all that is its",
		Long: `Remove a tenant: its keys, and with them all of its credentials for good, its
connections and its streams. A tenant of the same name that is added later is
another. In a cluster, do this with the keys of each server.`,
		Example: `  rccs tenants rm acme --yes`,
		Args:    arguments(1, "NAME"),
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := auth.CheckTenant(args[0]); err != nil {
				return usageError{err}
			}
			if !f.yes {
				return usageError{errors.New("this ends all credentials of the tenant and removes all of its messages: say --yes")}
			}
			return env.removeTenant(cmd.Context(), &f, args[0])
		},
	}
	f.register(cmd)
	cmd.Flags().BoolVar(&f.yes, "yes", false, "remove all messages of the tenant, too")
	return cmd
}

func (env *environment) removeTenant(ctx context.Context, f *tenantFlags, name string) error {
	keys, dial, err := env.at(&f.revokeFlags)
	if err != nil {
		return err
	}
	tenant, err := keys.Tenant(name)
	if err != nil {
		return err
	}
	part, err := tenant.IssuePart("tenants") // before there are no keys
	if err != nil {
		return err
	}
	reached := env.recordTenant(ctx, dial, keys, "rm", name)
	if _, err := tenant.RemoveTenant(); err != nil {
		return err
	}
	if reached != nil {
		env.note("%s cannot be reached: %v", shown(f.server), reached)
		return env.answer(f.json, map[string]any{"tenant": name, "removed": true, "told": false}, "removed: %s; a server that starts with these keys refuses its credentials\n", name)
	}
	ctx, cancel := context.WithTimeout(ctx, servedTimeout)
	defer cancel()
	if err := awaitRefusal(ctx, dial, part); err != nil {
		return fmt.Errorf("removed from the keys, but %s still takes its credentials: %w", shown(f.server), err)
	}
	return env.answer(f.json, map[string]any{"tenant": name, "removed": true, "told": true}, "removed: %s\n", name)
}

// awaitRefusal returns when the server refuses the credential.
func awaitRefusal(ctx context.Context, dial dialFunc, cred auth.Credential) error {
	tick := time.NewTicker(100 * time.Millisecond)
	defer tick.Stop()
	for {
		nc, err := dial(cred)
		if errors.Is(err, nats.ErrAuthorization) || errors.Is(err, nats.ErrAuthRevoked) {
			return nil
		}
		if err == nil {
			nc.Close()
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}
