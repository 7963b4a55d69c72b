package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/spf13/cobra"

	"github.com/rccs-io/rccs/auth"
	"github.com/rccs-io/rccs/internal/audit"
	"github.com/rccs-io/rccs/subjects"
)

type revokeFlags struct {
	data, server string
	tlsFlags
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
is started; but NATS servers then let a key that the device made itself with
'rccs enroll' stand until its credential ends, unless this is run again.`,
		Example: `  rccs devices revoke alice/phone
  rccs devices revoke alice/phone --data /var/lib/rccs --server nats://10.0.0.7:4222`,
		Args: arguments(1, "USER/DEVICE"),
		RunE: func(cmd *cobra.Command, args []string) error { return env.revoke(cmd.Context(), &f, args[0]) },
	}
	cmd.Flags().StringVar(&f.data, "data", "./data", "`directory` of the installation's keys")
	cmd.Flags().StringVar(&f.server, "server", nats.DefaultURL, "NATS `URL` of the running installation")
	f.add(cmd.Flags())
	return cmd
}

// revokeWithin bounds the telling of the servers.
const revokeWithin = 10 * time.Second

func (env *environment) revoke(ctx context.Context, f *revokeFlags, name string) error {
	address, err := subjects.ParseAddress(name)
	if err != nil {
		return usageError{err}
	}
	dial, err := f.dialer()
	if err != nil {
		return err
	}
	keys, err := env.installed(f.data)
	if err != nil {
		return err
	}
	account, err := auth.Revoke(f.data, address)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, revokeWithin)
	defer cancel()
	account, err = changeOwn(ctx, f.data, keys, dial, account, auth.Revocation{Kind: auth.RevokedDevice, Name: name}, auth.RevokeKeys)
	if err == nil {
		err = tell(ctx, keys, dial, account, act(audit.ActionRevoke, address.String(), "device"), address)
	}
	if err != nil {
		return fmt.Errorf("revoked in the keys, but the servers are not known to heed it yet: %w (run it again when %s can be reached, or restart 'rccs serve')", err, shown(f.server))
	}
	return env.printf("revoked: %s, all credentials issued until now\n", address)
}

// dialFunc connects with a credential.
type dialFunc func(auth.Credential) (*nats.Conn, error)

func (f *revokeFlags) dialer() (dialFunc, error) {
	reach, err := f.reach()
	if err != nil {
		return nil, err
	}
	return func(cred auth.Credential) (*nats.Conn, error) {
		return nats.Connect(f.server, append(slices.Clip(reach), cred.Option(), nats.Name("rccs revoke"), nats.CustomInboxPrefix(subjects.PartReplyPrefix))...)
	}, nil
}

// tell hands the account JWT to the NATS servers, which drop the device, and
// to the edges, and keeps a record of it.
func tell(ctx context.Context, keys *auth.Keystore, dial dialFunc, account auth.Account, r audit.Record, devices ...subjects.Address) error {
	system, err := keys.IssueSystem("revoke")
	if err != nil {
		return err
	}
	nc, err := dial(system)
	if err != nil {
		return err
	}
	defer nc.Close()
	answer, err := nc.RequestWithContext(ctx, "$SYS.REQ.CLAIMS.UPDATE", []byte(account.JWT))
	if err != nil {
		return fmt.Errorf("account not updated: %w", err)
	}
	var result struct{ Error *struct{ Description string } }
	if err := json.Unmarshal(answer.Data, &result); err != nil {
		return fmt.Errorf("account not updated: %w", err)
	}
	if result.Error != nil {
		return errors.New("account not updated: " + result.Error.Description)
	}
	return tellEdges(ctx, keys, dial, account, r, devices)
}

func tellEdges(ctx context.Context, keys *auth.Keystore, dial dialFunc, account auth.Account, r audit.Record, devices []subjects.Address) error {
	part, err := keys.IssuePart("revoke")
	if err != nil {
		return err
	}
	nc, err := dial(part)
	if err != nil {
		return err
	}
	defer nc.Close()
	js, err := jetstream.New(nc)
	if err != nil {
		return err
	}
	kv, err := js.KeyValue(ctx, subjects.BucketAccount)
	if err != nil {
		return err
	}
	if _, err := kv.PutString(ctx, subjects.AccountEntry, account.JWT); err != nil {
		return err
	}
	if err := audit.Write(ctx, js, r); err != nil {
		return err
	}
	for _, address := range devices {
		body, err := json.Marshal(map[string]string{
			"kind": subjects.EventRevoked, "user": string(address.User), "device": string(address.Device),
			"at": time.Now().UTC().Format(time.RFC3339Nano),
		})
		if err != nil {
			return err
		}
		if _, err := js.Publish(ctx, subjects.Event(address.Key(), subjects.EventRevoked), body); err != nil {
			return err
		}
	}
	return nil
}
