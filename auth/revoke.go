package auth

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"github.com/nats-io/jwt/v2"

	"github.com/rccs-io/rccs/subjects"
)

// Revoke ends every credential of a device that was issued up to now, used or
// not, in the keys of an installation, and returns the tenant with the new
// JWT, which is still to be handed to what runs. A credential issued after
// Revoke has returned is good: JWTs count in seconds, so it may take one.
//
// Any number of processes may change the keys at once.
func (k *Keystore) Revoke(a subjects.Address) (Account, error) {
	return k.RevokeMany(Revocation{Kind: RevokedDevice, Name: a.String(), At: time.Now()}, Keys{})
}

// Unrevoke takes a revocation back: credentials that it ended, and that have
// not expired, are good again.
func (k *Keystore) Unrevoke(a subjects.Address) (Account, error) {
	return k.Restore(Revocation{Kind: RevokedDevice, Name: a.String()}, Keys{})
}

// Upgrade gives the tenant what this version wants of it, if it was made by an
// earlier one, and returns it.
func (k *Keystore) Upgrade() (Account, error) {
	claims, err := jwt.DecodeAccountClaims(k.tenant.JWT)
	if err != nil {
		return Account{}, fmt.Errorf("auth: %w", err)
	}
	if upToDate(claims) {
		return k.tenant, nil
	}
	return k.change(func(claims *jwt.AccountClaims) error {
		claims.Exports = exports()
		return nil
	})
}

// lockedSet reads the tenant's keys as they are now. Nobody else changes them until
// unlock is called.
func (k *Keystore) lockedSet() (set *keySet, unlock func(), err error) {
	if unlock, err = lockKeys(k.dir); err != nil {
		return nil, nil, fmt.Errorf("auth: %w", err)
	}
	if set, err = readSet(k.dir, k.tenant.Name); err != nil {
		unlock()
		return nil, nil, fmt.Errorf("auth: %w", err)
	}
	return set, unlock, nil
}

// change has the operator sign the tenant's JWT with a change.
func (k *Keystore) change(change func(*jwt.AccountClaims) error) (Account, error) {
	set, unlock, err := k.lockedSet()
	if err != nil {
		return Account{}, err
	}
	defer unlock()
	if err := change(set.tenant); err != nil {
		return Account{}, err
	}
	return set.resign(k.dir)
}

// clocksDiffer bounds how far the clock may be behind that of the process that
// changed the account last: of two JWTs the later counts.
const clocksDiffer = 10 * time.Second

// resign has the operator sign the tenant's JWT anew, and keeps it.
func (s *keySet) resign(dir string) (Account, error) {
	behind := time.Until(time.Unix(s.tenant.IssuedAt+1, 0))
	if behind > clocksDiffer {
		return Account{}, fmt.Errorf("auth: the account was changed %s from now, by this machine's clock: set the clocks of all machines right", behind.Round(time.Second))
	}
	time.Sleep(behind)
	begun := time.Now()
	token, err := s.tenant.Encode(s.pairs[operatorSigning])
	if err != nil {
		return Account{}, fmt.Errorf("auth: sign %s: %w", tenantToken, err)
	}
	// First: what is there without it is taken to be known everywhere.
	if _, err := os.Stat(filepath.Join(dir, s.file(untold))); errors.Is(err, fs.ErrNotExist) {
		err = replaceFile(dir, s.file(untold), []byte(s.tokens[tenantToken]))
		if err != nil {
			return Account{}, fmt.Errorf("auth: %w", err)
		}
	} else if err != nil {
		return Account{}, fmt.Errorf("auth: %w", err)
	}
	if err := replaceFile(dir, s.file(tenantToken), []byte(token)); err != nil {
		return Account{}, fmt.Errorf("auth: %w", err)
	}
	// What is issued in the second of the change could be from before it.
	time.Sleep(time.Until(begun.Truncate(time.Second).Add(time.Second)))
	return s.account(token)
}

// account is the tenant, of which token is the JWT.
func (s *keySet) account(token string) (Account, error) {
	services, err := s.services(s.tenant)
	if err != nil {
		return Account{}, fmt.Errorf("auth: %w", err)
	}
	return Account{Name: s.tenant.Name, PublicKey: s.tenant.Subject, JWT: token, Services: services}, nil
}

// replaceFile gives a file new content: after a crash it has the old or the
// new.
func replaceFile(dir, name string, content []byte) error {
	temp, err := os.CreateTemp(dir, ".new-*") // mode 0600
	if err != nil {
		return err
	}
	_, err = temp.Write(content)
	err = errors.Join(err, temp.Sync(), temp.Close())
	if err == nil {
		err = os.Rename(temp.Name(), filepath.Join(dir, name))
	}
	if err != nil {
		return errors.Join(err, os.Remove(temp.Name()))
	}
	return syncDir(dir)
}

// RevokedKey reports whether an account has revoked what was issued for a user's
// key until then.
func (v *Verifier) RevokedKey(account, userKey string, issued time.Time) bool {
	claims := (*v.accounts.Load())[account]
	return claims != nil && claims.Revocations.IsRevoked(userKey, issued)
}

// Revoked reports whether the account has revoked a credential of a device that was
// accepted before, and issued then. An account that is not known any more has
// revoked all.
func (v *Verifier) Revoked(who Identity, issued time.Time) bool {
	claims := (*v.accounts.Load())[who.Account]
	return claims == nil || revoked(claims, who.UserKey, who.Address.String(), issued)
}
