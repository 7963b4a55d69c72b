package auth

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/nats-io/jwt/v2"
	"github.com/nats-io/nkeys"

	"github.com/rccs-io/rccs/subjects"
)

// DefaultExpiry is how long a device's credential lasts when nothing is said.
const DefaultExpiry = 720 * time.Hour

// The claim names of users say what they are. A device's is USER/DEVICE, and
// only a device's has a '/'; the others begin with the role and a colon.
const (
	servicePrefix = "service:"
	partPrefix    = "rccs:"
)

// tagType carries the device type, as the hex of its bytes: tags are
// lower-cased by tools, and a type may be any text.
const tagType = "rccs-type:"

// DeviceOptions say what a device's credential is like.
type DeviceOptions struct {
	// Type of the device; it wins over what the device says. Empty: the device
	// says.
	Type string
	// Bearer makes a token that is enough by itself. Without it the holder
	// must also sign with the seed.
	Bearer bool
	// Expires is how long it lasts; 0 is [DefaultExpiry].
	Expires time.Duration
}

// IssueDevice makes a device's credential. The key is derived from the
// account's secret and the address, so every credential of a device has one
// key, and revoking that key, at any time, ends them all.
func (k *Keystore) IssueDevice(a subjects.Address, opts DeviceOptions) (Credential, error) {
	if err := a.Check(); err != nil {
		return Credential{}, fmt.Errorf("auth: %w", err)
	}
	u := user{
		name: a.String(), label: "device " + string(a.Key()), bearer: opts.Bearer,
		expires: opts.Expires, allow: subjects.ForDevice(a.Key()),
	}
	if u.expires == 0 {
		u.expires = DefaultExpiry
	}
	if opts.Type != "" {
		if err := subjects.CheckName("type", opts.Type); err != nil {
			return Credential{}, fmt.Errorf("auth: %w", err)
		}
		u.tag = tagType + hex.EncodeToString([]byte(opts.Type))
	}
	return k.issue(u)
}

// IssueService makes a backend service's credential; expires 0 means never.
func (k *Keystore) IssueService(name string, expires time.Duration) (Credential, error) {
	if err := subjects.CheckName("service", name); err != nil {
		return Credential{}, fmt.Errorf("auth: %w", err)
	}
	if strings.Contains(name, "/") {
		return Credential{}, fmt.Errorf("auth: %w: service %q contains '/', which makes it look like a device", subjects.ErrName, name)
	}
	return k.issue(user{name: servicePrefix + name, label: "service " + name, expires: expires, allow: subjects.ForService()})
}

// IssuePart makes the credential of a part of RCCS itself.
func (k *Keystore) IssuePart(name string) (Credential, error) {
	return k.issue(user{name: partPrefix + name, label: "part " + name, allow: subjects.ForPart()})
}

// user is what goes into a user JWT.
type user struct {
	name, label, tag string
	bearer           bool
	expires          time.Duration
	allow            subjects.Permissions
}

func (k *Keystore) issue(u user) (Credential, error) {
	if u.expires < 0 {
		return Credential{}, errors.New("auth: a credential that has expired already is of no use: give a positive duration")
	}
	pair, err := k.userKey(u.label)
	if err != nil {
		return Credential{}, err
	}
	public, err := pair.PublicKey()
	if err != nil {
		return Credential{}, fmt.Errorf("auth: %w", err)
	}
	claims := jwt.NewUserClaims(public)
	claims.Name = u.name
	claims.IssuerAccount = k.tenant.PublicKey
	claims.BearerToken = u.bearer
	claims.Pub.Allow.Add(u.allow.Publish...)
	claims.Sub.Allow.Add(u.allow.Subscribe...)
	if u.tag != "" {
		claims.Tags.Add(u.tag)
	}
	if u.expires > 0 {
		claims.Expires = time.Now().Add(u.expires).Unix()
	}
	token, err := claims.Encode(k.signingKey)
	if err != nil {
		return Credential{}, fmt.Errorf("auth: sign %s: %w", u.name, err)
	}
	seed, err := pair.Seed()
	if err != nil {
		return Credential{}, fmt.Errorf("auth: %w", err)
	}
	return Credential{JWT: token, Seed: seed}, nil
}

// userKey derives a user's key: HMAC-SHA256 of a versioned label, keyed by the
// account's seed. It need not be recorded to be revoked.
func (k *Keystore) userKey(label string) (nkeys.KeyPair, error) {
	mac := hmac.New(sha256.New, k.derive)
	mac.Write([]byte("rccs user key v1\n" + label))
	pair, err := nkeys.FromRawSeed(nkeys.PrefixByteUser, mac.Sum(nil))
	if err != nil {
		return nil, fmt.Errorf("auth: derive a key: %w", err)
	}
	return pair, nil
}

// DeviceKey is the public key of every credential of a device.
func (k *Keystore) DeviceKey(a subjects.Address) (string, error) {
	pair, err := k.userKey("device " + string(a.Key()))
	if err != nil {
		return "", err
	}
	return pair.PublicKey()
}
