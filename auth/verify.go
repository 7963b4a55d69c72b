package auth

import (
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"github.com/nats-io/jwt/v2"
	"github.com/nats-io/nkeys"

	"github.com/rccs-io/rccs/subjects"
)

// Why a credential is refused.
var (
	ErrMalformed  = errors.New("not a valid user JWT")
	ErrNotTrusted = errors.New("not issued by a trusted account")
	ErrNotDevice  = errors.New("not a device's credential")
	ErrExpired    = errors.New("the credential has expired")
	ErrNotYet     = errors.New("the credential is not valid yet")
	ErrRevoked    = errors.New("the credential is revoked")
	ErrSignature  = errors.New("the signature is not one of the nonce by the credential's key")
)

// maxToken bounds a token before anything looks into it.
const maxToken = 8 << 10

// Identity is what a checked credential says. All of it is signed.
type Identity struct {
	Account  string // the tenant: public key of its account
	Address  subjects.Address
	Type     string // of the device; empty when the credential does not say
	UserKey  string // public key of the holder
	IssuedAt time.Time
	Expires  time.Time // zero: never
	Bearer   bool      // the token is enough, no signature is needed
}

// Verifier checks devices' tokens against the accounts it was given.
type Verifier struct {
	accounts atomic.Pointer[map[string]*jwt.AccountClaims]
}

// NewVerifier trusts the accounts whose JWTs are given. That the operator
// signed those is for the caller to know.
func NewVerifier(accounts ...string) (*Verifier, error) {
	v := &Verifier{}
	v.accounts.Store(&map[string]*jwt.AccountClaims{})
	for _, token := range accounts {
		if err := v.Update(token); err != nil {
			return nil, err
		}
	}
	return v, nil
}

// Update adds an account or replaces what is known of it: its signing keys
// and revocations.
func (v *Verifier) Update(account string) error {
	claims, err := jwt.DecodeAccountClaims(account)
	if err != nil {
		return fmt.Errorf("auth: account JWT: %w", err)
	}
	for {
		old := v.accounts.Load()
		next := make(map[string]*jwt.AccountClaims, len(*old)+1)
		maps.Copy(next, *old)
		next[claims.Subject] = claims
		if v.accounts.CompareAndSwap(old, &next) {
			return nil
		}
	}
}

// Verify checks a token as a device's. The error wraps one of the errors of
// this package. The holder of a token that is not a bearer's has yet to prove
// its key, see [Identity.VerifyNonce].
func (v *Verifier) Verify(token string, now time.Time) (Identity, error) {
	if len(token) > maxToken {
		return Identity{}, fmt.Errorf("%w: it has %d bytes, at most %d are read", ErrMalformed, len(token), maxToken)
	}
	// Decoding checks the algorithm and the signature by the issuer it names.
	claims, err := jwt.DecodeUserClaims(token)
	if err != nil {
		return Identity{}, fmt.Errorf("%w: %w", ErrMalformed, err)
	}
	if !nkeys.IsValidPublicUserKey(claims.Subject) {
		return Identity{}, fmt.Errorf("%w: its subject is not a user", ErrMalformed)
	}
	account, err := v.issuer(claims)
	if err != nil {
		return Identity{}, err
	}
	if err := checkTime(claims, account, now); err != nil {
		return Identity{}, err
	}
	return identity(claims)
}

// issuer finds the account that a user belongs to and checks that it signed.
func (v *Verifier) issuer(claims *jwt.UserClaims) (*jwt.AccountClaims, error) {
	name := claims.IssuerAccount
	if name == "" {
		name = claims.Issuer
	}
	account := (*v.accounts.Load())[name]
	if account == nil {
		return nil, ErrNotTrusted
	}
	if claims.Issuer == account.Subject {
		return account, nil
	}
	if scope, ok := account.SigningKeys.GetScope(claims.Issuer); !ok || scope != nil {
		return nil, ErrNotTrusted // a scoped key grants what its scope says, not an identity
	}
	return account, nil
}

func checkTime(claims *jwt.UserClaims, account *jwt.AccountClaims, now time.Time) error {
	if claims.Expires != 0 && now.Unix() >= claims.Expires {
		return ErrExpired
	}
	if claims.NotBefore != 0 && now.Unix() < claims.NotBefore {
		return ErrNotYet
	}
	if account.IsClaimRevoked(claims) {
		return ErrRevoked
	}
	return nil
}

func identity(claims *jwt.UserClaims) (Identity, error) {
	if strings.HasPrefix(claims.Name, servicePrefix) || strings.HasPrefix(claims.Name, partPrefix) {
		if !strings.Contains(claims.Name, "/") {
			return Identity{}, ErrNotDevice
		}
	}
	address, err := subjects.ParseAddress(claims.Name)
	if err != nil {
		return Identity{}, fmt.Errorf("%w: its name is not USER/DEVICE", ErrNotDevice)
	}
	id := Identity{
		Account: claims.IssuerAccount, Address: address, UserKey: claims.Subject,
		IssuedAt: time.Unix(claims.IssuedAt, 0), Bearer: claims.BearerToken,
	}
	if id.Account == "" {
		id.Account = claims.Issuer
	}
	if claims.Expires != 0 {
		id.Expires = time.Unix(claims.Expires, 0)
	}
	for _, tag := range claims.Tags {
		if text, ok := strings.CutPrefix(tag, tagType); ok {
			if raw, err := hex.DecodeString(text); err == nil {
				id.Type = string(raw)
			}
		}
	}
	return id, nil
}

// VerifyNonce checks that sig, in base64 of any of the usual alphabets, is the
// holder's signature of the nonce. The error wraps [ErrSignature].
func (id *Identity) VerifyNonce(nonce []byte, sig string) error {
	sig = strings.NewReplacer("-", "+", "_", "/").Replace(strings.TrimRight(sig, "="))
	raw, err := base64.RawStdEncoding.DecodeString(sig)
	if err != nil {
		return fmt.Errorf("%w: it is not base64", ErrSignature)
	}
	pair, err := nkeys.FromPublicKey(id.UserKey)
	if err != nil {
		return fmt.Errorf("%w: %w", ErrSignature, err)
	}
	if err := pair.Verify(nonce, raw); err != nil {
		return ErrSignature
	}
	return nil
}

// Accounts are the public keys of the accounts that are trusted, sorted.
func (v *Verifier) Accounts() []string {
	var keys []string
	for key := range *v.accounts.Load() {
		keys = append(keys, key)
	}
	slices.Sort(keys)
	return keys
}
