package auth

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/nats-io/jwt/v2"

	"github.com/rccs-io/rccs/internal/private"
)

// TakeKeys copies an installation's keys from a directory to DIR/keys where there
// are none yet. So servers of one installation start from one secret, each with a
// copy that it may change: a revocation or a new tenant is written there. It is
// called before [OpenKeystore].
//
// Keys that DIR has already stay as they are; only tenants that it never had are
// added. If from belongs to another installation, that is an error.
func TakeKeys(dir, from string) error {
	if _, err := os.Stat(filepath.Join(from, operatorToken)); errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("auth: take keys from %s: there is no %s: name an installation's directory of keys, DATA/keys", from, operatorToken)
	}
	keys := filepath.Join(dir, "keys")
	taken, err := ensureKeys(dir, keys, func(temp string) error { return copyKeys(from, temp) })
	if err == nil && !taken {
		err = takeTenants(keys, from)
	}
	if err != nil {
		return fmt.Errorf("auth: take keys from %s: %w", from, err)
	}
	return nil
}

// copyKeys copies the files of a directory of keys, and checks the copies. What
// Kubernetes mounts beside them begins with a dot, and so does our lock.
func copyKeys(from, to string) error {
	if err := private.CheckTree(from); err != nil {
		return err
	}
	entries, err := os.ReadDir(from)
	if err != nil {
		return err
	}
	for _, e := range entries {
		if strings.HasPrefix(e.Name(), ".") || e.Name() == private.LostAndFound {
			continue
		}
		content, err := os.ReadFile(filepath.Join(from, e.Name())) // also through a link
		if err != nil {
			return err
		}
		if err := writeFile(filepath.Join(to, e.Name()), content); err != nil {
			return err
		}
	}
	if _, err := readSet(to, DefaultTenant); err != nil {
		// What is wrong is wrong in the directory that was named.
		return errors.New(strings.ReplaceAll(err.Error(), to, from))
	}
	return syncDir(to)
}

// takeTenants copies the keys of tenants that are not there, and that were not
// removed there.
func takeTenants(dir, from string) error {
	if err := errors.Join(private.CheckTree(from), sameOperator(dir, from)); err != nil {
		return err
	}
	unlock, err := lockKeys(dir)
	if err != nil {
		return err
	}
	defer unlock()
	names, err := (&Keystore{dir: from}).TenantNames()
	if err != nil {
		return err
	}
	for _, name := range names {
		if _, err := os.Stat(filepath.Join(dir, tenantFile(name, tenantToken))); !errors.Is(err, fs.ErrNotExist) {
			if err != nil {
				return err
			}
			continue
		}
		set, err := readSet(from, name)
		if err != nil {
			return err
		}
		if _, err := os.Stat(filepath.Join(dir, removedPrefix+set.tenant.Subject+tokenSuffix)); err == nil {
			continue
		}
		for _, file := range []string{tenantSeed, tenantSigning, tenantToken} { // the JWT last: with it the tenant is there
			content, err := readFile(from, tenantFile(name, file))
			if err != nil {
				return err
			}
			if err := replaceFile(dir, tenantFile(name, file), content); err != nil {
				return err
			}
		}
	}
	return nil
}

// sameOperator refuses two directories of keys with different operators.
func sameOperator(keys, from string) error {
	var subjects []string
	for _, dir := range []string{keys, from} {
		token, err := readFile(dir, operatorToken)
		if err != nil {
			return err
		}
		claims, err := jwt.DecodeOperatorClaims(string(token))
		if err != nil {
			return spoilt(dir, operatorToken, err)
		}
		subjects = append(subjects, claims.Subject)
	}
	if subjects[0] != subjects[1] {
		return fmt.Errorf("%s has the keys of another installation: name the keys of that one, or another data directory", keys)
	}
	return nil
}
