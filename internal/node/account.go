package node

import (
	"context"
	"errors"
	"fmt"
	"log/slog"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/rccs-io/rccs/auth"
	"github.com/rccs-io/rccs/internal/reader"
	"github.com/rccs-io/rccs/subjects"
)

// The tenant's account JWT, which holds its signing keys and revocations, lies
// in a bucket of the tenant, where only RCCS's own parts write. An edge follows
// it, so that it needs no key of the operator and hears of a revocation at
// once, wherever it runs.

// storeAccount puts the JWT into the bucket, unless one that is as new is there.
func storeAccount(ctx context.Context, js jetstream.JetStream, token string) error {
	kv, err := js.KeyValue(ctx, subjects.BucketAccount)
	if err != nil {
		return fmt.Errorf("node: bucket %s: %w", subjects.BucketAccount, err)
	}
	entry, err := kv.Get(ctx, subjects.AccountEntry)
	switch {
	case errors.Is(err, jetstream.ErrKeyNotFound):
	case err != nil:
		return fmt.Errorf("node: account JWT: %w", err)
	case string(entry.Value()) == token:
		return nil
	default:
		if v, err := auth.NewVerifier(string(entry.Value())); err == nil && errors.Is(v.Update(token), auth.ErrStale) {
			return nil
		}
	}
	if _, err := kv.PutString(ctx, subjects.AccountEntry, token); err != nil {
		return fmt.Errorf("node: store account JWT: %w", err)
	}
	return nil
}

// followAccount keeps a verifier up to date with the bucket. The reader's
// Start returns when the verifier has what is stored; changed is called after
// each change.
func followAccount(nc *nats.Conn, v *auth.Verifier, log *slog.Logger, changed func()) (*reader.Reader, error) {
	return reader.New(reader.Options{
		Conn: nc, Stream: "KV_" + subjects.BucketAccount, FromStart: true, Logger: log,
		Handle: func(e reader.Entry) {
			err := v.Update(string(e.Data))
			switch {
			case errors.Is(err, auth.ErrStale):
			case err != nil:
				log.Error("stored account JWT is of no use", "err", err)
			default:
				changed()
			}
		},
	})
}
