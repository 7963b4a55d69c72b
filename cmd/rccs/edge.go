package main

import (
	"context"
	"fmt"
	"runtime/debug"
	"strconv"
	"strings"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/rccs-io/rccs/auth"
	"github.com/rccs-io/rccs/internal/node"
	"github.com/rccs-io/rccs/internal/private"
	"github.com/rccs-io/rccs/subjects"
)

type edgeFlags struct {
	serverFlags
	listen, adminListen, name string
	advertise                 string
	shards                    shardList
	log                       logFlags
	tenantCreds               []string
	inboxLimit                limit
	limits                    limitFlags
	transport                 transportFlags
	trace                     otlpFlags
	startWait                 time.Duration
	stopWithin                within
}

func newEdgeCommand(env *environment) *cobra.Command {
	var f edgeFlags
	cmd := &cobra.Command{
		Use:   "edge",
		Short: "Run an edge apart from the NATS servers",
		Long: `Run only what devices connect to, against NATS servers that run elsewhere, such
as 'rccs serve'. Any number of edges serve the same devices; each device may
connect to any of them.

An edge needs the credential of a part of RCCS, one for each tenant that it
serves: 'rccs creds part' makes it. With the installation's keys instead it serves
every tenant that exists when it starts. SIGHUP reads the certificate files again
and closes no connection.`,
		Example: `  rccs creds part edge-1 > edge-1.creds
  rccs edge --server nats://a:4222 --creds edge-1.creds --listen 0.0.0.0:8080`,
		Args: arguments(0, "none"),
		RunE: func(cmd *cobra.Command, _ []string) error { return env.edge(cmd.Context(), &f) },
	}
	f.add(cmd)
	flags := cmd.Flags()
	flags.StringVar(&f.listen, "listen", "127.0.0.1:8080", "`address` for devices (WebSocket)")
	flags.StringVar(&f.adminListen, "admin-listen", "127.0.0.1:8081", "`address` for health and metrics; empty for none")
	flags.StringVar(&f.name, "name", "", "`name` of this edge, its own and the same after a restart (default: host and --listen)")
	flags.Var(&f.shards, "shards", "which `shards` of each tenant to serve, such as 0-3 or 0,2; not how many there are, as for other commands (default: all)")
	checkedVar(flags, &f.advertise, "advertise", "", "`URL` at which other edges have devices of these shards connect, such as wss://edge-1.example.com", node.CheckAdvertised)
	flags.Var(names{&f.tenantCreds}, "tenant-creds", tenantCredsUsage)
	f.inboxLimit.add(flags)
	addStartWait(flags, &f.startWait)
	addStopWithin(flags, &f.stopWithin)
	f.limits.add(flags)
	f.transport.add(flags)
	f.trace.add(flags)
	f.log.add(flags)
	return cmd
}

// logins are how a part of RCCS connects for each tenant: with credentials that
// are issued, or read from the files, anew each time.
func (env *environment) logins(f *serverFlags, more []string, name string) ([]node.Login, error) {
	if f.creds == "" {
		keys, err := env.installed(f.data)
		if err != nil {
			return nil, err
		}
		names := []string{env.tenant}
		if env.tenant == auth.DefaultTenant {
			if names, err = keys.TenantNames(); err != nil {
				return nil, err
			}
		}
		var all []node.Login
		for _, tenant := range names {
			l, err := issued(keys, tenant, name)
			if err != nil {
				return nil, err
			}
			all = append(all, l)
		}
		return all, nil
	}
	var all []node.Login
	for _, path := range append([]string{f.creds}, more...) {
		cred, err := credentialOf(path)
		if err != nil {
			return nil, err
		}
		if holder, _, err := cred.Holder(); err == nil && ofDeviceOrService(holder) {
			return nil, fmt.Errorf("--creds %s is the credential of %s: want one that 'rccs creds part' has made", path, holder)
		}
		all = append(all, node.Login{Tenant: cred.Tenant(), Credential: cred, Option: nats.UserCredentials(path)})
	}
	return all, nil
}

// ofDeviceOrService reports whether a credential of this name may not do what a
// part of RCCS does: it would wait for streams that it may not ask for.
func ofDeviceOrService(holder string) bool {
	_, err := subjects.ParseAddress(holder)
	return err == nil || strings.HasPrefix(holder, "service:")
}

// issued is the login of a part with the keys.
func issued(keys *auth.Keystore, tenant, name string) (node.Login, error) {
	keys, err := keys.Tenant(tenant)
	if err != nil {
		return node.Login{}, err
	}
	option, err := keys.PartOption(name)
	if err != nil {
		return node.Login{}, err
	}
	cred, err := keys.IssuePart(name)
	return node.Login{Tenant: tenant, Credential: cred, Option: option}, err
}

const tenantCredsUsage = "credentials `file` of a further tenant, beside --creds; may be repeated"

func (env *environment) edge(ctx context.Context, f *edgeFlags) error {
	logins, err := env.logins(&f.serverFlags, f.tenantCreds, "edge")
	if err != nil {
		return err
	}
	if _, set := env.lookup("GOGC"); !set {
		debug.SetGCPercent(gcPercent)
	}
	reach, err := f.reach()
	if err != nil {
		return err
	}
	ctx, asked := env.hangups(ctx)
	e, err := node.NewEdge(node.EdgeOptions{
		RemoteOptions: node.RemoteOptions{
			Server: f.server, Logins: logins, Name: f.name, AdminListen: f.adminListen, Version: version, Logger: env.logging(ctx, &f.log),
			Transport: f.transport.options(), Tracing: f.trace.options(), NATS: reach, Reread: asked, StartWait: f.startWait, StopWithin: time.Duration(f.stopWithin), InboxLimit: int(f.inboxLimit), Limits: f.limits.options(f.inboxLimit),
		},
		Listen: f.listen, Shards: string(f.shards), Advertise: f.advertise,
	})
	if err != nil {
		return err
	}
	return e.Run(ctx, func() {
		_ = env.printf("devices   %s://%s/v1/ws\n", f.transport.scheme("ws", f.transport.tls), e.Addr())
		if addr := e.AdminAddr(); addr != nil {
			_ = env.printf("admin     %s://%s\n", f.transport.scheme("http", f.transport.adminTLS), addr)
		}
	})
}

func newCredsPartCommand(env *environment) *cobra.Command {
	var from keyFlags
	var out string
	cmd := &cobra.Command{
		Use:   "part NAME",
		Short: "Make the credential of an edge or a coordinator",
		Long: `Print a .creds file for a part of RCCS itself, such as an edge that runs on a
machine of its own. It may do everything in the tenant: keep it as safe as the
installation's keys. With --out it is written to a file that only its owner may
read, which is for containers without a shell.`,
		Example: `  rccs creds part edge-1 > edge-1.creds
  rccs creds part edges --init --data /var/lib/rccs --out /run/rccs/edges.creds`,
		Args: arguments(1, "NAME"),
		RunE: func(_ *cobra.Command, args []string) error {
			if err := auth.CheckPart(args[0]); err != nil {
				return usageError{err}
			}
			keys, err := env.keysFor(from)
			if err != nil {
				return err
			}
			cred, err := keys.IssuePart(args[0])
			if err != nil {
				return err
			}
			if out != "" {
				file, err := cred.File()
				if err != nil {
					return err
				}
				if err := private.Replace(out, file); err != nil {
					return fmt.Errorf("--out: %w", err)
				}
				return nil
			}
			return env.printCreds(cred)
		},
	}
	from.add(cmd.Flags())
	cmd.Flags().StringVar(&out, "out", "", "write it to this `file`, with mode 0600, instead of printing it")
	return cmd
}

// limit is the flag --inbox-limit.
type limit int

// defaultInboxLimit is how much a device may leave unacknowledged.
const defaultInboxLimit = 10_000

func (l *limit) add(flags *pflag.FlagSet) {
	*l = defaultInboxLimit
	flags.Var(l, "inbox-limit", "how many unacknowledged `messages` an inbox holds; past it senders are told QUEUE_FULL")
}

// String implements pflag.Value.
func (l *limit) String() string { return strconv.Itoa(int(*l)) }

// Type implements pflag.Value.
func (*limit) Type() string { return "number" }

// Set implements pflag.Value.
func (l *limit) Set(s string) error {
	n, err := strconv.Atoi(s)
	if err != nil || n < 1 || n > maxInboxLimit {
		return fmt.Errorf("want a number from 1 to %d", maxInboxLimit)
	}
	*l = limit(n)
	return nil
}

// maxInboxLimit is well below what a lane keeps, acknowledged messages
// included.
const maxInboxLimit = 50_000
