package auth

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"

	"github.com/nats-io/jwt/v2"
	"github.com/nats-io/nkeys"
)

// DefaultTenant is the name of the account that every installation has.
const DefaultTenant = "default"

// The files of a keystore, below DIR/keys: seeds and the JWTs made with them.
const (
	operatorSeed    = "operator.nk"
	operatorSigning = "operator-signing.nk"
	systemSeed      = "system.nk"
	accountSeed     = "default.nk"
	accountSigning  = "default-signing.nk"
	operatorToken   = "operator.jwt"
	systemToken     = "system.jwt"
	accountToken    = "default.jwt"
	// complete is written last: without it the others are remains of a start
	// that did not come through.
	complete = "complete"
)

// Account is a tenant.
type Account struct {
	Name      string
	PublicKey string
	JWT       string
}

// Keystore is the keys of an installation. It is immutable.
type Keystore struct {
	dir     string
	created bool

	operator *jwt.OperatorClaims
	system   Account
	tenant   Account

	systemKey  nkeys.KeyPair
	signingKey nkeys.KeyPair // signs the tenant's users
	derive     []byte        // secret from which users' keys are derived
}

// OpenKeystore opens DIR/keys, and makes all of it when there is none yet. Any
// number of processes may do so at once; one of them makes the keys. The error
// says what to do when the keys are incomplete or open to other users.
func OpenKeystore(dir string) (*Keystore, error) {
	keys := filepath.Join(dir, "keys")
	if err := os.MkdirAll(keys, 0o700); err != nil {
		return nil, fmt.Errorf("auth: make the key directory: %w", err)
	}
	unlock, err := lock(filepath.Join(keys, ".lock"))
	if err != nil {
		return nil, err
	}
	defer unlock()
	created := false
	if _, err := os.Stat(filepath.Join(keys, complete)); errors.Is(err, fs.ErrNotExist) {
		if err := create(keys); err != nil {
			return nil, err
		}
		created = true
	} else if err != nil {
		return nil, fmt.Errorf("auth: %w", err)
	}
	k, err := load(keys)
	if err != nil {
		return nil, err
	}
	k.created = created
	return k, nil
}

// lock waits until no other process makes keys in the directory.
func lock(path string) (unlock func(), err error) {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, fmt.Errorf("auth: lock the key directory: %w", err)
	}
	if err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX); err != nil {
		_ = f.Close()
		return nil, fmt.Errorf("auth: lock the key directory: %w", err)
	}
	return func() { _ = f.Close() }, nil
}

// create makes every key and JWT of a new installation.
func create(dir string) error {
	seeds := map[string]func() (nkeys.KeyPair, error){
		operatorSeed: nkeys.CreateOperator, operatorSigning: nkeys.CreateOperator,
		systemSeed: nkeys.CreateAccount, accountSeed: nkeys.CreateAccount, accountSigning: nkeys.CreateAccount,
	}
	pairs := make(map[string]nkeys.KeyPair, len(seeds))
	for name, make := range seeds {
		pair, err := make()
		if err != nil {
			return fmt.Errorf("auth: make %s: %w", name, err)
		}
		seed, err := pair.Seed()
		if err != nil {
			return fmt.Errorf("auth: make %s: %w", name, err)
		}
		if err := write(dir, name, seed); err != nil {
			return err
		}
		pairs[name] = pair
	}
	tokens, err := sign(pairs)
	if err != nil {
		return err
	}
	for name, token := range tokens {
		if err := write(dir, name, []byte(token)); err != nil {
			return err
		}
	}
	return write(dir, complete, []byte("these keys belong together\n"))
}

// sign makes the JWTs of operator and accounts.
func sign(pairs map[string]nkeys.KeyPair) (map[string]string, error) {
	public := make(map[string]string, len(pairs))
	for name, pair := range pairs {
		key, err := pair.PublicKey()
		if err != nil {
			return nil, fmt.Errorf("auth: %s: %w", name, err)
		}
		public[name] = key
	}
	operator := jwt.NewOperatorClaims(public[operatorSeed])
	operator.Name = "rccs"
	operator.SystemAccount = public[systemSeed]
	operator.SigningKeys.Add(public[operatorSigning])

	system := jwt.NewAccountClaims(public[systemSeed])
	system.Name = "SYS"

	tenant := jwt.NewAccountClaims(public[accountSeed])
	tenant.Name = DefaultTenant
	tenant.SigningKeys.Add(public[accountSigning])
	tenant.Limits.JetStreamLimits = jwt.JetStreamLimits{
		MemoryStorage: jwt.NoLimit, DiskStorage: jwt.NoLimit, Streams: jwt.NoLimit, Consumer: jwt.NoLimit,
	}

	tokens := make(map[string]string)
	for name, claims := range map[string]struct {
		jwt.Claims
		by nkeys.KeyPair
	}{
		operatorToken: {operator, pairs[operatorSeed]},
		systemToken:   {system, pairs[operatorSigning]},
		accountToken:  {tenant, pairs[operatorSigning]},
	} {
		token, err := claims.Encode(claims.by)
		if err != nil {
			return nil, fmt.Errorf("auth: sign %s: %w", name, err)
		}
		tokens[name] = token
	}
	return tokens, nil
}

// write makes a file that is either whole or not there.
func write(dir, name string, content []byte) error {
	f, err := os.CreateTemp(dir, ".new-*") // mode 0600
	if err != nil {
		return fmt.Errorf("auth: write %s: %w", name, err)
	}
	_, err = f.Write(content)
	err = errors.Join(err, f.Sync(), f.Close())
	if err == nil {
		err = os.Rename(f.Name(), filepath.Join(dir, name))
	}
	if err != nil {
		_ = os.Remove(f.Name())
		return fmt.Errorf("auth: write %s: %w", name, err)
	}
	return nil
}

// load reads a complete set of keys.
func load(dir string) (*Keystore, error) {
	l := loader{dir: dir}
	l.private(".", true)
	k := &Keystore{dir: dir, systemKey: l.pair(systemSeed), signingKey: l.pair(accountSigning)}
	account := l.pair(accountSeed)
	k.operator = l.operator()
	k.system = l.account(systemToken, k.systemKey)
	k.tenant = l.account(accountToken, account)
	if l.err != nil {
		return nil, l.err
	}
	seed, err := account.Seed()
	if err != nil {
		return nil, fmt.Errorf("auth: %s: %w", accountSeed, err)
	}
	k.derive = seed
	return k, nil
}

// loader reads files until the first error.
type loader struct {
	dir string
	err error
}

func (l *loader) fail(name string, err error) {
	if l.err == nil {
		l.err = fmt.Errorf("auth: %s: %w (restore the file from a backup; new keys would end every credential)", filepath.Join(l.dir, name), err)
	}
}

// private refuses what other users may read or write.
func (l *loader) private(name string, dir bool) {
	if l.err != nil {
		return
	}
	path := filepath.Join(l.dir, name)
	info, err := os.Stat(path)
	if err != nil {
		l.fail(name, err)
		return
	}
	if info.Mode().Perm()&0o077 != 0 {
		want := "600"
		if dir {
			want = "700"
		}
		l.err = fmt.Errorf("auth: %s is open to other users (mode %04o): run chmod %s %s", path, info.Mode().Perm(), want, path)
	}
}

func (l *loader) read(name string) []byte {
	l.private(name, false)
	if l.err != nil {
		return nil
	}
	data, err := os.ReadFile(filepath.Join(l.dir, name))
	if err != nil {
		l.fail(name, err)
	}
	return data
}

func (l *loader) pair(name string) nkeys.KeyPair {
	seed := l.read(name)
	if l.err != nil {
		return nil
	}
	pair, err := nkeys.FromSeed(seed)
	if err != nil {
		l.fail(name, err)
	}
	return pair
}

func (l *loader) operator() *jwt.OperatorClaims {
	token := l.read(operatorToken)
	if l.err != nil {
		return nil
	}
	claims, err := jwt.DecodeOperatorClaims(string(token))
	if err != nil {
		l.fail(operatorToken, err)
	}
	return claims
}

func (l *loader) account(name string, pair nkeys.KeyPair) Account {
	token := l.read(name)
	if l.err != nil {
		return Account{}
	}
	claims, err := jwt.DecodeAccountClaims(string(token))
	if err != nil {
		l.fail(name, err)
		return Account{}
	}
	if key, err := pair.PublicKey(); err != nil || key != claims.Subject {
		l.fail(name, errors.New("it is not the JWT of the key beside it"))
	}
	return Account{Name: claims.Name, PublicKey: claims.Subject, JWT: string(token)}
}

// Created says that opening made the keys.
func (k *Keystore) Created() bool { return k.created }

// Dir is the directory of the keys.
func (k *Keystore) Dir() string { return k.dir }

// Operator is who signs the accounts.
func (k *Keystore) Operator() *jwt.OperatorClaims { return k.operator }

// System is the system account.
func (k *Keystore) System() Account { return k.system }

// Tenants are the accounts that serve devices.
func (k *Keystore) Tenants() []Account { return []Account{k.tenant} }
