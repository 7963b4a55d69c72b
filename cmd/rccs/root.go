package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"regexp"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/rccs-io/rccs/auth"
	"github.com/rccs-io/rccs/internal/timespec"
)

// Exit statuses, which scripts rely on.
const (
	exitOK     = 0
	exitFailed = 1
	exitUsage  = 2
)

// envPrefix begins the environment variable of every flag: --nats-listen is
// RCCS_NATS_LISTEN.
const envPrefix = "RCCS_"

// environment is what a command sees of the world.
type environment struct {
	in       io.Reader
	out, err io.Writer
	lookup   func(name string) (string, bool)
	// hangup delivers SIGHUP to the channel; nil where there are no signals.
	hangup func(chan<- os.Signal)
	// verbose does the same for the signal that changes the log's level.
	verbose func(chan<- os.Signal)
	// tenant is the one that the command is about.
	tenant string
	// wide has tables show every column, however narrow the terminal is.
	wide bool
	// root and aimed are for hints: see [environment.aim].
	root  *cobra.Command
	aimed []given
	// columns is how wide the terminal is; 0: it is asked.
	columns int
}

// usageError is a command line that cannot be understood.
type usageError struct{ error }

// run is the program: it returns the exit status.
func (env *environment) run(ctx context.Context, args []string) int {
	env.out, env.err = newScreen(env.out), newScreen(env.err)
	root := newRootCommand(env)
	root.SetArgs(args)
	cmd, err := root.ExecuteContextC(ctx)
	var usage usageError
	switch {
	case err == nil:
		return exitOK
	case errors.As(err, &usage), !cmd.HasParent():
		// What cobra itself refuses before it runs a command is usage too.
		_, _ = fmt.Fprintf(env.err, "rccs: %s\nSee '%s --help'.\n", env.hints(plain(err)), cmd.CommandPath())
		return exitUsage
	}
	_, _ = fmt.Fprintf(env.err, "rccs: %s\n", env.hints(plain(err)))
	return exitFailed
}

// packages are the names that begin the errors of our packages, also of those
// inside of others. They are of no use to a person.
var packages = regexp.MustCompile(`(^|: )(?:api|audit|auth|backbone|backup|client|coordinator|direct|edge|enroll|inbox|load|localcluster|node|ops|reader|revoke|roster|send|snapshot|storecheck|subjects|timespec|topic|tracing|wire|wsconn): `)

// contexts has what Go says of contexts in the words of people.
var contexts = strings.NewReplacer(context.Canceled.Error(), "it was stopped", context.DeadlineExceeded.Error(), "it took too long")

// plain is an error for people.
func plain(err error) string {
	text := contexts.Replace(err.Error())
	for packages.MatchString(text) {
		text = packages.ReplaceAllString(text, "$1")
	}
	return text
}

func newRootCommand(env *environment) *cobra.Command {
	root := &cobra.Command{
		Use:   "rccs",
		Short: "Durable messaging between a person's devices and the services behind them",
		Long: `RCCS gives each device a durable inbox: what a service or another device sends
is stored before it is accepted, delivered in order over WebSocket, and kept
until the device has acknowledged it.

Try it:                      rccs dev
Start everything:            rccs serve
Make a device's credential:  rccs creds device alice/phone > phone.creds
Be that device:              rccs connect alice/phone
Send it something:           rccs send alice/phone hello

Every flag can be given in the environment, too: --nats-listen is
RCCS_NATS_LISTEN.

The exit status is 0 when it was done, 1 when it failed, and 2 when the command
line cannot be understood. Answers go to standard output, all else to standard
error. Colours are for terminals only, and not where NO_COLOR is set.`,
		SilenceUsage:  true,
		SilenceErrors: true,
		PersistentPreRunE: func(cmd *cobra.Command, _ []string) error {
			env.aim(cmd)
			if err := env.bind(cmd.Flags()); err != nil {
				return err
			}
			env.findRunning(cmd)
			if err := checkCommon(cmd.Flags()); err != nil {
				return err
			}
			return env.checkTenant(cmd)
		},
	}
	root.PersistentFlags().StringVar(&env.tenant, "tenant", auth.DefaultTenant, "`name` of the tenant, whose keys are in --data")
	_ = root.RegisterFlagCompletionFunc("tenant", env.completeTenants)
	root.PersistentFlags().BoolVar(&env.wide, "wide", false, "show every column of a table, however narrow the terminal is")
	root.Version = currentVersions().String()
	root.SetUsageFunc(usage(root.UsageTemplate()))
	root.SetVersionTemplate("{{.Version}}\n")
	root.SetIn(env.in)
	root.SetOut(env.out)
	root.SetErr(env.err)
	root.SetFlagErrorFunc(func(_ *cobra.Command, err error) error { return usageError{err} })
	addGroup(root, "Run it:", newDevCommand(env), newServeCommand(env), newEdgeCommand(env), newCoordinatorCommand(env), newClusterCommand(env))
	addGroup(root, "Devices and services:", newCredsCommand(env), newEnrollCommand(env), newConnectCommand(env), newSendCommand(env))
	addGroup(root, "Operate it:",
		newStatusCommand(env), newDoctorCommand(env), newHealthcheckCommand(env), newDevicesCommand(env), newEdgesCommand(env), newInboxCommand(env),
		newRevocationsCommand(env), newTenantsCommand(env), newAuditCommand(env), newMissedCommand(env), newReplayCommand(env), newLaterCommand(env), newTailCommand(env), newTraceCommand(env),
		newBackupCommand(env), newRestoreCommand(env),
		newBenchCommand(env),
	)
	root.AddCommand(newVersionCommand(env), newReferenceCommand(env))
	env.polish(root)
	return root
}

// addGroup adds commands that help lists together.
func addGroup(root *cobra.Command, title string, cmds ...*cobra.Command) {
	root.AddGroup(&cobra.Group{ID: title, Title: title})
	for _, cmd := range cmds {
		cmd.GroupID = title
		root.AddCommand(cmd)
	}
}

// bind gives flags that were not set the value of their variable.
func (env *environment) bind(flags *pflag.FlagSet) error {
	var err error
	flags.VisitAll(func(f *pflag.Flag) {
		if f.Changed || f.Name == "help" || f.Name == "version" || err != nil {
			return
		}
		name := envPrefix + strings.ToUpper(strings.ReplaceAll(f.Name, "-", "_"))
		value, ok := env.lookup(name)
		if !ok {
			return
		}
		set := f.Value.Set
		if v, ok := f.Value.(interface{ SetVariable(value string) error }); ok {
			set = v.SetVariable
		}
		if e := set(value); e != nil {
			err = usageError{fmt.Errorf("%s=%q: %w", name, value, e)}
			return
		}
		f.Changed = true
	})
	flags.VisitAll(func(f *pflag.Flag) {
		if err == nil && f.Value.Type() == "duration" && strings.HasPrefix(f.Value.String(), "-") {
			err = usageError{fmt.Errorf("--%s %s: want %s", f.Name, f.Value, timespec.DurationForms)}
		}
	})
	return err
}

// arguments refuses a wrong number of arguments, naming what is wanted.
func arguments(n int, want string) cobra.PositionalArgs {
	return func(_ *cobra.Command, args []string) error {
		if len(args) == n {
			return nil
		}
		plural := "s"
		if len(args) == 1 {
			plural = ""
		}
		return usageError{fmt.Errorf("%d argument%s given, want %s", len(args), plural, want)}
	}
}

// group makes a command that only holds others answer a wrong one as bad
// usage.
func group(cmd *cobra.Command) *cobra.Command {
	cmd.RunE = func(_ *cobra.Command, args []string) error {
		if len(args) == 0 {
			return usageError{errors.New("a subcommand is missing")}
		}
		return usageError{fmt.Errorf("unknown subcommand %q", args[0])}
	}
	return cmd
}

func (env *environment) printf(format string, args ...any) error {
	_, err := fmt.Fprintf(env.out, format, args...)
	return err
}
