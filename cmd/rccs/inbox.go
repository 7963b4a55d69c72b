package main

import (
	"context"
	"errors"
	"fmt"
	"strconv"

	"github.com/spf13/cobra"

	"github.com/rccs-io/rccs/internal/audit"
	"github.com/rccs-io/rccs/internal/ops"
	"github.com/rccs-io/rccs/subjects"
)

func newInboxCommand(env *environment) *cobra.Command {
	cmd := group(&cobra.Command{
		Use:   "inbox",
		Short: "Look at inboxes, and empty them",
		Long: `Look at what is stored for devices, how much of it is not acknowledged, and
since when, and what devices refused; and remove messages.`,
	})
	cmd.AddCommand(newInboxListCommand(env), newInboxShowCommand(env), newInboxRejectedCommand(env), newInboxPurgeCommand(env))
	return cmd
}

type inboxListFlags struct {
	target
	order, after string
	unacked      bool
	limit        uint
}

func newInboxListCommand(env *environment) *cobra.Command {
	var f inboxListFlags
	cmd := &cobra.Command{
		Use:   "ls [USER]",
		Short: "List inboxes, or those of one user",
		Long: `List the inboxes that hold messages: how many are stored, how many of those are
not acknowledged, how old the oldest of them is, and when the device's cursor
last moved.

With --sort unacknowledged or oldest every inbox is read first, which takes some
seconds where there are a hundred thousand.`,
		Example: `  rccs inbox ls --sort unacknowledged --limit 20   # who falls behind
  rccs inbox ls alice --json
  rccs inbox ls --after alice/phone                # the next page`,
		Args: optional("USER"),
		RunE: operating(env, &f, &f.target, f.query, (*environment).listInboxes),
	}
	f.add(cmd)
	flags := cmd.Flags()
	checkedVar(flags, &f.order, "sort", ops.ByName, "`order`: name, stored, unacknowledged or oldest", ops.CheckOrder)
	flags.BoolVar(&f.unacked, "unacknowledged", false, "leave out inboxes in which all is acknowledged")
	addPaging(cmd, &f.limit, &f.after)
	return cmd
}

// addPaging adds the flags of a list by name that may be long.
func addPaging(cmd *cobra.Command, limit *uint, after *string) {
	cmd.Flags().UintVar(limit, "limit", 0, "list at most this `number` (default 100, with --json all)")
	cmd.Flags().StringVar(after, "after", "", "go on behind `USER/DEVICE`, the last of the page before")
}

// after reads --after; none is the zero address.
func after(name string) (a subjects.Address, err error) {
	if name == "" {
		return a, nil
	}
	if a, err = subjects.ParseAddress(name); err != nil {
		return a, usageError{fmt.Errorf("--after: %w", err)}
	}
	return a, nil
}

// pageSize is the limit of a list.
func pageSize(limit uint, json bool) int {
	if limit == 0 && !json {
		return 100
	}
	return int(limit)
}

// optional refuses more than one argument, naming what is wanted.
func optional(want string) cobra.PositionalArgs {
	return func(_ *cobra.Command, args []string) error {
		if len(args) <= 1 {
			return nil
		}
		return usageError{fmt.Errorf("%d arguments given, want at most %s", len(args), want)}
	}
}

// user reads an optional argument that is a user's name.
func user(args []string) (subjects.UserID, error) {
	if len(args) == 0 {
		return "", nil
	}
	a := subjects.Address{User: subjects.UserID(args[0]), Device: "any"}
	if err := a.Check(); err != nil {
		return "", usageError{err}
	}
	return a.User, nil
}

func (f *inboxListFlags) query(args []string) (q ops.InboxQuery, err error) {
	q = ops.InboxQuery{Order: f.order, Unacknowledged: f.unacked, Limit: pageSize(f.limit, f.json)}
	if q.User, err = user(args); err != nil {
		return q, err
	}
	if f.after != "" && f.order != ops.ByName {
		return q, usageError{errors.New("--after goes with --sort name only")}
	}
	q.After, err = after(f.after)
	return q, err
}

func (env *environment) listInboxes(ctx context.Context, f *inboxListFlags, t *ops.Tenant, q ops.InboxQuery) error {
	bar := env.progress("looked at")
	q.Progress = bar.at
	list, more, err := t.Inboxes(ctx, q)
	bar.end()
	return listed(env, f.json, q.Order == ops.ByName, list, more, err, "no such inbox holds a message", func() *table {
		tab := newTable(column{title: "DEVICE"}, column{title: "STORED", right: true},
			column{title: "UNACKNOWLEDGED", right: true}, column{title: "OLDEST", right: true}, column{title: "CURSOR MOVED", right: true, extra: 1})
		for _, i := range list {
			tab.row(i.Address().String(), number(i.Stored), number(i.Unacknowledged), ago(i.Oldest), ago(i.CursorAt))
		}
		return tab
	})
}

// listed prints a page of devices or inboxes, as a table or as JSON, and how to
// see the rest. none is said when it is empty. failed is the error that came with it.
func listed[T interface{ Address() subjects.Address }](env *environment, asJSON, byName bool, list []T, more bool, failed error, none string, tab func() *table) error {
	err := entries(env, asJSON, list, failed, none, tab)
	if (err == nil || isPartial(err)) && more {
		env.noteMore(byName, list[len(list)-1].Address())
	}
	return err
}

// entries prints a list as listed prints a page.
func entries[T any](env *environment, asJSON bool, list []T, failed error, none string, tab func() *table) error {
	return env.whole(len(list), failed, func() error {
		if asJSON {
			return env.json(append([]T{}, list...)) // none is [], not null
		}
		return env.list(tab(), none)
	})
}

// whole prints a list of n entries, and returns the error that came with it. If some
// shards could not be read, the list of the others is printed: none of it is no answer.
func (*environment) whole(n int, failed error, show func() error) error {
	if failed != nil && (n == 0 || !isPartial(failed)) {
		return failed
	}
	if err := show(); err != nil {
		return err
	}
	return failed
}

// isPartial reports whether a list lacks what some shards have.
func isPartial(err error) bool { return errors.As(err, new(*ops.PartialError)) }

// noteMore says how to see the rest of a list.
func (env *environment) noteMore(byName bool, last subjects.Address) {
	if byName {
		env.note("there are more: --after %s", strconv.Quote(last.String()))
		return
	}
	env.note("there are more: raise --limit")
}

func newInboxShowCommand(env *environment) *cobra.Command {
	var f target
	cmd := &cobra.Command{
		Use:   "show USER/DEVICE",
		Short: "Show the lanes of one inbox, and its cursor",
		Long: `Show, for each lane of a device's inbox, what is stored and how far the device
is: everything up to ACKED is acknowledged, UNACKED was sent and is not
acknowledged, PENDING was not sent.`,
		Example: `  rccs inbox show alice/phone`,
		Args:    arguments(1, "USER/DEVICE"),
		RunE: func(cmd *cobra.Command, args []string) error {
			a, err := address(args[0])
			if err != nil {
				return err
			}
			return env.operate(cmd.Context(), &f, func(ctx context.Context, t *ops.Tenant) error {
				i, err := t.Inbox(ctx, a)
				if err != nil {
					return err
				}
				return env.showInbox(&f, i)
			})
		},
	}
	f.add(cmd)
	return cmd
}

func (env *environment) showInbox(f *target, i *ops.Inbox) error {
	if f.json {
		return env.json(i)
	}
	tab := newTable(column{title: "LANE"}, column{title: "STORED", right: true}, column{title: "FIRST", right: true}, column{title: "LAST", right: true},
		column{title: "ACKED", right: true}, column{title: "UNACKED", right: true}, column{title: "PENDING", right: true}, column{title: "OLDEST", right: true})
	for _, l := range i.Lanes {
		tab.row(l.Lane, number(l.Stored), strconv.FormatUint(l.First, 10), strconv.FormatUint(l.Last, 10),
			strconv.FormatUint(l.AckFloor, 10), number(l.Unacked), number(l.Waiting), ago(l.Oldest))
	}
	if err := env.table(tab); err != nil {
		return err
	}
	moved := "never moved"
	if i.CursorAt != nil {
		moved = "last moved " + ago(i.CursorAt) + " ago"
	}
	return env.printf("\n%s: %s stored, %s not acknowledged;\nits cursor %s\n", i.Address(), number(i.Stored), number(i.Unacknowledged), moved)
}

type inboxPurgeFlags struct {
	target
	lane       string
	acked, yes bool
}

func newInboxPurgeCommand(env *environment) *cobra.Command {
	var f inboxPurgeFlags
	cmd := &cobra.Command{
		Use:   "purge USER/DEVICE",
		Short: "Remove the messages of an inbox",
		Long: `Remove messages from a device's inbox for good: all of them, or those of one lane.
With --acknowledged only messages go that the device has acknowledged or refused,
which frees room and takes nothing from it.

Messages that it had not acknowledged are lost, and cannot be replayed. The device
is told a gap with the reason "purged", and senders that asked hear "expired".`,
		Example: `  rccs inbox purge alice/phone --acknowledged
  rccs inbox purge alice/phone --lane low --yes`,
		Args: arguments(1, "USER/DEVICE"),
		RunE: func(cmd *cobra.Command, args []string) error {
			a, err := address(args[0])
			if err != nil {
				return err
			}
			if !f.acked && !f.yes {
				return usageError{errors.New("this loses messages that the device has not acknowledged: say --yes, or --acknowledged to remove only the others")}
			}
			return env.operate(cmd.Context(), &f.target, func(ctx context.Context, t *ops.Tenant) error {
				return env.purgeInbox(ctx, &f, t, a)
			})
		},
	}
	f.add(cmd)
	flags := cmd.Flags()
	checkedVar(flags, &f.lane, "lane", "", "only this `lane`: low, normal, high or critical", checkLane)
	flags.BoolVar(&f.acked, "acknowledged", false, "only what the device has acknowledged")
	flags.BoolVar(&f.yes, "yes", false, "remove what is not acknowledged, too")
	return cmd
}

func (env *environment) purgeInbox(ctx context.Context, f *inboxPurgeFlags, t *ops.Tenant, a subjects.Address) error {
	opts := ops.PurgeOptions{Acknowledged: f.acked}
	if f.lane != "" {
		l, _ := subjects.ParseLane(f.lane) // the flag was checked
		opts.Lanes = []subjects.Lane{l}
	}
	return env.purge(ctx, &f.target, t, a, f.lane, "", func() (uint64, error) { return t.Purge(ctx, a, opts) })
}

// purge removes messages of an inbox, and keeps a record of it. what is the kind
// of messages.
func (env *environment) purge(ctx context.Context, f *target, t *ops.Tenant, a subjects.Address, detail, what string, remove func() (uint64, error)) error {
	var removed uint64
	err := t.Act(ctx, act(audit.ActionPurge, a.String(), detail), func() (err error) {
		removed, err = remove()
		return err
	})
	if err != nil {
		return err
	}
	if f.json {
		return env.json(map[string]any{"user": a.User, "device": a.Device, "removed": removed})
	}
	return env.printf("removed %s%s of %s\n", number(removed), what, a)
}
