package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/mattn/go-isatty"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/spf13/cobra"
	"github.com/synadia-io/orbit.go/natscontext"

	"github.com/rccs-io/rccs/auth"
	"github.com/rccs-io/rccs/internal/node"
	"github.com/rccs-io/rccs/internal/ops"
	"github.com/rccs-io/rccs/internal/shard"
	"github.com/rccs-io/rccs/subjects"
)

// target is a running installation that an operator's command works on.
type target struct {
	serverFlags
	context string
	json    bool
}

func (f *target) add(cmd *cobra.Command) {
	f.serverFlags.add(cmd)
	flags := cmd.Flags()
	flags.StringVar(&f.context, "context", "", "`name` of a context of the nats command line, instead of --server and credentials")
	flags.BoolVarP(&f.json, "json", "j", false, "print JSON")
	_ = cmd.RegisterFlagCompletionFunc("context", completeContexts)
}

// dialOptions are those of every connection of an operator's command. Answers
// come where no service may listen.
func dialOptions() []nats.Option {
	return []nats.Option{
		nats.Name("rccs operator"), nats.CustomInboxPrefix("_RCCS"), nats.Timeout(5 * time.Second),
		nats.MaxReconnects(-1), nats.ReconnectWait(100 * time.Millisecond),
		// nats.go would print what is refused, beside the command's own error.
		nats.ErrorHandler(func(*nats.Conn, *nats.Subscription, error) {}),
	}
}

// dialer makes connections to the target.
func (env *environment) dialer(f *target) (func(opts ...nats.Option) (*nats.Conn, error), error) {
	if f.context != "" {
		return func(opts ...nats.Option) (*nats.Conn, error) {
			nc, _, err := natscontext.Connect(f.context, append(dialOptions(), opts...)...)
			if err != nil {
				return nil, fmt.Errorf("--context %s: %w ('nats context ls' lists them)", f.context, err)
			}
			return nc, nil
		}, nil
	}
	cred, err := env.operator(&f.serverFlags)
	if err != nil {
		return nil, err
	}
	dial, err := f.dialerBy(cred)
	if err != nil {
		return nil, err
	}
	return func(opts ...nats.Option) (*nats.Conn, error) {
		nc, err := dial(opts...)
		return nc, f.explain(err)
	}, nil
}

// dialerBy makes connections by a credential.
func (f *serverFlags) dialerBy(cred auth.Credential) (func(opts ...nats.Option) (*nats.Conn, error), error) {
	reach, err := f.reach()
	if err != nil {
		return nil, err
	}
	return func(opts ...nats.Option) (*nats.Conn, error) {
		return node.Connect(f.server, slices.Concat(dialOptions(), reach, []nats.Option{cred.Option()}, opts)...)
	}, nil
}

// explain adds to a connection error what its cause may be, and what to do.
func (f *serverFlags) explain(err error) error {
	switch {
	case errors.Is(err, nats.ErrAuthorization):
		hint := "is --data (or --creds) of the same installation?"
		if ended := credsHint(f.creds, ""); ended != "" {
			hint = ended
		}
		return fmt.Errorf("%s refused the credential: %s", f.address(), hint)
	case err != nil:
		return fmt.Errorf("connect to %s: %w (is 'rccs serve' running there? another address: --server)", f.address(), err)
	}
	return nil
}

// operator is a credential that may do everything in the tenant.
func (env *environment) operator(f *serverFlags) (auth.Credential, error) {
	if f.creds == "" {
		keys, err := env.installed(f.data)
		if err != nil {
			return auth.Credential{}, err
		}
		return keys.IssuePart("operator")
	}
	return credentialOf(f.creds)
}

// systemDialer makes connections in the system account; nil where its key is
// not at hand.
func (env *environment) systemDialer(f *target) (func(opts ...nats.Option) (*nats.Conn, error), error) {
	if f.context != "" || f.creds != "" {
		return nil, nil
	}
	keys, err := env.installed(f.data)
	if err != nil {
		return nil, err
	}
	cred, err := keys.IssueSystem("operator")
	if err != nil {
		return nil, err
	}
	return f.dialerBy(cred)
}

// operating is the RunE of a command that asks the tenant something: query reads
// the command's arguments, and run, a method of env, does it.
func operating[F, Q any](
	env *environment, f *F, on *target, query func(args []string) (Q, error), run func(*environment, context.Context, *F, *ops.Tenant, Q) error,
) func(*cobra.Command, []string) error {
	return func(cmd *cobra.Command, args []string) error {
		q, err := query(args)
		if err != nil {
			return err
		}
		return env.operate(cmd.Context(), on, func(ctx context.Context, t *ops.Tenant) error { return run(env, ctx, f, t, q) })
	}
}

// operate runs f on the target, and says of errors what can be done. A credential for
// another number of shards is refused: it would look for users where they are not.
func (env *environment) operate(ctx context.Context, f *target, run func(ctx context.Context, t *ops.Tenant) error) error {
	return env.examine(ctx, f, func(ctx context.Context, t *ops.Tenant) error {
		if err := f.divided(t.CheckShards(ctx)); err != nil {
			return err
		}
		return run(ctx, t)
	})
}

// divided adds to the error of a credential for another number of shards what to do.
func (f *target) divided(err error) error {
	if _, ok := errors.AsType[*shard.CountError](err); !ok {
		return err
	}
	if f.creds == "" && f.context == "" {
		return fmt.Errorf("%w: name the directory that the tenant was restored into with --data", err)
	}
	return fmt.Errorf("%w: make a new one with 'rccs creds part'", err)
}

// examine is operate for a command that works on a tenant which is not as it should be.
func (env *environment) examine(ctx context.Context, f *target, run func(ctx context.Context, t *ops.Tenant) error) error {
	dial, err := env.dialer(f)
	if err != nil {
		return err
	}
	system, err := env.systemDialer(f)
	if err != nil {
		return err
	}
	// Without this a question that is not allowed would wait for its answer.
	ctx, refuse := context.WithCancelCause(ctx)
	defer refuse(nil)
	t, err := ops.Open(ops.Options{System: system, Dial: func(opts ...nats.Option) (*nats.Conn, error) {
		return dial(append(opts, nats.ErrorHandler(func(_ *nats.Conn, _ *nats.Subscription, err error) {
			if errors.Is(err, nats.ErrPermissionViolation) {
				refuse(err)
			}
		}))...)
	}})
	if err != nil {
		return err
	}
	defer t.Close()
	return explain(ctx, run(ctx, t))
}

// explain adds to an error what can be done about it.
func explain(ctx context.Context, err error) error {
	switch cause := context.Cause(ctx); {
	case err == nil:
		return nil
	case errors.Is(cause, nats.ErrPermissionViolation):
		return fmt.Errorf("not allowed: the credential is not an operator's; name the installation's keys with --data, or make one with 'rccs creds part': %w", cause)
	case errors.Is(err, ops.ErrUnknownDevice):
		return fmt.Errorf("%w: it never registered and has no messages; 'rccs devices ls' lists all devices", err)
	case errors.Is(err, ops.ErrNotInstalled):
		return fmt.Errorf("%w: 'rccs doctor' says which are missing and what to do; where all are, the credential is of another account (--creds, --data), or 'rccs serve' has never started there", err)
	case errors.Is(err, jetstream.ErrJetStreamNotEnabled), errors.Is(err, jetstream.ErrJetStreamNotEnabledForAccount):
		return fmt.Errorf("%w: this is not the account of a tenant; name its credential with --creds, or the installation's keys with --data", err)
	case errors.Is(err, context.DeadlineExceeded), errors.Is(err, nats.ErrNoResponders):
		return fmt.Errorf("%w: JetStream does not answer; 'rccs doctor' says more", err)
	}
	return err
}

// address reads USER/DEVICE, or says that it is bad usage.
func address(name string) (subjects.Address, error) {
	a, err := subjects.ParseAddress(name)
	if err != nil {
		return a, usageError{err}
	}
	return a, nil
}

// terminal reports whether people read standard error.
func (env *environment) terminal() bool {
	f, ok := fileOf(env.err)
	return ok && isatty.IsTerminal(f.Fd())
}

// onDevice is operate for a command whose argument names a device.
func (env *environment) onDevice(ctx context.Context, f *target, arg string, run func(ctx context.Context, t *ops.Tenant, a subjects.Address) error) error {
	a, err := address(arg)
	if err != nil {
		return err
	}
	return env.operate(ctx, f, func(ctx context.Context, t *ops.Tenant) error { return run(ctx, t, a) })
}
