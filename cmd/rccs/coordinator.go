package main

import (
	"context"
	"time"

	"github.com/spf13/cobra"

	"github.com/rccs-io/rccs/internal/node"
)

type coordinatorFlags struct {
	serverFlags
	adminListen, name string
	log               logFlags
	trace             otlpFlags
	tenantCreds       []string
	transport         transportFlags
	limits            limitFlags
	inboxLimit        limit
	startWait         time.Duration
	stopWithin        within
}

func newCoordinatorCommand(env *environment) *cobra.Command {
	var f coordinatorFlags
	cmd := &cobra.Command{
		Use:   "coordinator",
		Short: "Run a coordinator apart from the NATS servers",
		Long: `Run only what routes the messages of services, ends the sessions of dead edges,
and answers operators and devices on NATS, against NATS servers that run
elsewhere, such as 'rccs serve'. Any number may run: they share the work, and
'nats micro ls' lists them.

A coordinator needs a credential of a part of RCCS, which 'rccs creds part'
makes, or the installation's keys. SIGHUP reads the files of certificates again.`,
		Example: `  rccs creds part coordinator-1 > coordinator-1.creds
  rccs coordinator --server nats://10.0.0.7:4222 --creds coordinator-1.creds`,
		Args: arguments(0, "none"),
		RunE: func(cmd *cobra.Command, _ []string) error { return env.coordinator(cmd.Context(), &f) },
	}
	f.add(cmd)
	flags := cmd.Flags()
	flags.StringVar(&f.adminListen, "admin-listen", "127.0.0.1:8081", "`address` for health and metrics; empty for none")
	flags.Var(names{&f.tenantCreds}, "tenant-creds", tenantCredsUsage)
	f.transport.addAdmin(flags)
	f.limits.addRates(flags)
	f.inboxLimit.add(flags)
	addStartWait(flags, &f.startWait)
	addStopWithin(flags, &f.stopWithin)
	flags.StringVar(&f.name, "name", "", "`name` of this coordinator, for people (default: one that is made up)")
	f.log.add(flags)
	f.trace.add(flags)
	return cmd
}

func (env *environment) coordinator(ctx context.Context, f *coordinatorFlags) error {
	logins, err := env.logins(&f.serverFlags, f.tenantCreds, "coordinator")
	if err != nil {
		return err
	}
	reach, err := f.reach()
	if err != nil {
		return err
	}
	ctx, asked := env.hangups(ctx)
	c, err := node.NewCoordinator(node.RemoteOptions{
		Server: f.server, Logins: logins, Name: f.name, AdminListen: f.adminListen, Version: version, Logger: env.logging(ctx, &f.log),
		Transport: f.transport.options(), Tracing: f.trace.options(), NATS: reach, Reread: asked, StartWait: f.startWait, StopWithin: time.Duration(f.stopWithin), Limits: f.limits.options(f.inboxLimit), InboxLimit: int(f.inboxLimit),
	})
	if err != nil {
		return err
	}
	return c.Run(ctx, func() {
		_ = env.printf("coordinating on %s\n", f.address())
		if addr := c.AdminAddr(); addr != nil {
			_ = env.printf("admin     %s://%s\n", f.transport.scheme("http", f.transport.adminTLS), addr)
		}
	})
}
