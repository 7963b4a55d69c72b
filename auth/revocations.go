package auth

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/nats-io/jwt/v2"

	"github.com/rccs-io/rccs/subjects"
)

// The account JWT lists revocations by public key, which is what NATS servers
// look for. Beside each stands one by name, KIND/NAME, which they pass over: an
// edge refuses by it also a key that nobody knew of when it was revoked, and
// people can read it.

// RevocationKind is what a revocation is of.
type RevocationKind string

// What can be revoked.
const (
	RevokedDevice  RevocationKind = "device"  // named USER/DEVICE
	RevokedUser    RevocationKind = "user"    // every device of it
	RevokedService RevocationKind = "service" // named as it was issued
	RevokedAll     RevocationKind = "all"     // everything of the tenant; without a name
)

// Revocation ends credentials that were issued up to At.
type Revocation struct {
	Kind RevocationKind `json:"kind"`
	Name string         `json:"name,omitempty"`
	At   time.Time      `json:"at"`
}

// entry is the name in the list.
func (r Revocation) entry() string {
	if r.Kind == RevokedAll {
		return jwt.All
	}
	return string(r.Kind) + "/" + r.Name
}

// Check reports whether such a revocation can be made. A name may be one that
// only an earlier version issued.
func (r Revocation) Check() error {
	var err error
	switch r.Kind {
	case RevokedDevice:
		_, err = anyAddress(r.Name)
	case RevokedUser:
		err = checkOld("user", r.Name)
	case RevokedService:
		err = checkOld("service", r.Name)
	case RevokedAll:
	default:
		err = fmt.Errorf("auth: %q cannot be revoked", r.Kind)
	}
	return err
}

// checkOld reports whether a name can be one that was issued, by this version or
// by an earlier one, which took names that look like others: what was issued
// can be revoked.
func checkOld(kind, name string) error {
	if err := subjects.CheckName(kind, name); err != nil {
		return fmt.Errorf("auth: %w", err)
	}
	if strings.Contains(name, "/") {
		return fmt.Errorf("auth: %w: %s %q contains '/'", subjects.ErrName, kind, name)
	}
	return nil
}

// anyAddress reads the name of a device that may have been issued.
func anyAddress(name string) (subjects.Address, error) {
	user, device, ok := strings.Cut(name, "/")
	if !ok {
		return subjects.Address{}, fmt.Errorf("auth: %w: %q is not USER/DEVICE", subjects.ErrName, name)
	}
	if err := checkOld("user", user); err != nil {
		return subjects.Address{}, err
	}
	if err := subjects.CheckName("device", device); err != nil {
		return subjects.Address{}, fmt.Errorf("auth: %w", err)
	}
	return subjects.Address{User: subjects.UserID(user), Device: subjects.DeviceID(device)}, nil
}

// Keys are keys that NATS servers are to refuse with a revocation, beside the
// one that follows from its name.
type Keys struct {
	// Derived are those of a user's devices, see [Keystore.DeviceKey].
	Derived []string
	// Own are those that devices made themselves, see [Keystore.EnrollDevice].
	// They end for good: a device that is enrolled again makes a new one, and a
	// renewal that is under way gains nothing.
	Own []string
}

// RevokeMany is [Keystore.Revoke] for more than a device. Of what is not known to be used
// an edge is told by name.
//
// Revoking all ends the credentials of services and of parts of RCCS too. Parts
// that can issue their own do so when they connect again.
func (k *Keystore) RevokeMany(r Revocation, keys Keys) (Account, error) {
	if err := r.Check(); err != nil {
		return Account{}, err
	}
	return k.change(func(claims *jwt.AccountClaims) error {
		named, err := k.keysOf(r)
		if err != nil {
			return err
		}
		claims.RevokeAt(r.entry(), r.At)
		for _, key := range append(named, keys.Derived...) {
			claims.RevokeAt(key, r.At)
		}
		for _, key := range keys.Own {
			claims.RevokeAt(key, forGood)
		}
		return nil // what revoking all covers stays: it stands when that is taken back
	})
}

// forGood is after everything.
var forGood = time.Date(9999, 1, 1, 0, 0, 0, 0, time.UTC)

// Restore takes a revocation back, with that of keys: credentials that it ended,
// and that have not expired, are good again, unless another revocation ends them.
func (k *Keystore) Restore(r Revocation, keys Keys) (Account, error) {
	if err := r.Check(); err != nil {
		return Account{}, err
	}
	return k.change(func(claims *jwt.AccountClaims) error {
		if _, there := claims.Revocations[r.entry()]; !there {
			return fmt.Errorf("auth: %s is not revoked", strings.TrimSuffix(string(r.Kind)+" "+r.Name, " "))
		}
		named, err := k.keysOf(r)
		if err != nil {
			return err
		}
		for _, key := range slices.Concat(named, keys.Derived, keys.Own, []string{r.entry()}) {
			claims.ClearRevocation(key)
		}
		return k.reapply(claims, r)
	})
}

// reapply ends anew the keys of what is still revoked by name, after r was taken
// back: keys are those of several revocations.
func (k *Keystore) reapply(claims *jwt.AccountClaims, r Revocation) error {
	for _, standing := range listed(claims) {
		of := standing
		if standing.Kind == RevokedUser && r.Kind == RevokedDevice && standing.covers(r) {
			of = r
		}
		keys, err := k.keysOf(of)
		if err != nil {
			return err
		}
		for _, key := range keys {
			claims.RevokeAt(key, standing.At)
		}
	}
	return nil
}

// keysOf are the keys of r that follow from its name.
func (k *Keystore) keysOf(r Revocation) ([]string, error) {
	label := ""
	switch r.Kind {
	case RevokedDevice:
		a, err := anyAddress(r.Name)
		if err != nil {
			return nil, err
		}
		label = deviceLabel(a)
	case RevokedService:
		label = serviceLabel(r.Name)
	case RevokedUser, RevokedAll:
		return nil, nil
	}
	_, key, err := k.userKey(label)
	return []string{key}, err
}

// Revocations are those that stand, the latest first.
func (k *Keystore) Revocations() ([]Revocation, error) {
	set, err := readSet(k.dir, k.tenant.Name)
	if err != nil {
		return nil, fmt.Errorf("auth: %w", err)
	}
	all := listed(set.tenant)
	slices.SortFunc(all, func(a, b Revocation) int {
		if c := b.At.Compare(a.At); c != 0 {
			return c
		}
		return strings.Compare(a.entry(), b.entry())
	})
	return all, nil
}

// listed are the revocations by name in an account's JWT.
func listed(account *jwt.AccountClaims) (all []Revocation) {
	for entry, at := range account.Revocations {
		r := Revocation{At: time.Unix(at, 0).UTC()}
		kind, name, named := strings.Cut(entry, "/")
		switch {
		case entry == jwt.All:
			r.Kind = RevokedAll
		case named:
			r.Kind, r.Name = RevocationKind(kind), name
		default:
			continue // a key; its name is listed
		}
		all = append(all, r)
	}
	return all
}

// revoked reports whether the account has revoked a device's credential, by its
// key, its name or its user.
func revoked(account *jwt.AccountClaims, key, name string, issued time.Time) bool {
	if len(account.Revocations) == 0 {
		return false
	}
	user, _, _ := strings.Cut(name, "/")
	return account.Revocations.IsRevoked(key, issued) ||
		account.Revocations.IsRevoked(string(RevokedDevice)+"/"+name, issued) ||
		account.Revocations.IsRevoked(string(RevokedUser)+"/"+user, issued)
}
