package main

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"github.com/rccs-io/rccs/internal/audit"
	"github.com/rccs-io/rccs/internal/ops"
	"github.com/rccs-io/rccs/subjects"
	"github.com/rccs-io/rccs/wire"
)

func newDevicesCommand(env *environment) *cobra.Command {
	cmd := group(&cobra.Command{
		Use:   "devices",
		Short: "Look at registered devices, revoke and forget them",
		Long: `Look at the devices that have registered and whether they are connected; end
their credentials; remove them.`,
	})
	cmd.AddCommand(newDevicesListCommand(env), newDevicesShowCommand(env), newDevicesForgetCommand(env), newRevokeCommand(env))
	return cmd
}

type devicesFlags struct {
	target
	online      bool
	kind, after string
	limit       uint
}

func newDevicesListCommand(env *environment) *cobra.Command {
	var f devicesFlags
	cmd := &cobra.Command{
		Use:   "ls [USER]",
		Short: "List devices, or those of one user",
		Long: `List the devices that have registered, by name: what they are, whether they are
connected and to which edge, and when they were last seen.`,
		Example: `  rccs devices ls
  rccs devices ls alice --json
  rccs devices ls --online --type desktop
  rccs devices ls --after alice/phone      # the next page`,
		Args: optional("USER"),
		RunE: operating(env, &f, &f.target, f.query, (*environment).listDevices),
	}
	f.add(cmd)
	flags := cmd.Flags()
	flags.BoolVar(&f.online, "online", false, "leave out devices that are not connected")
	flags.StringVar(&f.kind, "type", "", "only devices of this `type`")
	addPaging(cmd, &f.limit, &f.after)
	return cmd
}

func (f *devicesFlags) query(args []string) (q ops.DeviceQuery, err error) {
	q = ops.DeviceQuery{Online: f.online, Type: f.kind, Limit: pageSize(f.limit, f.json)}
	if q.User, err = user(args); err != nil {
		return q, err
	}
	q.After, err = after(f.after)
	return q, err
}

func (env *environment) listDevices(ctx context.Context, f *devicesFlags, t *ops.Tenant, q ops.DeviceQuery) error {
	bar := env.progress("looked at")
	q.Progress = bar.at
	list, more, err := t.Devices(ctx, q)
	bar.end()
	return listed(env, f.json, true, list, more, err, "no such device has registered", func() *table {
		tab := newTable(column{title: "DEVICE"}, column{title: "TYPE", least: 7}, column{title: "PLATFORM", least: 8, extra: 2},
			column{title: "VERSION", least: 7, extra: 3}, column{title: "STATUS"}, column{title: "LAST SEEN", right: true}, column{title: "EDGE", extra: 1})
		for _, d := range list {
			tab.row(d.Address().String(), d.Type, d.Platform, d.Version, d.Status, seen(d), d.Edge)
		}
		return tab
	})
}

// seen is when a device was last seen: one that is connected is seen now.
func seen(d *ops.Device) string {
	if d.Status != wire.Offline {
		return "now"
	}
	return ago(&d.LastSeen)
}

func newDevicesShowCommand(env *environment) *cobra.Command {
	var f target
	cmd := &cobra.Command{
		Use:     "show USER/DEVICE",
		Short:   "Show one device, its session and its inbox",
		Long:    "Show what a device said of itself, where it is connected, and what waits for it.",
		Example: `  rccs devices show alice/phone`,
		Args:    arguments(1, "USER/DEVICE"),
		RunE: func(cmd *cobra.Command, args []string) error {
			return env.onDevice(cmd.Context(), &f, args[0], func(ctx context.Context, t *ops.Tenant, a subjects.Address) error {
				return env.showDevice(ctx, &f, t, a)
			})
		},
	}
	f.add(cmd)
	return cmd
}

func (env *environment) showDevice(ctx context.Context, f *target, t *ops.Tenant, a subjects.Address) error {
	d, err := t.Report(ctx, a)
	if err != nil {
		return err
	}
	if f.json {
		return env.json(d)
	}
	waits := "nothing"
	if d.Inbox.Unacknowledged > 0 {
		waits = fmt.Sprintf("%s, the oldest for %s ('rccs missed %s' lists them)", number(d.Inbox.Unacknowledged), ago(d.Inbox.Oldest), a)
		waits = env.hints(waits)
	}
	lines := [][2]string{{"device", a.String()}, {"registered", "never"}}
	if !d.Registered.IsZero() {
		lines = append(lines[:1], describe(d.Device)...)
	}
	lines = append(lines, [2]string{"stored", number(d.Inbox.Stored)}, [2]string{"waiting", waits})
	for _, line := range lines {
		if err := env.printf("%-13s %s\n", line[0], printable(line[1])); err != nil {
			return err
		}
	}
	return nil
}

// describe is what is known of a registered device, for people.
func describe(d *ops.Device) [][2]string {
	status := d.Status + ", last seen " + ago(&d.LastSeen) + " ago"
	if d.Edge != "" {
		status = fmt.Sprintf("%s at edge %s since %s", d.Status, d.Edge, moment(*d.Since))
	}
	capabilities := "none"
	if held := wire.HeldCapabilities(d.Capabilities); len(held) > 0 {
		capabilities = strings.Join(held, ", ")
	}
	session := "none"
	if d.Session != "" {
		session = fmt.Sprintf("%s, epoch %d", d.Session, d.Epoch)
	}
	return [][2]string{
		{"type", strings.Join(strings.Fields(d.Type+" "+d.Platform+" "+d.Version), " ")},
		{"capabilities", capabilities},
		{"status", status},
		{"session", session},
		{"registered", moment(d.Registered)},
	}
}

type forgetFlags struct {
	target
	yes bool
}

func newDevicesForgetCommand(env *environment) *cobra.Command {
	var f forgetFlags
	cmd := &cobra.Command{
		Use:   "forget USER/DEVICE",
		Short: "Remove a device with its inbox",
		Long: `Remove a device: its record, its session, its inbox with all that waits in it,
and what it acknowledged. It must not be connected. When it has not acknowledged
all of its messages, or messages for it are delayed, nothing is done without
--yes. A device that still has a credential may come again, as a new one;
'rccs devices revoke' ends that.`,
		Example: `  rccs devices forget alice/old-phone`,
		Args:    arguments(1, "USER/DEVICE"),
		RunE: func(cmd *cobra.Command, args []string) error {
			return env.onDevice(cmd.Context(), &f.target, args[0], func(ctx context.Context, t *ops.Tenant, a subjects.Address) error {
				return env.forget(ctx, &f, t, a)
			})
		},
	}
	f.add(cmd)
	cmd.Flags().BoolVar(&f.yes, "yes", false, "forget it although messages are not acknowledged, or delayed: they are lost")
	return cmd
}

func (env *environment) forget(ctx context.Context, f *forgetFlags, t *ops.Tenant, a subjects.Address) error {
	err := t.Act(ctx, act(audit.ActionForget, a.String(), ""), func() error { return t.Forget(ctx, a, ops.ForgetOptions{Drop: f.yes}) })
	if waiting, ok := errors.AsType[*ops.UnacknowledgedError](err); ok {
		lost := fmt.Sprintf("%s has not acknowledged %s messages", a, number(waiting.Messages))
		if waiting.Delayed > 0 {
			lost += fmt.Sprintf(", and %s are delayed", number(waiting.Delayed))
		}
		return usageError{errors.New(lost + ", which would be lost: repeat it with --yes")}
	}
	switch {
	case errors.Is(err, ops.ErrConnected):
		return fmt.Errorf("%w: disconnect it first, or end its credentials with 'rccs devices revoke'", err)
	case errors.Is(err, ops.ErrNoCoordinator):
		return fmt.Errorf("%w: one has to run, in 'rccs serve' or as 'rccs coordinator'", err)
	case err != nil:
		return err
	}
	if f.json {
		return env.json(map[string]any{"user": a.User, "device": a.Device, "forgotten": true})
	}
	return env.printf("forgot %s\n", a)
}
