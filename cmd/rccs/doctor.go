package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"github.com/spf13/cobra"

	"github.com/rccs-io/rccs/internal/node"
	"github.com/rccs-io/rccs/internal/ops"
	"github.com/rccs-io/rccs/internal/shard"
)

func newDoctorCommand(env *environment) *cobra.Command {
	var f target
	cmd := &cobra.Command{
		Use:   "doctor",
		Short: "Find out what is wrong, and what to do",
		Long: `Look for what is wrong with an installation, or soon will be: what the credential
may do, streams that differ from what they should be, copies that lag, storage
that is nearly full, clocks that differ, edges and coordinators that are missing,
inboxes that grow, messages of services that reached nobody. Each finding says
what to do.

With the installation's keys (--data) the servers are asked, too. The status is 1
when something fails; warnings do not change it.`,
		Example: `  rccs doctor
  rccs doctor --json | jq '.[] | select(.level != "ok")'`,
		Args: arguments(0, "none"),
		RunE: func(cmd *cobra.Command, _ []string) error {
			return env.examine(cmd.Context(), &f, func(ctx context.Context, t *ops.Tenant) error {
				err := t.CheckShards(ctx)
				if _, ok := errors.AsType[*shard.CountError](err); ok {
					return f.divided(err)
				}
				return env.doctor(ctx, &f, t)
			})
		},
	}
	f.add(cmd)
	return cmd
}

// levelColours are those of the levels of findings.
var levelColours = map[string]colour{ops.LevelOK: green, ops.LevelWarn: yellow, ops.LevelFail: red}

// errUnwell is told after the findings.
var errUnwell = errors.New("something does not work: see the findings that say fail")

func (env *environment) doctor(ctx context.Context, f *target, t *ops.Tenant) error {
	opts := ops.DoctorOptions{Differences: node.Differences}
	if store := filepath.Join(f.data, "jetstream"); f.creds == "" && f.context == "" {
		if _, err := os.Stat(store); err == nil {
			opts.Free = func() (uint64, error) { return ops.DiskFree(store) }
		}
	}
	list, err := t.Doctor(ctx, opts)
	if err != nil {
		return err
	}
	if f.json {
		if err := env.json(list); err != nil {
			return err
		}
	}
	unwell := false
	for _, found := range list {
		unwell = unwell || found.Level == ops.LevelFail
		if f.json {
			continue
		}
		env.coloured(fmt.Sprintf("%-7s", found.Level), levelColours[found.Level])
		if err := env.printf("  %-13s %s\n", found.Check, printable(found.What)); err != nil {
			return err
		}
		if found.Fix != "" {
			_ = env.printf("%23s-> %s\n", "", printable(env.hints(found.Fix)))
		}
	}
	if unwell {
		return errUnwell
	}
	return nil
}
