package main

import (
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"github.com/rccs-io/rccs/auth"
	"github.com/rccs-io/rccs/internal/revoke"
	"github.com/rccs-io/rccs/wire"
)

func newRevocationsCommand(env *environment) *cobra.Command {
	cmd := group(&cobra.Command{
		Use:   "revoke",
		Short: "End credentials that were issued until now",
		Long: `End credentials that were issued until now, used or not, at every edge and NATS
server within a second, and for good: connections are closed, and do not come
back. What is issued afterwards works. A revoked device's inbox stays until the
device is forgotten.

It needs the installation's keys, and tells the servers. When none can be
reached, the revocation is kept in the keys and comes into force when the server
is started.`,
	})
	one := newRevokeCommand(env)
	one.Use, one.Example = "device USER/DEVICE", "  rccs revoke device alice/phone"
	cmd.AddCommand(one,
		env.revocation("user USER", "End the credentials of all devices of a user", `  rccs revoke user alice`, `
An edge refuses every credential of the user. NATS servers know keys, not users:
they refuse those of all devices that are registered or enrolled, or for which
'rccs creds device' made a credential with these keys. What was made elsewhere
with a copy of the keys, and never used, stands on plain NATS until it expires,
unless the user is revoked there too.`, auth.RevokedUser),
		env.revocation("service NAME", "End the credentials of a service", `  rccs revoke service billing`, "", auth.RevokedService),
		env.revocation("all", "End every credential that is older than a time", `  rccs revoke all --dry-run
  rccs revoke all --yes
  rccs revoke all --yes --before 2026-11-01T00:00:00Z`, `
Services and operators need new credentials afterwards. So do edges and
coordinators that run apart with --creds: write the new file in the place of the
old one, and they connect again. Those that have the keys issue their own.`, auth.RevokedAll),
		newRevokedListCommand(env), newRevokeUndoCommand(env),
	)
	return cmd
}

// revocation is the command for one kind.
func (env *environment) revocation(use, short, example, more string, kind auth.RevocationKind) *cobra.Command {
	var f revokeFlags
	before, n, want := "", 1, use
	if kind == auth.RevokedAll {
		n, want = 0, "none"
	}
	cmd := &cobra.Command{
		Use: use, Short: short, Long: short + " that were issued until now.\n" + more, Example: example, Args: arguments(n, want),
		RunE: func(cmd *cobra.Command, args []string) error {
			r := auth.Revocation{Kind: kind, At: time.Now()}
			if n == 1 {
				r.Name = args[0]
			}
			if before != "" || cmd.Flags().Changed("before") { // an empty one is a variable that was not set
				at, ok := wire.ParseTime(before)
				if !ok || at.After(r.At) {
					return usageError{fmt.Errorf("--before %q: want a time that is past, such as 2026-11-01T00:00:00Z", before)}
				}
				r.At = at.Add(-time.Second) // JWTs count in seconds, and what is of that one stays
			}
			if err := r.Check(); err != nil {
				return usageError{err}
			}
			return env.change(cmd.Context(), &f, r, false)
		},
	}
	f.register(cmd)
	if kind == auth.RevokedAll {
		cmd.Long = "End every credential of the tenant that was issued until now, or before a time.\n" + more
		cmd.Flags().StringVar(&before, "before", "", "only what was issued before this `time` (RFC 3339)")
		cmd.Flags().BoolVar(&f.yes, "yes", false, "do it")
		cmd.Flags().BoolVar(&f.dryRun, "dry-run", false, "say what would end, and do nothing")
	} else {
		f.registerKnown(cmd)
	}
	return cmd
}

// wouldEnd says whose credentials revoking all would end.
func (env *environment) wouldEnd(f *revokeFlags, all *revoke.Holders) error {
	what := fmt.Sprintf("this ends the credentials of %s and %s", many(len(all.Devices), "device"), many(len(all.Services), "service"))
	if all.Unreached != nil {
		what += fmt.Sprintf(", as far as the keys say (%s cannot be reached: %v)", shown(f.server), all.Unreached)
	}
	if f.dryRun && f.json {
		return env.json(map[string]any{"devices": append([]string{}, all.Devices...), "services": append([]string{}, all.Services...), "reached": all.Unreached == nil})
	}
	if f.dryRun {
		_, err := fmt.Fprintf(env.err, "rccs: %s; nothing was done\n", what)
		return err
	}
	return usageError{fmt.Errorf("%s: repeat with --yes to do it", what)}
}

func many(n int, what string) string {
	if n != 1 {
		what += "s"
	}
	return number(n) + " " + what
}

func newRevokedListCommand(env *environment) *cobra.Command {
	var f revokeFlags
	cmd := &cobra.Command{
		Use:     "ls",
		Short:   "List what is revoked",
		Long:    "List what is revoked, the latest first, as the installation's keys have it.",
		Example: "  rccs revoke ls",
		Args:    arguments(0, "none"),
		RunE: func(*cobra.Command, []string) error {
			keys, err := env.installed(f.data)
			if err != nil {
				return err
			}
			all, err := keys.Revocations()
			if err != nil {
				return err
			}
			if f.json {
				return env.json(append([]auth.Revocation{}, all...)) // never null
			}
			tab := newTable(column{title: "WHAT"}, column{title: "NAME"}, column{title: "ISSUED UNTIL"}, column{title: "AGE", right: true})
			for _, r := range all {
				tab.row(string(r.Kind), r.Name, r.At.Format(time.RFC3339), ago(&r.At))
			}
			return env.list(tab, "nothing is revoked")
		},
	}
	cmd.Flags().StringVarP(&f.data, "data", "d", "./data", "`directory` of the installation's keys")
	cmd.Flags().BoolVarP(&f.json, "json", "j", false, "print JSON")
	return cmd
}

func newRevokeUndoCommand(env *environment) *cobra.Command {
	var f revokeFlags
	cmd := &cobra.Command{
		Use:   "undo KIND [NAME]",
		Short: "Take a revocation back",
		Long: `Take a revocation back that 'rccs revoke ls' lists: credentials that it ended, and
that have not expired, are good again.`,
		Example: `  rccs revoke undo device alice/phone
  rccs revoke undo user alice
  rccs revoke undo all`,
		Args: func(_ *cobra.Command, args []string) error {
			if len(args) == 0 || len(args) > 2 {
				return usageError{fmt.Errorf("%d arguments given, want device, user or service and a NAME, or all", len(args))}
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			r := auth.Revocation{Kind: auth.RevocationKind(args[0])}
			if len(args) == 2 {
				r.Name = args[1]
			}
			if err := checkUndo(r); err != nil {
				return usageError{err}
			}
			return env.change(cmd.Context(), &f, r, true)
		},
	}
	f.register(cmd)
	return cmd
}

// checkUndo returns why there can be no such revocation to take back.
func checkUndo(r auth.Revocation) error {
	switch r.Kind {
	case auth.RevokedDevice, auth.RevokedUser, auth.RevokedService:
		if r.Name == "" {
			return fmt.Errorf("which %s? A NAME is missing", r.Kind)
		}
		return r.Check()
	case auth.RevokedAll:
		if r.Name != "" {
			return fmt.Errorf("all takes no name, and %q is given", r.Name)
		}
		return nil
	}
	return fmt.Errorf("%q is no kind of revocation: want device, user or service and a NAME, or all", r.Kind)
}
