package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/rccs-io/rccs/internal/audit"
	"github.com/rccs-io/rccs/internal/ops"
	"github.com/rccs-io/rccs/subjects"
)

type tailFlags struct {
	target
	kinds, kind string
	payload     bool
	count       uint
	timeout     time.Duration
}

func newTailCommand(env *environment) *cobra.Command {
	var f tailFlags
	cmd := &cobra.Command{
		Use:   "tail [USER[/DEVICE]]",
		Short: "Watch what flows to and from devices",
		Long: `Watch, as it happens, what flows to and from all devices, those of a user, or
one: messages stored in inboxes, messages to services, signals, events, and
cursors as devices are sent messages and acknowledge them. Payloads are shown
only with --payload. Requests cannot be watched.

Ctrl-C ends it.`,
		Example: `  rccs tail
  rccs tail alice --payload
  rccs tail alice/phone --kinds inbox,cursor
  rccs tail --kinds event --json | jq .`,
		Args: optional("USER or USER/DEVICE"),
		RunE: operating(env, &f, &f.target, f.options, (*environment).tail),
	}
	f.add(cmd)
	flags := cmd.Flags()
	checkedVar(flags, &f.kinds, "kinds", "", "only these `kinds`, separated by commas: inbox, up, signal, event, cursor", checkKinds)
	checkedVar(flags, &f.kind, "type", "", "only messages of this `type`", checkMessageType)
	flags.BoolVar(&f.payload, "payload", false, "show payloads")
	flags.UintVar(&f.count, "count", 0, "end after this `number`")
	flags.DurationVar(&f.timeout, "timeout", 0, "end after this time, with status 1 if --count did not come")
	return cmd
}

func checkKinds(list string) error {
	for kind := range strings.SplitSeq(list, ",") {
		if !slices.Contains(ops.FlowKinds(), kind) {
			return fmt.Errorf("%q is none of %s", kind, strings.Join(ops.FlowKinds(), ", "))
		}
	}
	return nil
}

// scope reads an optional argument USER or USER/DEVICE.
func scope(args []string) (s subjects.Scope, err error) {
	if len(args) == 0 {
		return s, nil
	}
	if strings.Contains(args[0], "/") {
		a, err := address(args[0])
		return subjects.Scope(a), err
	}
	s.User, err = user(args)
	return s, err
}

func (f *tailFlags) options(args []string) (opts ops.TailOptions, err error) {
	opts.Payload = f.payload
	if f.kinds != "" {
		opts.Kinds = strings.Split(f.kinds, ",")
	}
	opts.Scope, err = scope(args)
	return opts, err
}

// errEnough ends a tail that has seen what it waited for.
var errEnough = errors.New("enough")

func (env *environment) tail(ctx context.Context, f *tailFlags, t *ops.Tenant, opts ops.TailOptions) error {
	if err := t.Audit(ctx, act(audit.ActionRead, opts.Scope.String(), "tail")); err != nil {
		return err
	}
	if f.timeout > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, f.timeout)
		defer cancel()
	}
	seen := uint(0)
	enc := json.NewEncoder(env.out)
	enc.SetEscapeHTML(false)
	opts.Started = func() { env.note("watching") }
	opts.Each = func(flow *ops.Flow) error {
		if f.kind != "" && flow.Type != f.kind {
			return nil
		}
		var err error
		if f.json {
			err = enc.Encode(flow)
		} else {
			err = env.printf("%s\n", flowLine(flow))
		}
		if seen++; err == nil && f.count > 0 && seen == f.count {
			return errEnough
		}
		return err
	}
	switch err := t.Tail(ctx, opts); {
	case errors.Is(err, errEnough):
		return nil
	case err != nil:
		return err
	case f.count > 0 && errors.Is(ctx.Err(), context.DeadlineExceeded):
		return fmt.Errorf("%d of %d came within %s", seen, f.count, f.timeout)
	case ctx.Err() != nil && !errors.Is(context.Cause(ctx), context.Canceled) && !errors.Is(context.Cause(ctx), context.DeadlineExceeded):
		return context.Cause(ctx) // something was refused
	}
	return nil
}

// flowLine is a flow for people.
func flowLine(f *ops.Flow) string {
	var b strings.Builder
	arrow := map[string]string{ops.FlowInbox: "->", ops.FlowSignal: "~>", ops.FlowUp: "<-", ops.FlowCursor: "<-", ops.FlowEvent: "--"}[f.Kind]
	fmt.Fprintf(&b, "%s %s %s/%s %s", exactMoment(f.At), arrow, f.User, f.Device, f.Kind)
	switch f.Kind {
	case ops.FlowCursor:
		fmt.Fprintf(&b, " %s: acknowledged up to #%d", f.Lane, f.AckFloor)
		if f.Unacked > 0 {
			fmt.Fprintf(&b, ", sent up to #%d, %d unacked", f.Sent, f.Unacked)
		}
	case ops.FlowEvent:
		fmt.Fprintf(&b, " %s", f.Event)
		if f.ID != "" {
			fmt.Fprintf(&b, " of %s", f.ID)
		}
	default:
		if f.Lane != "" {
			fmt.Fprintf(&b, " %s", f.Lane)
		}
		if f.Seq > 0 {
			fmt.Fprintf(&b, " #%d", f.Seq)
		}
		fmt.Fprintf(&b, " %s", f.Type)
		if f.ID != "" {
			fmt.Fprintf(&b, " %s", f.ID)
		}
		if f.From != f.Device {
			fmt.Fprintf(&b, " from %s", f.From)
		}
		fmt.Fprintf(&b, ", %s", size(uint64(f.Bytes))) //nolint:gosec // it is a length
		if f.Replay {
			b.WriteString(", a replay")
		}
	}
	if f.Payload != nil {
		fmt.Fprintf(&b, ": %s", f.Payload)
	}
	return printable(b.String())
}
