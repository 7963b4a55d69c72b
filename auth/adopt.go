package auth

import (
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"reflect"

	"github.com/nats-io/jwt/v2"
)

// Servers of a cluster have the same keys, each its own copy, and a revocation
// can be made with any of them, also while no server runs. So a change of the
// account begins from the JWT that the servers use, and servers take over the
// changes of others.

// untold is there while the tenant's JWT has changes that servers may not know
// of, and holds the JWT as it was before them.
const untold = "default.untold"

// Adopt merges the account JWT that servers use into the keys, and returns the
// account as it is in the keys then. The newer JWT wins; if the keys have changes
// that no server was told of, Adopt signs a new one with both. A JWT of another
// installation is refused.
func (k *Keystore) Adopt(token string) (Account, error) {
	set, unlock, err := k.lockedSet()
	if err != nil {
		return Account{}, err
	}
	defer unlock()
	given, err := set.accept(token)
	if err != nil {
		return Account{}, fmt.Errorf("auth: the account JWT that servers use: %w", err)
	}
	own, same := set.tenant, set.tokens[tenantToken] == token
	before, err := set.before(k.dir)
	switch {
	case err != nil:
		return Account{}, fmt.Errorf("auth: %w", err)
	case same || before == nil && own.IssuedAt > given.IssuedAt:
		return set.account(set.tokens[tenantToken])
	case before == nil:
		if err := replaceFile(k.dir, set.file(tenantToken), []byte(token)); err != nil {
			return Account{}, fmt.Errorf("auth: %w", err)
		}
		set.tenant = given
		return set.account(token)
	}
	given.Exports = exports()
	given.Tags, given.Mappings = own.Tags, own.Mappings // a restore may have divided the tenant anew
	given.Revocations = merged(given.Revocations, before.Revocations, own.Revocations)
	if !reflect.DeepEqual(own.Limits, before.Limits) {
		given.Limits = own.Limits
	}
	set.tenant = given
	return set.resign(k.dir)
}

// before is the tenant as servers were told of it last, or nil if that is as it
// is now.
func (s *keySet) before(dir string) (*jwt.AccountClaims, error) {
	if _, err := os.Stat(filepath.Join(dir, s.file(untold))); errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	token, err := readFile(dir, s.file(untold))
	if err != nil {
		return nil, err
	}
	claims, err := s.accept(string(token))
	if err != nil {
		return nil, spoilt(dir, s.file(untold), err)
	}
	return claims, nil
}

// merged is given with what was changed from before to own.
func merged(given, before, own jwt.RevocationList) jwt.RevocationList {
	result := jwt.RevocationList{}
	maps.Copy(result, given)
	for entry, at := range own {
		if at != before[entry] {
			result[entry] = max(at, given[entry])
		}
	}
	for entry := range before {
		if _, stays := own[entry]; !stays {
			delete(result, entry)
		}
	}
	return result
}

// accept decodes a JWT of the tenant, signed by the operator.
func (s *keySet) accept(token string) (*jwt.AccountClaims, error) {
	claims, err := jwt.DecodeAccountClaims(token)
	if err != nil {
		return nil, err
	}
	public, err := s.pairs[tenantSigning].PublicKey()
	if err != nil {
		return nil, err
	}
	_, signs := claims.SigningKeys.GetScope(public)
	if claims.Subject != s.tenant.Subject || !s.operator.DidSign(claims) || !signs {
		return nil, fmt.Errorf("%w: it is of another installation", ErrNotTrusted)
	}
	return claims, nil
}

// Told notes that servers use this account JWT. If the keys have another by now,
// that one still has to be told.
func (k *Keystore) Told(token string) error {
	unlock, err := lockKeys(k.dir)
	if err != nil {
		return fmt.Errorf("auth: %w", err)
	}
	defer unlock()
	own, err := readFile(k.dir, tenantFile(k.tenant.Name, tenantToken))
	if err != nil {
		return fmt.Errorf("auth: %w", err)
	}
	if string(own) != token {
		return nil
	}
	if err := os.Remove(filepath.Join(k.dir, tenantFile(k.tenant.Name, untold))); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("auth: %w", err)
	}
	return nil
}
