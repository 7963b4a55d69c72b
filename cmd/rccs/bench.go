package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/rccs-io/rccs/internal/load"
)

func newBenchCommand(env *environment) *cobra.Command {
	cmd := group(&cobra.Command{
		Use:   "bench",
		Short: "Measure an installation, and check that it loses nothing",
		Long: `Put load on an installation, as devices over WebSockets, and measure what it
does. Every scenario checks that each message arrives exactly once and in order,
and fails with status 1 on the first that does not.

It measures the installation whose keys are in ./data, if that runs. Otherwise it
starts a server in a temporary directory (--self). In an installation of yours it
makes devices of its own, and forgets them and their inboxes at the end. What it
publishes to a topic stays there as long as other messages of topics do.

Elsewhere, name it with --url and give the devices' tokens with --tokens. They
are made where the keys are, so that those stay there:

  for i in $(seq 100); do echo bench-$i/left; echo bench-$i/right; done |
    rccs creds device --bearer - --expires 2h > bench.tokens
  rccs bench latency --url wss://edge.example.com/v1/ws --tokens bench.tokens

Two devices of one user, side by side, are a pair. Those devices are not
forgotten, and a run does not begin while messages wait for one of them.

An edge bounds the connections and attempts of one address (docs/limits.md); for
more than it allows, raise --max-address-connections and --address-attempts there.
This process makes the load: on one machine, it takes CPU time from the server. A
connection is an open file here and one at the server: see ulimit -n.`,
	})
	for _, s := range scenarios {
		cmd.AddCommand(newScenarioCommand(env, s))
	}
	cmd.AddCommand(newCompareCommand(env))
	return cmd
}

// scenario is a command of a load.
type scenario struct {
	name, short, long, example string
	devices                    int // by default
	what                       string
	flags                      []string // of those that only some have
	run                        func(context.Context, load.Options) (*load.Result, error)
}

// whatPairs is the help of --devices in scenarios whose devices send in pairs.
const whatPairs = "how many `devices` connect; each two of a user are a sender and a receiver"

var scenarios = []scenario{
	{
		name: "latency", devices: 100, what: whatPairs, flags: []string{"rate", "duration", "warmup"}, run: load.Latency,
		short: "Time from sending to receiving, at a fixed rate",
		long: `Send messages at a fixed rate, and take the time from when each was due to be
sent until it has arrived. A server that stalls is seen in full: what had to wait
meanwhile counts. "sent late" is how far this process itself was behind; when that
is much of the latency, the rate is more than this machine can send.`,
		example: `  rccs bench latency
  rccs bench latency --devices 1000 --rate 5000 --duration 30s
  rccs bench latency --save before.json     # for rccs bench compare`,
	},
	{
		name: "throughput", devices: 100, what: whatPairs, flags: []string{"window", "duration", "warmup"}, run: load.Throughput,
		short: "Messages a second, as many as go through",
		long: `Keep a number of messages under way in each pair of devices: one that arrives is
followed by another. The latency that goes with it is that of full queues.`,
		example: `  rccs bench throughput
  rccs bench throughput --devices 200 --window 64 --bytes 1024`,
	},
	{
		name: "fanout", devices: 1000, what: "how many `devices` subscribe", flags: []string{"window", "duration", "warmup"}, run: load.Fanout,
		short: "Deliveries a second from one topic to many subscribers",
		long: `Publish to one topic that all devices have subscribed to. As many
messages as --window says are under way: when one has reached all devices, the
next is published. The latency is that of each delivery.`,
		example: `  rccs bench fanout
  rccs bench fanout --devices 5000 --window 4`,
	},
	{
		name: "storm", devices: 1000, what: "how many `devices` come back", flags: []string{"missed", "connecting"}, run: load.Storm,
		short: "Devices that come back all at once, each with missed messages",
		long: `Send each of many devices messages while it is away, have all come back as fast
as they can, and take the time from the first connection until the last message.
"device" is the time of one, from its first byte until it has all that it missed.
Two more devices stay connected and send 100 messages a second: "probe" is their
latency during the storm, "quiet probe" before it.`,
		example: `  rccs bench storm --devices 5000 --missed 5
  rccs bench storm --devices 2000 --missed 50 --connecting 1000`,
	},
	{
		name: "idle", devices: 1000, what: "how many `devices` connect", flags: []string{"duration", "pid", "admin"}, run: load.Idle,
		short: "Memory that a connected device takes",
		long: `Connect devices that do nothing for the duration, and take what the resident
memory of the server has grown by. For that its process must be known: it is
with --self, and with --pid for one on this machine (Linux). With --admin its
garbage is collected before. Then a message is sent to every second device, to see
that the connections are good.`,
		example: `  rccs bench idle --self --devices 5000
  rccs bench idle --devices 2000 --pid "$(pgrep -f 'rccs serve')"`,
	},
	{
		name: "slow", devices: 100, what: whatPairs, flags: []string{"rate", "duration", "warmup", "stopped"}, run: load.Slow,
		short: "What devices that stop reading do to the others",
		long: `Send messages at a fixed rate to all receivers, while all read and then while some
have stopped reading, and take the latency of the others in both. Then those read
again, and get all that they were sent.`,
		example: `  rccs bench slow
  rccs bench slow --devices 200 --stopped 50 --rate 5000 --bytes 4096`,
	},
}

type benchFlags struct {
	benchTarget
	load struct {
		devices, rate, window, missed, connecting, stopped, bytes int
		duration, warmup, patience                                time.Duration
	}
	save string
	json bool
}

func newScenarioCommand(env *environment, s scenario) *cobra.Command {
	var f benchFlags
	cmd := &cobra.Command{
		Use: s.name, Short: s.short, Long: s.long, Example: s.example,
		Args: arguments(0, "none"),
		RunE: func(cmd *cobra.Command, _ []string) error {
			if f.load.duration == 0 && cmd.Flags().Changed("duration") {
				return usageError{errors.New("--duration 0s: want a duration above 0")}
			}
			return env.bench(cmd.Context(), &f, s)
		},
	}
	flags := cmd.Flags()
	f.add(cmd)
	flags.Var(between(&f.load.devices, s.devices, 2, maxCount), "devices", s.what)
	flags.Var(between(&f.load.bytes, 256, load.MinBytes, load.MaxBytes), "bytes", "`size` of a message's payload")
	flags.DurationVar(&f.load.patience, "patience", 20*time.Second, "how long to wait for messages when none arrives any more")
	flags.StringVar(&f.save, "save", "", "write the result as JSON to a `file` too, for rccs bench compare")
	flags.BoolVarP(&f.json, "json", "j", false, "print JSON")
	for _, name := range s.flags {
		switch name {
		case "rate":
			flags.Var(between(&f.load.rate, 1000, 1, load.MaxRate), "rate", "`messages` a second, of all devices together")
		case "duration":
			flags.DurationVar(&f.load.duration, "duration", 10*time.Second, "how long to measure")
		case "warmup":
			flags.DurationVar(&f.load.warmup, "warmup", time.Second, "how long there is load before anything is measured")
		case "window":
			flags.Var(between(&f.load.window, 16, 1, load.MaxWindow), "window", "how many `messages` of a pair, or of the topic, are under way")
		case "missed":
			flags.Var(between(&f.load.missed, 5, 1, load.MaxMissed), "missed", "how many `messages` wait for each device")
		case "connecting":
			flags.Var(between(&f.load.connecting, 256, 1, maxCount), "connecting", "how many `devices` connect at a time")
		case "stopped":
			flags.Var(between(&f.load.stopped, 0, 0, maxCount), "stopped", "how many `receivers` stop reading (default a tenth)")
		case "pid":
			flags.UintVar(&f.pid, "pid", 0, "`number` of the server's process, to read its memory")
		case "admin":
			flags.StringVar(&f.admin, "admin", "", "`URL` of its admin listener, to collect its garbage before")
		}
	}
	return cmd
}

// options are those of the load, without its target.
func (f *benchFlags) options() load.Options {
	l := &f.load
	o := load.Options{
		Devices: l.devices, Rate: l.rate, Window: l.window, Missed: l.missed,
		Connecting: l.connecting, Stopped: l.stopped, Bytes: l.bytes,
		Duration: l.duration, Warmup: max(l.warmup, 1), Patience: l.patience, // a warm-up of 0 would be the default one
	}
	return o
}

// bench runs a scenario, and prints what came of it, also when it failed.
func (env *environment) bench(ctx context.Context, f *benchFlags, s scenario) error {
	opts := f.options()
	if err := load.Check(s.name, opts); err != nil {
		return usageError{err}
	}
	if err := f.checkSave(); err != nil {
		return err
	}
	target, err := env.openTarget(ctx, &f.benchTarget, s.name, opts.Devices)
	if err != nil {
		return err
	}
	defer func() { _ = target.close() }()
	live := env.live(s.name)
	opts.Target, opts.Progress = target.Target, live.show
	result, err := s.run(ctx, opts)
	live.end()
	if ctx.Err() != nil {
		return errors.New("interrupted: there is no result")
	}
	if result != nil {
		result.Program, result.Server = "rccs "+version, target.server
		if e := env.showResult(f, result); e != nil {
			return errors.Join(err, e)
		}
	}
	return errors.Join(err, target.close())
}

// checkSave finds out before the run what would be in vain after it.
func (f *benchFlags) checkSave() error {
	if f.save == "" {
		return nil
	}
	if info, err := os.Stat(f.save); err == nil && info.IsDir() {
		return fmt.Errorf("--save: %s is a directory: name a file", f.save)
	}
	dir := filepath.Dir(f.save)
	info, err := os.Stat(dir)
	if err == nil && !info.IsDir() {
		return fmt.Errorf("--save: %s is not a directory", dir)
	}
	if err != nil {
		return fmt.Errorf("--save: %w", err)
	}
	return nil
}

// showResult prints a result, and keeps it where that was asked for.
func (env *environment) showResult(f *benchFlags, r *load.Result) error {
	if f.save != "" {
		data, err := json.MarshalIndent(r, "", "  ")
		if err == nil {
			err = os.WriteFile(f.save, append(data, '\n'), 0o644) //nolint:gosec // a result is no secret
		}
		if err != nil {
			return fmt.Errorf("--save: %w", err)
		}
	}
	switch {
	case f.json:
		return env.json(r)
	case r.Failed != "":
		return nil // the error says it; the figures mean nothing
	}
	var text strings.Builder
	for _, s := range r.Settings {
		if text.Len() > 0 {
			text.WriteString(", ")
		}
		text.WriteString(s.Name + " " + s.Value)
	}
	if err := env.printf("%s of %s\n%s\n\n", r.Scenario, r.Target, text.String()); err != nil {
		return err
	}
	t := newTable(column{title: "METRIC"}, column{title: "VALUE", right: true})
	for _, m := range r.Metrics {
		t.row(m.Name, m.String())
	}
	if err := env.table(t); err != nil {
		return err
	}
	if r.Refused > 0 {
		env.note("%s attempts to connect were turned away by the edge's limits, and made again: figures of connecting say how those are set", number(r.Refused))
	}
	return env.printf("\n%s messages, each arrived once and in order\n", number(r.Arrived))
}
