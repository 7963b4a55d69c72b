package node

import (
	"errors"
	"log/slog"

	"github.com/nats-io/nats.go"

	"github.com/rccs-io/rccs/auth"
	"github.com/rccs-io/rccs/internal/layout"
	"github.com/rccs-io/rccs/internal/reader"
)

// The tenant's account JWT, which holds its signing keys and revocations, lies
// in a bucket of the tenant, where only RCCS's own parts write. An edge follows
// it, so that it needs no key of the operator and hears of a revocation at
// once, wherever it runs.

// followAccount keeps a verifier up to date with the bucket. The reader's
// Start returns when the verifier has what is stored; changed is called after
// each change.
func followAccount(nc *nats.Conn, v *auth.Verifier, log *slog.Logger, changed func(token string)) (*reader.Reader, error) {
	return reader.New(reader.Options{
		Conn: nc, Stream: "KV_" + layout.BucketAccount, FromStart: true, Logger: log,
		Handle: func(e reader.Entry) {
			if e.Subject != layout.AccountSubject {
				return
			}
			err := v.Update(string(e.Data))
			switch {
			case errors.Is(err, auth.ErrStale):
			case err != nil:
				log.Error("stored account JWT is of no use", "err", err)
			default:
				changed(string(e.Data))
			}
		},
	})
}
