package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"github.com/rccs-io/rccs/internal/audit"
	"github.com/rccs-io/rccs/internal/ops"
)

func newEdgesCommand(env *environment) *cobra.Command {
	cmd := group(&cobra.Command{
		Use:   "edges",
		Short: "Look at edges",
		Long:  "Look at the edges, the processes that devices connect to.",
	})
	cmd.AddCommand(newEdgesListCommand(env), newEdgesDrainCommand(env))
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
				return env.whole(len(edges), err, func() error {
					if f.json {
						return env.json(edges)
					}
					return env.table(edgeTable(edges))
				})
			})
		},
	}
	f.add(cmd)
	return cmd
}

func edgeTable(edges []ops.Edge) *table {
	tab := newTable(column{title: "EDGE"}, column{title: "ADDRESS", extra: 2}, column{title: "VERSION", least: 7, extra: 3},
		column{title: "DEVICES", right: true}, column{title: "UP", right: true}, column{title: "RENEWED", right: true, extra: 1}, column{title: "ID"})
	for _, e := range edges {
		tab.row(e.Name, e.Address, e.Version, number(e.Devices), ago(&e.Started), ago(&e.Renewed), e.ID)
	}
	return tab
}

type drainFlags struct {
	target
	name                string
	rate                int
	undo, force, noWait bool
}

func newEdgesDrainCommand(env *environment) *cobra.Command {
	var f drainFlags
	cmd := &cobra.Command{
		Use:   "drain [EDGE]",
		Short: "Send the devices of an edge elsewhere",
		Long: `Let an edge take no more devices, and close the connections that it has, some a
second, with code 1001: their devices come back at once, to another edge. Nothing
is lost. The edge is not ready (/readyz) from then on, so that a load balancer
leaves it out; stop it, or let it serve again with --undo. Without EDGE it is the
one named by --name, or by RCCS_NAME, which an edge's own machine has set.`,
		Example: `  rccs edges drain edge-2
  rccs edges drain edge-2 --rate 200
  rccs edges drain edge-2 --undo`,
		Args: optional("EDGE"),
		RunE: func(cmd *cobra.Command, args []string) error {
			if len(args) == 0 && f.name != "" {
				args = []string{f.name}
			}
			if err := arguments(1, "the EDGE's name or id, as 'rccs edges ls' shows it")(cmd, args); err != nil {
				return err
			}
			return env.operate(cmd.Context(), &f.target, func(ctx context.Context, t *ops.Tenant) error {
				return env.drain(ctx, t, &f, args[0])
			})
		},
	}
	f.add(cmd)
	flags := cmd.Flags()
	flags.StringVar(&f.name, "name", "", "`name` of the edge, instead of EDGE")
	flags.IntVar(&f.rate, "rate", 0, "how many `connections` a second are closed; 0: as many as the edge does when it stops (1,000)")
	flags.BoolVar(&f.undo, "undo", false, "let the edge take devices again")
	flags.BoolVar(&f.force, "force", false, "drain it although no other edge takes devices")
	flags.BoolVar(&f.noWait, "no-wait", false, "do not wait until the devices are gone")
	return cmd
}

// drainLook is how often a draining edge is asked what it has left.
const drainLook = 200 * time.Millisecond

func (env *environment) drain(ctx context.Context, t *ops.Tenant, f *drainFlags, name string) error {
	if f.rate < 0 {
		return usageError{errors.New("--rate: want a positive number")}
	}
	e, err := t.FindEdge(ctx, name)
	if err != nil {
		return err
	}
	what := "drain"
	if f.undo {
		what = "undo"
	}
	if err := t.Audit(ctx, act(audit.ActionDrain, e.Name, what)); err != nil {
		return err
	}
	if f.undo {
		n, err := t.AskEdge(ctx, e.ID, ops.EdgeResume, 0)
		if err != nil {
			return err
		}
		return env.drained(f, e, n, "takes devices again")
	}
	if !f.force {
		err := t.OnlyEdge(ctx, &e)
		if errors.Is(err, ops.ErrOnlyEdge) {
			return fmt.Errorf("%w (start another with 'rccs edge', let one take devices again with --undo, or add --force)", err)
		}
		if err != nil {
			return err
		}
	}
	all, err := t.AskEdge(ctx, e.ID, ops.EdgeDrain, f.rate)
	if err != nil {
		return err
	}
	if f.noWait {
		return env.drained(f, e, all, "drains")
	}
	return env.awaitDrained(ctx, t, f, e, all)
}

// awaitDrained waits until none of an edge's connections, all at first, is left.
func (env *environment) awaitDrained(ctx context.Context, t *ops.Tenant, f *drainFlags, e ops.Edge, all int) error {
	bar := env.progress("drained")
	defer bar.end()
	tick := time.NewTicker(drainLook)
	defer tick.Stop()
	for {
		left, err := t.AskEdge(ctx, e.ID, ops.EdgeCount, 0)
		if err != nil {
			return err
		}
		if left == 0 {
			bar.end()
			return env.drained(f, e, all, "is drained")
		}
		bar.at(max(all-left, 0), all)
		select {
		case <-tick.C:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// drained says what became of the connections of an edge.
func (env *environment) drained(f *drainFlags, e ops.Edge, n int, what string) error {
	if f.json {
		return env.json(struct {
			Edge        string `json:"edge"`
			ID          string `json:"id"`
			Connections int    `json:"connections"`
		}{e.Name, e.ID, n})
	}
	return env.printf("edge %s %s: %s connections\n", e.Name, what, number(n))
}
