package revoke

import (
	"context"
	"errors"
	"fmt"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/rccs-io/rccs/auth"
	"github.com/rccs-io/rccs/internal/layout"
	"github.com/rccs-io/rccs/internal/storeerr"
)

// Reconcile brings the keys, of which own is the account by now, and the tenant's
// bucket together, so that both have the same account JWT, and returns that. NATS
// servers are still to be told.
func Reconcile(ctx context.Context, js jetstream.JetStream, keys *auth.Keystore, own auth.Account) (auth.Account, error) {
	kv, err := js.KeyValue(ctx, layout.BucketAccount)
	if err != nil {
		return own, fmt.Errorf("bucket %s: %w", layout.BucketAccount, err)
	}
	for {
		entry, err := kv.Get(ctx, layout.AccountEntry)
		switch {
		case errors.Is(err, jetstream.ErrKeyNotFound):
			_, err = kv.Create(ctx, layout.AccountEntry, []byte(own.JWT))
		case err != nil:
			return own, fmt.Errorf("account JWT: %w", err)
		default:
			if own, err = keys.Adopt(string(entry.Value())); err != nil {
				return own, err
			}
			if own.JWT == string(entry.Value()) {
				return own, nil
			}
			_, err = kv.Update(ctx, layout.AccountEntry, []byte(own.JWT), entry.Revision())
		}
		switch {
		case err == nil:
			return own, nil
		case !storeerr.Lost(err):
			return own, fmt.Errorf("store account JWT: %w", err)
		}
	}
}
