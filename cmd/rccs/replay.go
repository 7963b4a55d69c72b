package main

import (
	"context"
	"errors"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/rccs-io/rccs/internal/audit"
	"github.com/rccs-io/rccs/internal/ops"
	"github.com/rccs-io/rccs/subjects"
)

type replayFlags struct {
	target
	since          since
	fromSeq        uint64
	id, to         string
	missed, dryRun bool
	rejected       bool
}

func newReplayCommand(env *environment) *cobra.Command {
	var f replayFlags
	cmd := &cobra.Command{
		Use:   "replay USER/DEVICE",
		Short: "Deliver stored messages again",
		Long: `Append copies of stored messages to the device's inbox, or with --to to another
one's, in their lanes and in their order. The device gets them marked "replay"
and "redelivered", and its SDK hands them on although it knows their ids. What
it has acknowledged, and what is on its way to it, stays as it is.

Messages that are replays themselves, and outcomes that RCCS told the device,
are left out. No sender is told that a copy was delivered.`,
		Example: `  rccs replay alice/phone --since 1h   # acknowledged or not
  rccs replay alice/phone --missed --to alice/tablet
  rccs replay alice/phone --rejected     # what it refused, once it can read it
  rccs replay alice/phone --id order-17 --dry-run # only show what it would be`,
		Args: arguments(1, "USER/DEVICE"),
		RunE: operating(env, &f, &f.target, f.options, (*environment).replay),
	}
	f.add(cmd)
	flags := cmd.Flags()
	f.since.add(flags, "", "what was stored from then on")
	flags.Uint64Var(&f.fromSeq, "from-seq", 0, "what has this `sequence` or a higher one")
	flags.StringVar(&f.id, "id", "", "the messages of this `id`")
	flags.BoolVar(&f.missed, "missed", false, "what the device has not acknowledged")
	flags.BoolVar(&f.rejected, "rejected", false, "what the device refused, or could not be sent: see 'rccs inbox rejected'")
	flags.StringVar(&f.to, "to", "", "`USER/DEVICE` that gets the copies instead")
	flags.BoolVar(&f.dryRun, "dry-run", false, "list what would be copied, and store nothing")
	return cmd
}

// options are those of the flags; an error is bad usage.
func (f *replayFlags) options(args []string) (ops.ReplayOptions, error) {
	from, err := address(args[0])
	if err != nil {
		return ops.ReplayOptions{}, err
	}
	opts := ops.ReplayOptions{From: from, FromSeq: f.fromSeq, ID: f.id, Missed: f.missed, Rejected: f.rejected, DryRun: f.dryRun, Since: f.since.at}
	given := 0
	for _, is := range []bool{!f.since.at.IsZero(), f.fromSeq > 0, f.id != "", f.missed, f.rejected} {
		if is {
			given++
		}
	}
	if given != 1 {
		return opts, usageError{errors.New("want one of --since, --from-seq, --id, --missed and --rejected")}
	}
	if f.to != "" {
		if opts.To, err = subjects.ParseAddress(f.to); err != nil {
			return opts, usageError{fmt.Errorf("--to: %w", err)}
		}
	}
	return opts, nil
}

func (env *environment) replay(ctx context.Context, f *replayFlags, t *ops.Tenant, opts ops.ReplayOptions) error {
	detail := "to " + opts.From.String()
	if opts.To != (subjects.Address{}) {
		detail = "to " + opts.To.String()
	}
	if opts.DryRun {
		detail = "dry run"
	}
	var list []*ops.Message
	bar := env.progress("stored")
	if opts.DryRun {
		opts.Each = func(m *ops.Message) { list = append(list, m.Summary()) }
	} else {
		opts.Stored = func(n int) { bar.at(n, 0) }
	}
	var got ops.Replayed
	err := t.Act(ctx, act(audit.ActionReplay, opts.From.String(), detail), func() (err error) {
		got, err = t.Replay(ctx, opts)
		return err
	})
	bar.end()
	if halted, ok := errors.AsType[*ops.ReplayError](err); ok {
		return fmt.Errorf("%w (when the cause is mended, go on with --from-seq %d)", err, halted.Seq)
	}
	if err != nil {
		return err
	}
	return env.replayed(f, &opts, got, list)
}

// replayed prints what came of it.
func (env *environment) replayed(f *replayFlags, opts *ops.ReplayOptions, got ops.Replayed, list []*ops.Message) error {
	to := opts.From
	if f.to != "" {
		to = opts.To
	}
	if f.json {
		return env.json(struct {
			From string `json:"from"`
			To   string `json:"to"`
			ops.Replayed
			Messages []*ops.Message `json:"messages,omitempty"`
		}{opts.From.String(), to.String(), got, list})
	}
	skipped := ""
	if got.Skipped > 0 {
		skipped = fmt.Sprintf(", %s left out", number(got.Skipped))
	}
	switch {
	case got.Copied == 0:
		return env.printf("nothing to replay from %s%s\n", opts.From, skipped)
	case got.DryRun:
		if err := env.table(messageTable(list)); err != nil {
			return err
		}
		return env.printf("\nwould replay %s to %s%s\n", number(got.Copied), to, skipped)
	}
	return env.printf("replayed %s from %s to %s, seq %d to %d%s\n", number(got.Copied), opts.From, to, got.First, got.Last, skipped)
}
