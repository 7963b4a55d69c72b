package node

import (
	"context"
	"errors"
	"fmt"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/rccs-io/rccs/auth"
	"github.com/rccs-io/rccs/internal/backbone"
	"github.com/rccs-io/rccs/internal/revoke"
)

// A server starts with the account JWTs that its keys have. Others of its
// cluster may know of revocations that were made while it was down, and its
// keys of some that nobody else was told of.

// reconcileAccount brings the keys, the tenant's bucket and this server together.
func (n *Node) reconcileAccount(ctx context.Context, js jetstream.JetStream, keys *auth.Keystore) error {
	account, err := revoke.Reconcile(ctx, js, keys, keys.Account())
	if err != nil {
		return fmt.Errorf("node: %w", err)
	}
	if err := n.update(account); err != nil {
		return err
	}
	return keys.Told(account.JWT)
}

// adopt takes over an account JWT that was changed elsewhere.
func (n *Node) adopt(keys *auth.Keystore, token string) {
	account, err := keys.Adopt(token)
	if err != nil {
		n.opts.Logger.Error("a change of the account is not in the keys: the next one made with them could undo it", "err", err)
		account = auth.Account{JWT: token}
	}
	if err := n.update(account); err != nil && !errors.Is(err, backbone.ErrNotRunning) {
		n.opts.Logger.Error("this NATS server does not apply a change of the account", "err", err)
	}
}

// update has this server apply the tenant's JWT, and that of its services.
func (n *Node) update(account auth.Account) error {
	if err := n.trust(account); err != nil {
		return err
	}
	for _, token := range []string{account.JWT, account.Services} {
		if token == "" {
			continue
		}
		if err := n.server.UpdateAccount(token); err != nil && !errors.Is(err, backbone.ErrStale) {
			return err
		}
	}
	return nil
}
