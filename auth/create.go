package auth

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/nats-io/jwt/v2"
	"github.com/nats-io/nkeys"

	"github.com/rccs-io/rccs/internal/private"
)

// The files of a keystore: seeds, and the JWTs made with them.
const (
	operatorSeed    = "operator.nk"
	operatorSigning = "operator-signing.nk"
	systemSeed      = "system.nk"
	tenantSeed      = "default.nk"
	tenantSigning   = "default-signing.nk"
	operatorToken   = "operator.jwt"
	systemToken     = "system.jwt"
	tenantToken     = "default.jwt"
)

// ensureKeys makes the directory of keys unless there is one, and reports whether
// it did. The keys are written beside it and get their name only when they are
// complete, so a crash leaves none, and of two processes one comes second and
// finds those of the first. No lock is needed. fill writes them.
func ensureKeys(dir, keys string, fill func(dir string) error) (created bool, err error) {
	if empty, err := isEmpty(keys); err != nil || !empty {
		return false, err
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return false, err
	}
	if empty, err := isEmpty(dir); err != nil {
		return false, err
	} else if empty { // it was made for this, with another mode
		if err := private.Close(dir); err != nil {
			return false, err
		}
	}
	temp, err := os.MkdirTemp(dir, ".keys-*") // mode 0700
	if err != nil {
		return false, err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(temp)) }() // nothing, once it has its name
	if err := fill(temp); err != nil {
		return false, err
	}
	_ = os.Remove(keys) // succeeds only on an empty directory, on which Rename would fail
	if renamed := os.Rename(temp, keys); renamed != nil {
		if empty, err := isEmpty(keys); err != nil || empty {
			return false, errors.Join(renamed, err)
		}
		return false, nil // another process was first
	}
	return true, syncDir(dir)
}

// isEmpty reports whether a directory holds nothing or does not exist.
func isEmpty(dir string) (bool, error) {
	entries, err := private.Entries(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return true, nil
	}
	return len(entries) == 0, err
}

// createKeys fills a directory with the keys and JWTs of a new installation, whose
// first tenant has so many shards.
func createKeys(dir string, shards int) error {
	makers := map[string]func() (nkeys.KeyPair, error){
		operatorSeed: nkeys.CreateOperator, operatorSigning: nkeys.CreateOperator,
		systemSeed: nkeys.CreateAccount, tenantSeed: nkeys.CreateAccount, tenantSigning: nkeys.CreateAccount,
	}
	pairs := make(map[string]nkeys.KeyPair, len(makers))
	for name, create := range makers {
		pair, err := create()
		if err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
		seed, err := pair.Seed()
		if err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
		if err := writeFile(filepath.Join(dir, name), seed); err != nil {
			return err
		}
		pairs[name] = pair
	}
	tokens, err := signTokens(pairs, shards)
	if err != nil {
		return err
	}
	for name, token := range tokens {
		if err := writeFile(filepath.Join(dir, name), []byte(token)); err != nil {
			return err
		}
	}
	return syncDir(dir)
}

// signTokens makes the JWTs of operator and accounts.
func signTokens(pairs map[string]nkeys.KeyPair, shards int) (map[string]string, error) {
	public, err := publicKeys(pairs)
	if err != nil {
		return nil, err
	}
	operator := jwt.NewOperatorClaims(public[operatorSeed])
	operator.Name = "rccs"
	operator.SystemAccount = public[systemSeed]
	operator.SigningKeys.Add(public[operatorSigning])

	system := jwt.NewAccountClaims(public[systemSeed])
	system.Name = "SYS"

	tenant := jwt.NewAccountClaims(public[tenantSeed])
	tenant.Name = DefaultTenant
	tenant.SigningKeys.Add(public[tenantSigning])
	tenant.Exports = exports()
	setShards(tenant, shards)
	if err := (Limits{}).set(tenant); err != nil {
		return nil, err
	}

	tokens := make(map[string]string)
	for _, t := range []struct {
		name   string
		claims jwt.Claims
		by     string
	}{
		{operatorToken, operator, operatorSeed},
		{systemToken, system, operatorSigning},
		{tenantToken, tenant, operatorSigning},
	} {
		if tokens[t.name], err = t.claims.Encode(pairs[t.by]); err != nil {
			return nil, fmt.Errorf("sign %s: %w", t.name, err)
		}
	}
	return tokens, nil
}

func publicKeys(pairs map[string]nkeys.KeyPair) (map[string]string, error) {
	public := make(map[string]string, len(pairs))
	for name, pair := range pairs {
		key, err := pair.PublicKey()
		if err != nil {
			return nil, fmt.Errorf("%s: %w", name, err)
		}
		public[name] = key
	}
	return public, nil
}

// writeFile makes a new file that only its owner may read, on the disk when it
// returns.
func writeFile(path string, content []byte) error {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	_, err = f.Write(content)
	return errors.Join(err, f.Sync(), f.Close())
}

// syncDir puts the names in a directory on the disk.
func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}
