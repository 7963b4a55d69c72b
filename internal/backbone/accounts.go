package backbone

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/nats-io/jwt/v2"
	"github.com/nats-io/nats-server/v2/server"

	"github.com/rccs-io/rccs/internal/private"
)

// ErrStale is wrapped by the error of [Server.UpdateAccount] when a JWT issued
// later is stored already.
var ErrStale = errors.New("a later JWT of the account is stored")

// openAccounts opens Dir/accounts, the directory of account JWTs from which
// nats-server resolves accounts, and puts the given accounts there.
func openAccounts(o Options) (*server.DirAccResolver, error) {
	dir := filepath.Join(o.Dir, "accounts")
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("backbone: accounts: %w", err)
	}
	for _, token := range o.Accounts {
		if err := seed(o.Operator, dir, token, true); err != nil {
			return nil, fmt.Errorf("backbone: accounts: %w", err)
		}
	}
	for _, token := range o.Derived {
		if err := seed(o.Operator, dir, token, false); err != nil {
			return nil, fmt.Errorf("backbone: accounts: %w", err)
		}
	}
	// No limit on accounts, the default interval at which servers of a
	// cluster compare what they have, and no deletion.
	resolver, err := server.NewDirAccResolver(dir, 0, 0, server.NoDelete)
	if err != nil {
		return nil, fmt.Errorf("backbone: accounts: %w", err)
	}
	return resolver, nil
}

// loadAccounts has nats-server load all accounts before anybody can connect.
// Otherwise the first client of an account has it loaded, and when
// [Server.UpdateAccount] stores a later JWT meanwhile, nats-server goes on with
// the one that it had begun to load.
func (o Options) loadAccounts(srv *server.Server) error {
	for _, token := range slices.Concat(o.Accounts, o.Derived) {
		claims, err := jwt.DecodeAccountClaims(token)
		if err == nil {
			_, err = srv.LookupAccount(claims.Subject)
		}
		if err != nil {
			return fmt.Errorf("backbone: load account: %w", err)
		}
	}
	return nil
}

// seed writes the given JWT unless the stored one is good and, where it matters
// whether the given one is newer, at least as new. A stored one wins within the
// same second, because it may hold a revocation.
func seed(operator *jwt.OperatorClaims, dir, token string, newer bool) error {
	given, err := checkAccount(operator, token)
	if err != nil {
		return err
	}
	path := accountFile(dir, given.Subject)
	old, err := os.ReadFile(path)
	switch {
	case err == nil:
		// One that cannot be read, or is not trusted any more, has no say.
		stored, err := checkAccount(operator, string(old))
		if err == nil && stored.Subject == given.Subject && (!newer || stored.IssuedAt >= given.IssuedAt) {
			return nil
		}
	case !errors.Is(err, os.ErrNotExist):
		return err
	}
	return private.Replace(path, []byte(token))
}

// accountFile is where nats-server's directory resolver keeps an account.
func accountFile(dir, account string) string { return filepath.Join(dir, account+".jwt") }

// UpdateAccount stores an account JWT, signed by the operator, and applies it
// to the running server before it returns: clients whose user the JWT revokes
// are disconnected, others stay. It is kept over restarts. Servers of a
// cluster fetch it from each other within a minute.
//
// The caller keeps its own copy and gives it in [Options.Accounts] at the next
// start: nats-server replaces the stored file in place, so a crash at the
// wrong moment can spoil it.
func (s *Server) UpdateAccount(token string) error {
	claims, err := checkAccount(s.opts.Operator, token)
	if err != nil {
		return fmt.Errorf("backbone: update: %w", err)
	}
	srv := s.running()
	if srv == nil {
		return ErrNotRunning
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.store(claims, token); err != nil {
		return fmt.Errorf("backbone: update account %s: %w", claims.Subject, err)
	}
	// What somebody else has handed over meanwhile may be stored and not applied
	// yet.
	for since := time.Now(); ; time.Sleep(appliedEvery) {
		err := applied(srv, claims.Subject, token)
		if err == nil || time.Since(since) > appliedTimeout {
			return err
		}
	}
}

const (
	appliedTimeout = time.Second
	appliedEvery   = 10 * time.Millisecond
)

// store compares issue times itself. The resolver's own Store passes over an
// older JWT in silence, and over a newer one of the same second too: it
// compares the JWT's id, which does not depend on limits and revocations.
func (s *Server) store(claims *jwt.AccountClaims, token string) error {
	// A stored one that cannot be read is replaced.
	if old, err := s.resolver.LoadAcc(claims.Subject); err == nil {
		stored, err := checkAccount(s.opts.Operator, old)
		if err == nil && stored.IssuedAt > claims.IssuedAt {
			return ErrStale
		}
	}
	if err := s.resolver.SaveAcc(claims.Subject, token); err != nil {
		return err
	}
	return private.Sync(accountFile(filepath.Join(s.opts.Dir, "accounts"), claims.Subject))
}

// applied checks that the server works by the JWT now: when that fails,
// nats-server only logs it.
func applied(srv *server.Server, account, token string) error {
	if _, err := srv.LookupAccount(account); err != nil { // loads one that nobody used yet
		return fmt.Errorf("backbone: update account %s: %w", account, err)
	}
	state, err := srv.Accountz(&server.AccountzOptions{Account: account})
	if err != nil {
		return fmt.Errorf("backbone: update account %s: %w", account, err)
	}
	if state.Account != nil && state.Account.Jwt == token {
		return nil
	}
	// Another may have come at the same time, which then is at least as new.
	given, err := jwt.DecodeAccountClaims(token)
	if err != nil {
		return fmt.Errorf("backbone: update account %s: %w", account, err)
	}
	applied := int64(0)
	if state.Account != nil {
		if claims, err := jwt.DecodeAccountClaims(state.Account.Jwt); err == nil {
			applied = claims.IssuedAt
		}
	}
	if applied < given.IssuedAt {
		return fmt.Errorf("backbone: account %s is stored but the server did not take it: see its log, and restart", account)
	}
	return nil
}
