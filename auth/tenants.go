package auth

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"

	"github.com/nats-io/jwt/v2"
	"github.com/nats-io/nkeys"

	"github.com/rccs-io/rccs/internal/shard"
)

// ErrNoTenant is wrapped by the error of [Keystore.Tenant].
var ErrNoTenant = errors.New("there is no such tenant")

// tenantName is what a tenant may be called: it becomes a part of the names of
// files, of which one ends in "-signing".
var tenantName = regexp.MustCompile(`^[a-z0-9]([a-z0-9-]{0,30}[a-z0-9])?$`)

// CheckTenant returns why name cannot be a tenant's, or nil.
func CheckTenant(name string) error {
	if !tenantName.MatchString(name) || strings.HasSuffix(name, "-signing") {
		return fmt.Errorf("auth: %q cannot be a tenant's name: want 1 to 32 letters a to z, digits and dashes", name)
	}
	return nil
}

// Limits bound what a tenant may use. Zero is no limit.
type Limits struct {
	// Devices is how many may be connected to an edge at once.
	Devices int64 `json:"devices,omitempty"`
	// StorageBytes is what its streams may take, on all servers together.
	StorageBytes int64 `json:"storageBytes,omitempty"`
	// Consumers is how many JetStream consumers it may have, those of services
	// and of RCCS's own parts.
	Consumers int64 `json:"consumers,omitempty"`
}

// ownConnections are left to RCCS's own parts and to operators in an account:
// NATS counts them with the devices that are connected to it.
const ownConnections = 1000

// LimitsOf are the limits in a tenant's JWT.
func LimitsOf(account *jwt.AccountClaims) Limits {
	l := Limits{StorageBytes: max(account.Limits.DiskStorage, 0), Consumers: max(account.Limits.Consumer, 0)}
	if n := account.Limits.Conn; n >= 0 {
		l.Devices = max(n-ownConnections, 1)
	}
	return l
}

func (l Limits) set(account *jwt.AccountClaims) error {
	orNone := func(n int64) int64 {
		if n == 0 {
			return jwt.NoLimit
		}
		return n
	}
	if l.Devices < 0 || l.StorageBytes < 0 || l.Consumers < 0 {
		return errors.New("auth: a limit is negative: 0 is none")
	}
	account.Limits.Conn = jwt.NoLimit
	if l.Devices > 0 {
		account.Limits.Conn = l.Devices + ownConnections
	}
	// Without them an account has no JetStream. The server's own limits, in
	// nats.conf, bound all together.
	account.Limits.JetStreamLimits = jwt.JetStreamLimits{
		MemoryStorage: jwt.NoLimit, DiskStorage: orNone(l.StorageBytes), Streams: jwt.NoLimit, Consumer: orNone(l.Consumers),
	}
	return nil
}

const (
	tenantPrefix  = "tenant-"
	removedPrefix = "removed-"
	tokenSuffix   = ".jwt"
)

// TenantNames are those of all tenants, the default one first.
func (k *Keystore) TenantNames() ([]string, error) {
	names := []string{DefaultTenant}
	entries, err := os.ReadDir(k.dir)
	if err != nil {
		return nil, fmt.Errorf("auth: %w", err)
	}
	for _, e := range entries { // sorted
		name, isTenant := strings.CutPrefix(e.Name(), tenantPrefix)
		name, isToken := strings.CutSuffix(name, tokenSuffix)
		if isTenant && isToken && CheckTenant(name) == nil {
			names = append(names, name)
		}
	}
	return names, nil
}

// Tenant are the keys of another tenant of the installation. The error wraps
// [ErrNoTenant] if there is none of that name.
func (k *Keystore) Tenant(name string) (*Keystore, error) {
	if name != DefaultTenant {
		if err := CheckTenant(name); err != nil {
			return nil, err
		}
		if _, err := os.Stat(filepath.Join(k.dir, tenantFile(name, tenantToken))); errors.Is(err, fs.ErrNotExist) {
			return nil, fmt.Errorf("auth: %w: %s ('rccs tenants ls' lists them, 'rccs tenants add %s' makes it)", ErrNoTenant, name, name)
		}
	}
	t, err := load(k.dir, name)
	if err != nil {
		return nil, fmt.Errorf("auth: %w", err)
	}
	return t, nil
}

// AddTenant makes the keys of a new tenant. What serves the installation finds
// them by itself.
func (k *Keystore) AddTenant(name string, limits Limits) (*Keystore, error) {
	return k.AddTenantWith(name, 1, limits)
}

// AddTenantWith is [Keystore.AddTenant] for a tenant with so many shards.
func (k *Keystore) AddTenantWith(name string, shards int, limits Limits) (*Keystore, error) {
	if err := errors.Join(CheckTenant(name), shard.Check(shards)); err != nil {
		return nil, err
	}
	unlock, err := lockKeys(k.dir)
	if err != nil {
		return nil, fmt.Errorf("auth: %w", err)
	}
	defer unlock()
	names, err := k.TenantNames()
	if err != nil {
		return nil, err
	}
	if slices.Contains(names, name) {
		return nil, fmt.Errorf("auth: there is a tenant %s already", name)
	}
	set, err := readSet(k.dir, DefaultTenant)
	if err != nil {
		return nil, fmt.Errorf("auth: %w", err)
	}
	if err := set.addTenant(k.dir, name, shards, limits); err != nil {
		return nil, fmt.Errorf("auth: make the keys of %s: %w", name, err)
	}
	return k.Tenant(name)
}

// addTenant writes the JWT last: with it the tenant is there.
func (s *keySet) addTenant(dir, name string, shards int, limits Limits) error {
	public := map[string]string{}
	for _, file := range []string{tenantSeed, tenantSigning} {
		pair, err := nkeys.CreateAccount()
		if err != nil {
			return err
		}
		seed, err := pair.Seed()
		if err != nil {
			return err
		}
		if public[file], err = pair.PublicKey(); err != nil {
			return err
		}
		if err := replaceFile(dir, tenantFile(name, file), seed); err != nil {
			return err
		}
	}
	claims := jwt.NewAccountClaims(public[tenantSeed])
	claims.Name = name
	claims.SigningKeys.Add(public[tenantSigning])
	claims.Exports = exports()
	setShards(claims, shards)
	if err := limits.set(claims); err != nil {
		return err
	}
	token, err := claims.Encode(s.pairs[operatorSigning])
	if err != nil {
		return err
	}
	return replaceFile(dir, tenantFile(name, tenantToken), []byte(token))
}

// SetLimits changes the tenant's limits, and returns it as [Keystore.Revoke] does.
func (k *Keystore) SetLimits(l Limits) (Account, error) {
	return k.change(func(claims *jwt.AccountClaims) error { return l.set(claims) })
}

// Limits are the tenant's.
func (k *Keystore) Limits() (Limits, error) {
	claims, err := jwt.DecodeAccountClaims(k.tenant.JWT)
	if err != nil {
		return Limits{}, fmt.Errorf("auth: %w", err)
	}
	return LimitsOf(claims), nil
}

// RemoveTenant ends all credentials of the tenant for good, and removes its
// keys. A tenant of the same name that is made later has others.
func (k *Keystore) RemoveTenant() (Account, error) {
	if k.tenant.Name == DefaultTenant {
		return Account{}, errors.New("auth: the tenant " + DefaultTenant + " cannot be removed: every installation has it")
	}
	set, unlock, err := k.lockedSet()
	if err != nil {
		return Account{}, err
	}
	defer unlock()
	set.tenant.Revocations = jwt.RevocationList{jwt.All: forGood.Unix()}
	set.tenant.Limits.JetStreamLimits = jwt.JetStreamLimits{}
	token, err := set.tenant.Encode(set.pairs[operatorSigning])
	if err != nil {
		return Account{}, fmt.Errorf("auth: %w", err)
	}
	account, err := set.account(token)
	if err != nil {
		return Account{}, err
	}
	services, err := jwt.DecodeAccountClaims(account.Services)
	if err != nil {
		return Account{}, fmt.Errorf("auth: %w", err)
	}
	for public, token := range map[string]string{account.PublicKey: account.JWT, services.Subject: account.Services} {
		if err := replaceFile(k.dir, removedPrefix+public+tokenSuffix, []byte(token)); err != nil {
			return Account{}, fmt.Errorf("auth: %w", err)
		}
	}
	for _, file := range []string{tenantToken, untold, issuedFile, tenantSigning, tenantSeed} {
		if err := os.Remove(filepath.Join(k.dir, tenantFile(k.tenant.Name, file))); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return Account{}, fmt.Errorf("auth: %w", err)
		}
	}
	return account, syncDir(k.dir)
}

// Accounts are the JWTs of all accounts that a NATS server of the installation
// needs: in accounts those that are kept with the keys, in derived those that
// follow from them.
func (k *Keystore) Accounts() (accounts, derived []string, err error) {
	names, err := k.TenantNames()
	if err != nil {
		return nil, nil, err
	}
	accounts = []string{k.system.JWT}
	for _, name := range names {
		t, err := k.Tenant(name)
		if err != nil {
			return nil, nil, err
		}
		accounts, derived = append(accounts, t.tenant.JWT), append(derived, t.tenant.Services)
	}
	removed, err := k.Removed()
	return append(accounts, removed...), derived, err
}

// Removed are the JWTs of accounts of tenants that were removed. Servers need
// them, to refuse what was issued there.
func (k *Keystore) Removed() ([]string, error) {
	paths, err := filepath.Glob(filepath.Join(k.dir, removedPrefix+"*"+tokenSuffix))
	if err != nil {
		return nil, fmt.Errorf("auth: %w", err)
	}
	var all []string
	for _, path := range paths {
		token, err := readFile(k.dir, filepath.Base(path))
		if err != nil {
			return nil, fmt.Errorf("auth: %w", err)
		}
		all = append(all, string(token))
	}
	return all, nil
}
