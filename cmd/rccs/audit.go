package main

import (
	"context"
	"fmt"
	"os"
	osuser "os/user"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/rccs-io/rccs/internal/audit"
	"github.com/rccs-io/rccs/internal/ops"
)

// act is a record of what this command is about to do.
func act(action, target, detail string) audit.Record {
	r := audit.Record{Action: action, Target: target, Detail: detail, Who: "unknown", From: "unknown"}
	if u, err := osuser.Current(); err == nil {
		r.Who = u.Username
	}
	if host, err := os.Hostname(); err == nil {
		r.From = host
	}
	return r
}

type auditFlags struct {
	target
	since  since
	action string
	limit  uint
}

func newAuditCommand(env *environment) *cobra.Command {
	var f auditFlags
	cmd := &cobra.Command{
		Use:   "audit",
		Short: "List what operators have done",
		Long: `List who revoked, replayed, purged, forgot, drained or backed up, who read
messages of another, and who was enrolled: when, and from where.

Records are kept for a year, and nobody can change or remove a single one of them.
Whoever has the credential of a part can delete them all, but it shows that they
are gone.`,
		Example: `  rccs audit
  rccs audit --since 30d --action revoke --json`,
		Args: arguments(0, "none"),
		RunE: func(cmd *cobra.Command, _ []string) error {
			return env.operate(cmd.Context(), &f.target, func(ctx context.Context, t *ops.Tenant) error {
				return env.audits(ctx, &f, t)
			})
		},
	}
	f.add(cmd)
	flags := cmd.Flags()
	f.since.add(flags, "7d", "how far to look back")
	checkedVar(flags, &f.action, "action", "", "list only this `action`, such as revoke", checkAction)
	flags.UintVar(&f.limit, "limit", 0, "list only the last `number` of records (default all)")
	return cmd
}

func checkAction(s string) error {
	if !slices.Contains(audit.Actions(), s) {
		return fmt.Errorf("want one of %s", strings.Join(audit.Actions(), ", "))
	}
	return nil
}

func (env *environment) audits(ctx context.Context, f *auditFlags, t *ops.Tenant) error {
	list, err := t.Audits(ctx, ops.AuditQuery{Since: f.since.at, Action: f.action, Limit: int(f.limit)})
	if err != nil {
		return err
	}
	if f.json {
		return env.json(append([]audit.Record{}, list...)) // never null
	}
	tab := newTable(column{title: "WHEN"}, column{title: "ACTION"}, column{title: "TARGET"}, column{title: "WHO"},
		column{title: "FROM", least: 8, extra: 2}, column{title: "DETAIL", least: 10, extra: 1}, column{title: "RESULT"}, column{title: "WHY", least: 8})
	for _, r := range list {
		tab.row(moment(r.At), r.Action, r.Target, r.Who, r.From, r.Detail, r.Result, r.Why)
	}
	if len(list) == 0 {
		return env.printf("nothing was done since %s\n", moment(f.since.at))
	}
	return env.list(tab, "nothing of the kind was done since then")
}
