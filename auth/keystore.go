package auth

import (
	"fmt"
	"path/filepath"

	"github.com/nats-io/jwt/v2"

	"github.com/rccs-io/rccs/internal/private"
	"github.com/rccs-io/rccs/internal/shard"
)

// DefaultTenant is the name of the account that every installation has.
const DefaultTenant = "default"

// Account is a tenant, or the system account.
type Account struct {
	Name      string
	PublicKey string
	JWT       string // signed by the operator
	// Services is the JWT of the account of the tenant's backend services,
	// signed by the operator; of the system account empty.
	Services string
}

// Keystore is the keys of an installation, and of one of its tenants: what it
// issues and changes is that tenant's. It is immutable.
type Keystore struct {
	dir     string
	created bool

	operator    *jwt.OperatorClaims
	operatorJWT string
	system      Account
	tenant      Account

	systemKey *signer // signs the system account's users
	tenantKey *signer // a signing key of the tenant: signs its users
	// servicesKey is the key of the services' account: signs services.
	servicesKey *signer
	derive      []byte // secret from which users' keys are derived
}

// OpenKeystore opens DIR/keys, and makes all of it when there is none yet: the
// operator, the system account, the tenant [DefaultTenant], and a signing key
// each for operator and tenant. Any number of processes may do so at once; one
// of them makes the keys, and [Keystore.Created] tells it so.
//
// Keys that are incomplete, spoilt, of two installations, or open to other
// users are refused with an error that says how to mend it. They are never
// replaced: that would end every credential.
//
// What it returns is of the tenant [DefaultTenant]; see [Keystore.Tenant].
func OpenKeystore(dir string) (*Keystore, error) { return OpenKeystoreWith(dir, 1) }

// OpenKeystoreWith is [OpenKeystore] for an installation whose tenant
// [DefaultTenant] has so many shards if it is made now; see [Keystore.Shards].
func OpenKeystoreWith(dir string, shards int) (*Keystore, error) {
	if err := shard.Check(shards); err != nil {
		return nil, err
	}
	keys := filepath.Join(dir, "keys")
	created, err := ensureKeys(dir, keys, func(dir string) error { return createKeys(dir, shards) })
	if err != nil {
		return nil, fmt.Errorf("auth: make keys: %w", err)
	}
	if err := private.CheckTree(keys); err != nil {
		return nil, fmt.Errorf("auth: %w", err)
	}
	k, err := load(keys, DefaultTenant)
	if err != nil {
		return nil, fmt.Errorf("auth: %w", err)
	}
	k.created = created
	return k, nil
}

// load reads a set of keys and checks that they belong together.
func load(dir, tenant string) (*Keystore, error) {
	set, err := readSet(dir, tenant)
	if err != nil {
		return nil, err
	}
	k := &Keystore{dir: dir, operator: set.operator, operatorJWT: set.tokens[operatorToken]}
	k.system = Account{Name: set.system.Name, PublicKey: set.system.Subject, JWT: set.tokens[systemToken]}
	if k.tenant, err = set.account(set.tokens[tenantToken]); err != nil {
		return nil, err
	}
	services, err := set.servicesKey()
	if err != nil {
		return nil, err
	}
	if k.servicesKey, err = newSigner(services); err != nil {
		return nil, err
	}
	if k.systemKey, err = newSigner(set.pairs[systemSeed]); err != nil {
		return nil, err
	}
	if k.tenantKey, err = newSigner(set.pairs[tenantSigning]); err != nil {
		return nil, err
	}
	if k.derive, err = set.pairs[tenantSeed].Seed(); err != nil {
		return nil, err
	}
	return k, nil
}

// Reopen reads the keys again.
func (k *Keystore) Reopen() (*Keystore, error) {
	again, err := load(k.dir, k.tenant.Name)
	if err != nil {
		return nil, fmt.Errorf("auth: %w", err)
	}
	again.created = k.created
	return again, nil
}

// Created reports whether opening made the keys.
func (k *Keystore) Created() bool { return k.created }

// Dir is the directory of the keys.
func (k *Keystore) Dir() string { return k.dir }

// Operator is who signs the accounts. The claims are shared: do not change
// them.
func (k *Keystore) Operator() *jwt.OperatorClaims { return k.operator }

// OperatorJWT is what a NATS server is configured with to trust the operator.
func (k *Keystore) OperatorJWT() string { return k.operatorJWT }

// System is the system account.
func (k *Keystore) System() Account { return k.system }

// Account is the tenant's.
func (k *Keystore) Account() Account { return k.tenant }
