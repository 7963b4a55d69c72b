package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/spf13/cobra"

	"github.com/rccs-io/rccs/auth"
	"github.com/rccs-io/rccs/internal/audit"
	"github.com/rccs-io/rccs/internal/layout"
	"github.com/rccs-io/rccs/internal/node"
	"github.com/rccs-io/rccs/internal/revoke"
)

type revokeFlags struct {
	data, server string
	tlsFlags
	onlyKnown bool // refuse names of which no credential is known
	yes       bool // all credentials may be ended
	dryRun    bool // say what would end
	json      bool
}

func newRevokeCommand(env *environment) *cobra.Command {
	var f revokeFlags
	cmd := &cobra.Command{
		Use:   "revoke USER/DEVICE",
		Short: "End every credential of a device",
		Long: `End every credential that was issued for a device until now, used or not, at
edges and NATS servers: its connections are closed, and none of them connects
again. A credential that is made afterwards works. The device's inbox stays;
'rccs devices forget' removes it.

It needs the installation's keys, and tells the servers. When none can be
reached, the revocation is kept in the keys and comes into force when the server
is started. Run it again then: otherwise NATS servers accept a key that the device
made with 'rccs enroll' until its credential ends.`,
		Example: `  rccs devices revoke alice/phone
  rccs devices revoke alice/phone --data /var/lib/rccs --server nats://a:4222`,
		Args: arguments(1, "USER/DEVICE"),
		RunE: func(cmd *cobra.Command, args []string) error { return env.revoke(cmd.Context(), &f, args[0]) },
	}
	f.register(cmd)
	f.registerKnown(cmd)
	return cmd
}

func (f *revokeFlags) register(cmd *cobra.Command) {
	f.add(cmd.Flags())
	cmd.Flags().StringVarP(&f.data, "data", "d", "./data", "`directory` of the installation's keys")
	cmd.Flags().StringVarP(&f.server, "server", "s", nats.DefaultURL, "NATS `URL` of the running installation")
	cmd.Flags().BoolVarP(&f.json, "json", "j", false, "print JSON")
}

func (f *revokeFlags) registerKnown(cmd *cobra.Command) {
	cmd.Flags().BoolVar(&f.onlyKnown, "only-known", false, "refuse a name of which no credential is known")
}

// revokeTimeout bounds the telling of the servers, which cut connections before they
// answer.
const revokeTimeout = time.Minute

func (env *environment) revoke(ctx context.Context, f *revokeFlags, name string) error {
	r := auth.Revocation{Kind: auth.RevokedDevice, Name: name, At: time.Now()}
	if err := r.Check(); err != nil {
		return usageError{err}
	}
	return env.change(ctx, f, r, false)
}

// errUnknownName is the end, with status 1, of a revocation that was made of a
// name of which no credential is known: it may be a mistake, or a credential
// that is older than the record of what was issued.
var errUnknownName = errors.New("no credential of that name is known")

// change revokes, or takes a revocation back.
func (env *environment) change(ctx context.Context, f *revokeFlags, r auth.Revocation, undo bool) error {
	keys, dial, err := env.at(f)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, revokeTimeout)
	defer cancel()
	i := revoke.Installation{Keys: keys, Dial: dial}
	holders, err := i.Holders(ctx, r)
	if err != nil {
		return err
	}
	if r.Kind == auth.RevokedAll && !undo && (f.dryRun || !f.yes) {
		return env.wouldEnd(f, holders)
	}
	known := undo || r.Kind == auth.RevokedAll || holders.Any()
	if !known && f.onlyKnown {
		return fmt.Errorf("%s: %w, so nothing is revoked (--only-known)", revocationName(r), errUnknownName)
	}
	if undo {
		err = i.Undo(ctx, r, act(audit.ActionUnrevoke, r.Name, string(r.Kind)))
	} else {
		err = i.Revoke(ctx, r, act(audit.ActionRevoke, r.Name, string(r.Kind)))
	}
	answer := map[string]any{"kind": r.Kind, "name": r.Name, "revoked": !undo, "known": known}
	if !undo {
		answer["at"] = r.At.UTC().Format(time.RFC3339)
	}
	untold, changed := errors.AsType[*revoke.UntoldError](err)
	switch {
	case err == nil && undo:
		return env.answer(f.json, answer, "taken back: the revocation of %s\n", revocationName(r))
	case err == nil:
		if err := env.answer(f.json, answer, "revoked: %s, all credentials issued until %s\n", revocationName(r), r.At.UTC().Format(time.RFC3339)); err != nil {
			return err
		}
		if !known {
			return fmt.Errorf("%s: %w: it is revoked all the same; check the name, a credential may be older than the record of them", revocationName(r), errUnknownName)
		}
		return nil
	case changed && undo:
		return fmt.Errorf("taken back in the keys, but no server has confirmed it: %w (restart 'rccs serve')", untold)
	case changed:
		return fmt.Errorf("revoked in the keys, but no server has confirmed it: %w (run it again when %s can be reached, or restart 'rccs serve')", untold, shown(f.server))
	}
	return err
}

// at opens the keys, and says how to reach the servers with them.
func (env *environment) at(f *revokeFlags) (*auth.Keystore, dialFunc, error) {
	dial, err := f.dialer()
	if err != nil {
		return nil, nil, err
	}
	keys, err := env.installed(f.data)
	return keys, dial, err
}

func revocationName(r auth.Revocation) string {
	if r.Kind == auth.RevokedAll {
		return "everything"
	}
	return string(r.Kind) + " " + r.Name
}

// dialFunc connects with a credential.
type dialFunc func(auth.Credential) (*nats.Conn, error)

func (f *revokeFlags) dialer() (dialFunc, error) {
	reach, err := f.reach()
	if err != nil {
		return nil, err
	}
	return func(cred auth.Credential) (*nats.Conn, error) {
		return node.Connect(f.server, append(slices.Clip(reach), cred.Option(), nats.Name("rccs revoke"), nats.CustomInboxPrefix(layout.PartReplyPrefix),
			nats.ErrorHandler(func(*nats.Conn, *nats.Subscription, error) {}))...) // 'revoke all' ends this connection, too
	}, nil
}
