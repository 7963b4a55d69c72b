package main

import (
	"context"

	"github.com/spf13/cobra"

	"github.com/rccs-io/rccs/internal/ops"
)

func newEdgesCommand(env *environment) *cobra.Command {
	cmd := group(&cobra.Command{
		Use:   "edges",
		Short: "Look at edges",
		Long:  "Look at the edges, the processes that devices connect to.",
	})
	cmd.AddCommand(newEdgesListCommand(env))
	return cmd
}

func newEdgesListCommand(env *environment) *cobra.Command {
	var f target
	cmd := &cobra.Command{
		Use:   "ls",
		Short: "List the edges that run",
		Long: `List the edges that hold a lease, how many devices are connected to each, and
when it last renewed the lease. One that dies without a word is in the list for
up to ten seconds.`,
		Example: `  rccs edges ls`,
		Args:    arguments(0, "none"),
		RunE: func(cmd *cobra.Command, _ []string) error {
			return env.operate(cmd.Context(), &f, func(ctx context.Context, t *ops.Tenant) error {
				edges, err := t.Edges(ctx)
				if err != nil {
					return err
				}
				if f.json {
					return env.json(edges)
				}
				return env.table(edgeTable(edges))
			})
		},
	}
	f.add(cmd)
	return cmd
}

func edgeTable(edges []ops.Edge) *table {
	tab := newTable(column{title: "EDGE", least: 10}, column{title: "ADDRESS", least: 12}, column{title: "VERSION", least: 7},
		column{title: "DEVICES", right: true}, column{title: "UP", right: true}, column{title: "RENEWED", right: true}, column{title: "ID"})
	for _, e := range edges {
		tab.row(e.Name, e.Address, e.Version, number(e.Devices), ago(&e.Started), ago(&e.Renewed), e.ID)
	}
	return tab
}
