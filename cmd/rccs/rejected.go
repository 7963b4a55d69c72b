package main

import (
	"context"
	"fmt"
	"strconv"

	"github.com/spf13/cobra"

	"github.com/rccs-io/rccs/internal/audit"
	"github.com/rccs-io/rccs/internal/ops"
	"github.com/rccs-io/rccs/subjects"
)

type rejectedFlags struct {
	target
	drop, yes bool
	id        string
}

func newInboxRejectedCommand(env *environment) *cobra.Command {
	var f rejectedFlags
	cmd := &cobra.Command{
		Use:   "rejected [USER[/DEVICE]]",
		Short: "List messages that devices refused, or could not be sent",
		Long: `List the messages that a device refused, all devices of a user, or all devices.
A message is here for one of three reasons: the device refused it (REASON is what
it said), it was sent on as many connections as --max-deliveries allows and none
acknowledged it (maxDeliveries), or no frame to the device can hold it (tooLarge).

None of them blocks what is behind it, and their senders were told. Each is kept
until retention takes it. Deliver it again with 'rccs replay --rejected', to the
same device or to another one; remove it for good with --drop.`,
		Example: `  rccs inbox rejected alice/phone
  rccs inbox rejected --json | jq -r '.[] | "\(.user)/\(.device) \(.reason)"'
  rccs replay alice/phone --rejected --to alice/desktop
  rccs inbox rejected alice/phone --drop --id order-17 --yes`,
		Args: optional("USER or USER/DEVICE"),
		RunE: operating(env, &f, &f.target, f.scope, (*environment).rejected),
	}
	f.add(cmd)
	flags := cmd.Flags()
	flags.BoolVar(&f.drop, "drop", false, "remove them for good; needs --yes")
	checkedVar(flags, &f.id, "id", "", "with --drop: only those of this `id`", checkMessageID)
	flags.BoolVar(&f.yes, "yes", false, "with --drop: do it")
	return cmd
}

// scope returns the devices that the argument and the flags name. Its error means
// bad usage.
func (f *rejectedFlags) scope(args []string) (subjects.Scope, error) {
	s, err := scope(args)
	switch {
	case err != nil:
		return s, err
	case f.drop && s.Device == "":
		return s, usageError{fmt.Errorf("--drop wants one USER/DEVICE")}
	case f.drop && !f.yes:
		return s, usageError{fmt.Errorf("this removes messages that %s has not accepted, for good: say --yes", s)}
	case !f.drop && (f.id != "" || f.yes):
		return s, usageError{fmt.Errorf("--id and --yes go with --drop")}
	}
	return s, nil
}

func (env *environment) rejected(ctx context.Context, f *rejectedFlags, t *ops.Tenant, s subjects.Scope) error {
	if f.drop {
		return env.dropRejected(ctx, f, t, subjects.Address(s))
	}
	return env.listRejected(ctx, f, t, s)
}

func (env *environment) listRejected(ctx context.Context, f *rejectedFlags, t *ops.Tenant, s subjects.Scope) error {
	if err := t.Audit(ctx, act(audit.ActionRead, s.String(), "rejected")); err != nil {
		return err
	}
	list, err := t.Rejected(ctx, s)
	return entries(env, f.json, list, err, "no message is rejected", func() *table { return rejectedTable(list, s.Device == "") })
}

// rejectedTable is a list of rejected messages for people, with whose they are
// where they are of several devices.
func rejectedTable(list []*ops.RejectedMessage, devices bool) *table {
	columns := []column{
		{title: "SEQ", right: true},
		{title: "LANE", extra: 1},
		{title: "TYPE", least: 6},
		{title: "ID"},
		{title: "REASON", least: 8},
		{title: "REJECTED", right: true},
		{title: "SENT", extra: 2},
	}
	if devices {
		columns = append([]column{{title: "DEVICE"}}, columns...)
	}
	tab := newTable(columns...)
	for _, r := range list {
		cells := []string{strconv.FormatUint(r.Seq, 10), r.Lane, r.Type, r.ID, r.Reason, ago(&r.RejectedAt), r.Timestamp}
		if devices {
			cells = append([]string{r.User + "/" + r.Device}, cells...)
		}
		tab.row(cells...)
	}
	return tab
}

func (env *environment) dropRejected(ctx context.Context, f *rejectedFlags, t *ops.Tenant, a subjects.Address) error {
	detail := "rejected"
	if f.id != "" {
		detail += ", id " + f.id
	}
	return env.purge(ctx, &f.target, t, a, detail, " rejected", func() (uint64, error) { return t.DropRejected(ctx, a, f.id) })
}
