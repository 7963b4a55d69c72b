package main

import (
	"context"
	"strconv"

	"github.com/spf13/cobra"

	"github.com/rccs-io/rccs/internal/audit"
	"github.com/rccs-io/rccs/internal/ops"
	"github.com/rccs-io/rccs/subjects"
)

type missedFlags struct {
	target
	limit uint
}

func newMissedCommand(env *environment) *cobra.Command {
	var f missedFlags
	cmd := &cobra.Command{
		Use:   "missed USER/DEVICE",
		Short: "List what a device has not acknowledged",
		Long: `List the messages that are stored for a device and that it has not acknowledged,
sent to it or not, in the order of storage. An acknowledgement is seen a second or
two after the device gave it.`,
		Example: `  rccs missed alice/phone
  rccs missed alice/phone --json | jq length`,
		Args: arguments(1, "USER/DEVICE"),
		RunE: func(cmd *cobra.Command, args []string) error {
			return env.onDevice(cmd.Context(), &f.target, args[0], func(ctx context.Context, t *ops.Tenant, a subjects.Address) error {
				return env.missed(ctx, &f, t, a)
			})
		},
	}
	f.add(cmd)
	cmd.Flags().UintVar(&f.limit, "limit", 0, "list at most `number` messages (default all)")
	return cmd
}

func (env *environment) missed(ctx context.Context, f *missedFlags, t *ops.Tenant, a subjects.Address) error {
	if err := t.Audit(ctx, act(audit.ActionRead, a.String(), "missed")); err != nil {
		return err
	}
	list := []*ops.Message{} // in JSON none is [], not null
	more := false
	bar := env.progress("read")
	for m, err := range t.Missed(ctx, a) {
		if err != nil {
			bar.end()
			return err
		}
		if f.limit > 0 && len(list) == int(f.limit) {
			more = true
			break
		}
		list = append(list, m.Summary())
		bar.at(len(list), 0)
	}
	bar.end()
	if more {
		env.note("there are more than %d", f.limit)
	}
	if f.json {
		return env.json(list)
	}
	if len(list) == 0 {
		return env.printf("%s has acknowledged everything\n", a)
	}
	return env.table(messageTable(list))
}

// messageTable is a list of messages for people.
func messageTable(list []*ops.Message) *table {
	t := newTable(column{title: "SEQ", right: true}, column{title: "LANE"}, column{title: "TYPE", least: 10},
		column{title: "ID"}, column{title: "FROM", least: 8, extra: 1}, column{title: "STORED", extra: 3}, column{title: "AGE", right: true},
		column{title: "BYTES", right: true, extra: 2})
	for _, m := range list {
		t.row(strconv.FormatUint(m.Seq, 10), m.Lane, m.Type, m.ID, string(m.From), moment(m.Stored), ago(&m.Stored), number(m.Bytes))
	}
	return t
}
