package main

import (
	"context"
	"errors"
	"fmt"
	"strconv"

	"github.com/spf13/cobra"

	"github.com/rccs-io/rccs/internal/audit"
	"github.com/rccs-io/rccs/internal/ops"
)

type traceFlags struct {
	target
	since since
}

func newTraceCommand(env *environment) *cobra.Command {
	var f traceFlags
	cmd := &cobra.Command{
		Use:   "trace ID [USER[/DEVICE]]",
		Short: "Show the life of one message",
		Long: `Show what became of a message, by its id: where and when it was stored, whether
it waits for a device or for its time, whether each recipient was sent it and
has acknowledged it, what its sender was told, and when recipients came and went
meanwhile.

Ids are not indexed: the headers of what was stored are searched, some hundred
thousand a second. The name of the user, or of the recipient, narrows that.`,
		Example: `  rccs trace order-17
  rccs trace order-17 alice/phone --since 7d`,
		Args: func(_ *cobra.Command, args []string) error {
			if len(args) == 0 || len(args) > 2 {
				return usageError{fmt.Errorf("%d arguments given, want ID, and USER or USER/DEVICE if you like", len(args))}
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			opts := ops.TraceOptions{ID: args[0]}
			var err error
			if opts.Scope, err = scope(args[1:]); err != nil {
				return err
			}
			opts.Since = f.since.at
			return env.operate(cmd.Context(), &f.target, func(ctx context.Context, t *ops.Tenant) error {
				return env.trace(ctx, &f, t, opts)
			})
		},
	}
	f.add(cmd)
	f.since.add(cmd.Flags(), "24h", "how far back to search")
	return cmd
}

func (env *environment) trace(ctx context.Context, f *traceFlags, t *ops.Tenant, opts ops.TraceOptions) error {
	if err := t.Audit(ctx, act(audit.ActionRead, opts.Scope.String(), "trace "+opts.ID)); err != nil {
		return err
	}
	bar := env.progress("searched")
	opts.Progress = bar.at
	got, err := t.Trace(ctx, opts)
	bar.end()
	if errors.Is(err, ops.ErrNoMessage) {
		return fmt.Errorf("no message with the id %q was stored since %s (--since %s): an earlier --since looks further back", opts.ID, moment(f.since.at), f.since.text)
	}
	if err != nil {
		return err
	}
	if f.json {
		return env.json(got)
	}
	copies := newTable(column{title: "RECIPIENT"}, column{title: "LANE"}, column{title: "SEQ", right: true}, column{title: "TYPE", least: 8, extra: 2},
		column{title: "FROM", least: 8, extra: 1}, column{title: "STATE"}, column{title: "OUTCOME"}, column{title: "AFTER", right: true, extra: 4}, column{title: "EDGE NOW", extra: 3})
	for _, c := range got.Copies {
		after := "-"
		if c.OutcomeAt != nil {
			after = span(c.OutcomeAt.Sub(c.Stored))
		}
		copies.row(c.User+"/"+c.Device, c.Lane, strconv.FormatUint(c.Seq, 10), c.Type, string(c.From), c.State, orDash(c.Outcome), after, orDash(c.Edge))
	}
	if len(got.Copies) > 0 {
		if err := env.table(copies); err != nil {
			return err
		}
		if err := env.printf("\n"); err != nil {
			return err
		}
	}
	steps := newTable(column{title: "TIME"}, column{title: "STEP"}, column{title: "WHO"}, column{title: "SEQ", right: true}, column{title: "WHAT", least: 16})
	for _, s := range got.Steps {
		who := s.User
		if s.Device != "" {
			who += "/" + s.Device
		}
		steps.row(exactMoment(s.At), s.Step, orDash(who), strconv.FormatUint(s.Seq, 10), s.Detail)
	}
	return env.table(steps)
}

func orDash(s string) string {
	if s == "" {
		return "-"
	}
	return s
}
