package backbone

import (
	"fmt"

	"github.com/nats-io/jwt/v2"
	"github.com/nats-io/nats-server/v2/server"
)

// nats-server counts the bounds of an account's streams as stored, and refuses
// each change of one stream while those of the others are more than the account
// may store. After a limit became lower no bound could follow it. So this server
// does not apply an account's limit while the bounds are changed.

// Lift has this server apply no limit to what an account stores, until restore is
// called. What the account's JWT says then counts again. An account that has
// nothing stored yet is left alone.
func (s *Server) Lift(account string) (restore func() error, err error) {
	srv := s.running()
	if srv == nil {
		return nil, ErrNotRunning
	}
	acc, err := srv.LookupAccount(account)
	if err != nil {
		return nil, fmt.Errorf("backbone: account %s: %w", account, err)
	}
	nothing := func() error { return nil }
	if !acc.JetStreamEnabled() {
		return nothing, nil
	}
	if err := setStoreLimit(acc, jwt.NoLimit); err != nil {
		return nil, fmt.Errorf("backbone: account %s: %w", account, err)
	}
	return func() error {
		state, err := srv.Accountz(&server.AccountzOptions{Account: account})
		if err != nil {
			return fmt.Errorf("backbone: account %s: %w", account, err)
		}
		if state.Account == nil {
			return nil // it is gone
		}
		claims, err := jwt.DecodeAccountClaims(state.Account.Jwt)
		if err != nil {
			return fmt.Errorf("backbone: account %s: %w", account, err)
		}
		if err := limitStore(srv, acc, claims.Limits.DiskStorage); err != nil {
			return fmt.Errorf("backbone: nats-server does not hold account %s to its limit of %d bytes: %w", account, claims.Limits.DiskStorage, err)
		}
		return nil
	}, nil
}

// setStoreLimit sets how much an account may store, as far as this server goes.
func setStoreLimit(acc *server.Account, bytes int64) error {
	limits := acc.JetStreamUsage().Limits
	limits.MaxStore = bytes
	return acc.UpdateJetStreamLimits(map[string]server.JetStreamAccountLimits{"": limits})
}

// limitStore limits an account that has no limit. nats-server asks for room for
// the difference beside what is reserved already, which the account's own streams
// are a part of. Where that is too much at once it is not in steps.
func limitStore(srv *server.Server, acc *server.Account, bytes int64) error {
	err := setStoreLimit(acc, bytes)
	if err == nil || bytes <= 0 {
		return err
	}
	_, reserved, unknown := srv.JetStreamReservedResources()
	if unknown != nil {
		return unknown
	}
	step := srv.JetStreamConfig().MaxStore - reserved - 1 // from no limit, -1, it is one more
	if step <= 0 {
		return err
	}
	for at := int64(0); at < bytes; {
		at = min(at+step, bytes)
		if err := setStoreLimit(acc, at); err != nil {
			_ = setStoreLimit(acc, jwt.NoLimit) // a part of the limit would be less than what is reserved
			return err
		}
	}
	return nil
}
