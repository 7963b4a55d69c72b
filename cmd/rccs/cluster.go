package main

import (
	"context"
	"fmt"
	"os"

	"github.com/spf13/cobra"

	defaults "github.com/rccs-io/rccs"
	"github.com/rccs-io/rccs/internal/localcluster"
)

func newClusterCommand(env *environment) *cobra.Command {
	plan := localcluster.Plan{NATS: 4222, Routes: 6222, Devices: 8080, Admin: 8091}
	cmd := &cobra.Command{
		Use:   "cluster",
		Short: "Try a cluster of servers and edges on this machine",
		Long: `Run three servers, each with NATS and a coordinator, and two edges, each a
process of its own on this machine. Every message is stored by three servers: kill
one of the processes, and see that nothing is lost. Ctrl-C stops all of them; the
next time they go on with what is stored.

In earnest the processes run on machines of their own: docs/cluster.md.`,
		Example: `  rccs cluster
  rccs connect alice/phone --data cluster/server-1
  pkill -9 -f cluster/server-2          # and watch`,
		Args: arguments(0, "none"),
		RunE: func(cmd *cobra.Command, _ []string) error { return env.cluster(cmd.Context(), &plan) },
	}
	flags := cmd.Flags()
	flags.StringVar(&plan.Dir, "dir", "./cluster", "`directory` of everything")
	flags.Var(between(&plan.Servers, 3, 3, 5), "servers", "how many `servers`, 3 to 5")
	flags.Var(between(&plan.Edges, 2, 1, 16), "edges", "how many `edges`")
	port := func(to *int, name, of string) {
		flags.Var(between(to, *to, 1, 65535-32), name, "`port` of "+of+"; the next ones follow")
	}
	port(&plan.Devices, "port", "the first edge")
	port(&plan.NATS, "nats-port", "the first server")
	port(&plan.Routes, "route-port", "the first server's routes")
	port(&plan.Admin, "admin-port", "the first server's admin listener, before those of the edges")
	return cmd
}

func (env *environment) cluster(ctx context.Context, plan *localcluster.Plan) error {
	program, err := os.Executable()
	if err != nil {
		return fmt.Errorf("find this program: %w", err)
	}
	plan.Config = defaults.DefaultConfig()
	all, err := plan.Processes()
	if err != nil {
		return err
	}
	return localcluster.Run(ctx, program, all, env.err, func() {
		for _, p := range all {
			address := "nats    " + p.NATS
			if p.Devices != "" {
				address = "devices ws://" + p.Devices + "/v1/ws"
			}
			_ = env.printf("%-10s %-38s admin http://%s\n", p.Name, address, p.Admin)
		}
		_ = env.printf(`
Try, in another terminal:
  %[2]s connect alice/phone --data %[1]s
and in a third:
  %[2]s send alice/phone '{"hello":"world"}' --data %[1]s
  %[2]s status --data %[1]s
`, plan.Data(), os.Args[0])
	})
}
