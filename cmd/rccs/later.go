package main

import (
	"context"
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"github.com/rccs-io/rccs/internal/audit"
	"github.com/rccs-io/rccs/internal/ops"
	"github.com/rccs-io/rccs/subjects"
)

func newLaterCommand(env *environment) *cobra.Command {
	cmd := group(&cobra.Command{
		Use:   "later",
		Short: "Look at delayed messages, and cancel them",
		Long: `Look at the messages that are stored and wait until they are due, and take them
back. When one is due it moves to the inbox of its device: 'rccs missed' lists it
from then on.`,
	})
	cmd.AddCommand(newLaterListCommand(env), newLaterCancelCommand(env))
	return cmd
}

type laterListFlags struct {
	target
	limit uint
}

func newLaterListCommand(env *environment) *cobra.Command {
	var f laterListFlags
	cmd := &cobra.Command{
		Use:   "ls [USER[/DEVICE]]",
		Short: "List delayed messages, those due first at the top",
		Long: `List the delayed messages to one device, to the devices of a user, or to all
devices. A message to several devices is listed once for each of them.`,
		Example: `  rccs later ls alice
  rccs later ls alice/phone --json`,
		Args: optional("USER or USER/DEVICE"),
		RunE: operating(env, &f, &f.target, scope, (*environment).listLater),
	}
	f.add(cmd)
	cmd.Flags().UintVar(&f.limit, "limit", 0, "list at most `number` messages (default 100, with --json all)")
	return cmd
}

func (env *environment) listLater(ctx context.Context, f *laterListFlags, t *ops.Tenant, s subjects.Scope) error {
	if err := t.Audit(ctx, act(audit.ActionRead, s.String(), "later")); err != nil {
		return err
	}
	list, failed := t.Later(ctx, s)
	if failed != nil && !isPartial(failed) {
		return failed
	}
	if limit := pageSize(f.limit, f.json); limit > 0 && len(list) > limit {
		env.note("there are %s: raise --limit", number(len(list)))
		list = list[:limit]
	}
	return entries(env, f.json, list, failed, "nothing waits to become due", func() *table { return laterTable(list) })
}

// laterTable is a list of delayed messages for people.
func laterTable(list []*ops.Delayed) *table {
	tab := newTable(column{title: "DEVICE"}, column{title: "IN", right: true}, column{title: "DUE", extra: 3}, column{title: "LANE", extra: 1},
		column{title: "TYPE", least: 6}, column{title: "ID"}, column{title: "FROM", least: 6, extra: 2}, column{title: "BYTES", right: true, extra: 4})
	for _, d := range list {
		due, left := "-", "-"
		if !d.Due.IsZero() {
			due, left = moment(d.Due), span(max(time.Until(d.Due), 0))
		}
		tab.row(d.User+"/"+d.Device, left, due, d.Lane, d.Type, d.ID, d.From, number(d.Bytes))
	}
	return tab
}

func newLaterCancelCommand(env *environment) *cobra.Command {
	var f target
	cmd := &cobra.Command{
		Use:   "cancel USER ID",
		Short: "Cancel the delayed messages of an id",
		Long: `Remove the delayed messages to the devices of a user that have an id, whoever sent
them: every copy of a message to several devices. What has become due is not
touched. The status is 1 when no message of the id waits.`,
		Example: `  rccs later cancel alice reminder-17`,
		Args:    arguments(2, "USER and ID"),
		RunE: func(cmd *cobra.Command, args []string) error {
			u, err := user(args[:1])
			if err != nil {
				return err
			}
			if err := checkMessageID(args[1]); err != nil {
				return usageError{fmt.Errorf("id %q: %w", args[1], err)}
			}
			return env.operate(cmd.Context(), &f, func(ctx context.Context, t *ops.Tenant) error {
				return env.cancelLater(ctx, &f, t, u, args[1])
			})
		},
	}
	f.add(cmd)
	return cmd
}

func (env *environment) cancelLater(ctx context.Context, f *target, t *ops.Tenant, u subjects.UserID, id string) error {
	var n uint64
	err := t.Act(ctx, act(audit.ActionPurge, string(u), "later, id "+id), func() (err error) {
		n, err = t.CancelLater(ctx, u, id)
		return err
	})
	switch {
	case err != nil:
		return err
	case f.json:
		err = env.json(map[string]any{"user": u, "id": id, "cancelled": n})
	case n > 0:
		err = env.printf("cancelled %s of %s\n", number(n), u)
	}
	if err == nil && n == 0 {
		err = fmt.Errorf("no delayed message to %s has the id %q: it may have become due ('rccs later ls %s' lists what waits)", u, id, u)
	}
	return err
}

// laterIDs are the ids of the delayed messages to a user's devices.
func laterIDs(u subjects.UserID) func(context.Context, *ops.Tenant, string) ([]string, error) {
	return func(ctx context.Context, t *ops.Tenant, _ string) (ids []string, err error) {
		list, err := t.Later(ctx, subjects.Scope{User: u})
		for _, d := range list {
			ids = append(ids, d.ID)
		}
		return ids, err
	}
}
