package auth

import (
	"encoding/base64"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/nats-io/jwt/v2"
	"github.com/nats-io/nkeys"

	"github.com/rccs-io/rccs/subjects"
)

// Why a credential is refused, or an account's JWT.
var (
	// ErrMalformed is also a token that was changed after it was signed.
	ErrMalformed  = errors.New("not a valid user JWT")
	ErrNotTrusted = errors.New("not issued by a trusted account")
	// ErrNotServedYet: the credential names an account that will be trusted and is not
	// known yet, see [Verifier.Expect].
	ErrNotServedYet = errors.New("issued by an account that is not known yet")
	ErrNotDevice    = errors.New("not a device's credential")
	ErrNotService   = errors.New("not a service's credential")
	ErrExpired      = errors.New("the credential has expired")
	ErrNotYet       = errors.New("the credential is not valid yet")
	ErrRevoked      = errors.New("the credential is revoked")
	// ErrLimited is a credential that may be used in some places or at some
	// hours only, which NATS servers check and an edge does not.
	ErrLimited   = errors.New("the credential has limits that do not allow its use here")
	ErrSignature = errors.New("the signature is not one of the nonce by the credential's key")
	ErrStale     = errors.New("a later JWT of the account is known")
)

// maxToken bounds a token before anything looks into it. The longest that
// [Keystore.IssueDevice] makes has some 6,300 bytes.
const maxToken = 8 << 10

// Verifier checks devices' tokens against the accounts it was given. It is
// safe for concurrent use.
type Verifier struct {
	accounts atomic.Pointer[map[string]*jwt.AccountClaims] // neither map nor claims are ever changed
	services decodedTokens
	devices  signedTokens
	expected sync.Map // of accounts, by public key
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

// Update adds an account or replaces what is known of it: its signing keys and
// revocations. The error wraps [ErrStale] when the JWT was issued before the
// one that is known, which then stays.
func (v *Verifier) Update(account string) error {
	claims, err := jwt.DecodeAccountClaims(account)
	if err != nil {
		return fmt.Errorf("auth: account JWT: %w", err)
	}
	if !nkeys.IsValidPublicAccountKey(claims.Subject) {
		return errors.New("auth: account JWT: its subject is not an account")
	}
	for {
		old := v.accounts.Load()
		if known := (*old)[claims.Subject]; known != nil && known.IssuedAt > claims.IssuedAt {
			return fmt.Errorf("auth: account %s: %w", claims.Subject, ErrStale)
		}
		next := make(map[string]*jwt.AccountClaims, len(*old)+1)
		maps.Copy(next, *old)
		next[claims.Subject] = claims
		if v.accounts.CompareAndSwap(old, &next) {
			return nil
		}
	}
}

// Expect announces an account whose JWT is not known yet. Until it is, users that
// name the account are refused with [ErrNotServedYet].
func (v *Verifier) Expect(account string) { v.expected.Store(account, nil) }

// Expects reports whether [Verifier.Expect] was called for an account.
func (v *Verifier) Expects(account string) bool {
	_, ok := v.expected.Load(account)
	return ok
}

// Limits are those of an account that is trusted.
func (v *Verifier) Limits(account string) Limits {
	claims := (*v.accounts.Load())[account]
	if claims == nil {
		return Limits{}
	}
	return LimitsOf(claims)
}

// Accounts are the public keys of the accounts that are trusted, sorted.
func (v *Verifier) Accounts() []string { return slices.Sorted(maps.Keys(*v.accounts.Load())) }

// Verify checks a token as a device's. The error wraps one of the errors of
// this package. The holder of a token that is not a bearer's has yet to prove
// its key, see [Identity.VerifyNonce].
func (v *Verifier) Verify(token string, now time.Time) (Identity, error) {
	claims, remember, err := v.devices.decode(token)
	if err != nil {
		return Identity{}, err
	}
	account, err := v.issuer(claims)
	if err != nil {
		return Identity{}, err
	}
	who, notDevice := newIdentity(claims, account.Subject)
	if err = checkTime(claims, account, now); err == nil {
		err = checkLimits(claims, account)
	}
	switch {
	case err != nil && notDevice == nil:
		return Identity{}, &refusedError{who.Address, err}
	case err != nil:
		return Identity{}, err
	case notDevice == nil:
		remember()
	}
	return who, notDevice
}

// refusedError is why a device's token is refused that an account which is
// trusted has signed.
type refusedError struct {
	device subjects.Address
	error
}

// Unwrap returns the reason.
func (e *refusedError) Unwrap() error { return e.error }

// RefusedDevice returns the device whose token [Verifier.Verify] refused with
// err. It reports false if no account that is trusted signed the token: then
// the name in it says nothing.
func RefusedDevice(err error) (subjects.Address, bool) {
	var refused *refusedError
	if !errors.As(err, &refused) {
		return subjects.Address{}, false
	}
	return refused.device, true
}

// Service is what a checked token of a backend service says. All of it is signed.
type Service struct {
	Account  string // public key of the services' account, see [Account]
	Name     string // as it was issued, without "service:"
	MayIssue bool   // see [ServiceOptions]
	Expires  time.Time
	Issued   time.Time
	UserKey  string // public key of the user that the token is of
}

// VerifyService checks a bearer token as a service's, of an account of services
// that the verifier was given. The error wraps one of the errors of this
// package.
func (v *Verifier) VerifyService(token string, now time.Time) (Service, error) {
	claims, remember, err := v.services.decode(token)
	if err != nil {
		return Service{}, err
	}
	account, err := v.issuer(claims)
	if err != nil {
		return Service{}, err
	}
	name, ok := strings.CutPrefix(claims.Name, servicePrefix)
	switch {
	case !ok || CheckService(name) != nil || !strings.HasSuffix(account.Name, servicesName):
		return Service{}, ErrNotService
	case !claims.BearerToken:
		return Service{}, fmt.Errorf("%w: it is no bearer token", ErrSignature)
	}
	if err := checkTime(claims, account, now); err != nil {
		return Service{}, err
	}
	if account.Revocations.IsRevoked(string(RevokedService)+"/"+name, time.Unix(claims.IssuedAt, 0)) {
		return Service{}, ErrRevoked
	}
	if err := checkLimits(claims, account); err != nil {
		return Service{}, err
	}
	s := Service{Account: account.Subject, Name: name, UserKey: claims.Subject, Issued: time.Unix(claims.IssuedAt, 0), MayIssue: claims.Tags.Contains(tagMayIssue)}
	if claims.Expires != 0 {
		s.Expires = time.Unix(claims.Expires, 0)
	}
	remember()
	return s, nil
}

// signatureLen is the length of an ed25519 signature in base64.
const signatureLen = 86

// decode reads a token that its issuer, whoever that is, signed.
func decode(token string) (*jwt.UserClaims, error) {
	if len(token) > maxToken {
		return nil, fmt.Errorf("%w: it has %d bytes, at most %d are read", ErrMalformed, len(token), maxToken)
	}
	// Base64 can be written in several ways. Header and claims are signed as
	// they are written; the signature is held to one way here, so that a token
	// that is accepted is, byte for byte, one that was issued.
	sig := token[strings.LastIndexByte(token, '.')+1:]
	if _, err := base64.RawURLEncoding.Strict().DecodeString(sig); err != nil || len(sig) != signatureLen {
		return nil, fmt.Errorf("%w: it does not end in a signature", ErrMalformed)
	}
	claims, err := jwt.DecodeUserClaims(token) // checks the algorithm and the signature
	switch {
	case err != nil:
		return nil, fmt.Errorf("%w: %w", ErrMalformed, err)
	case claims.Version != 2:
		// The signature of version 1 does not cover the header.
		return nil, fmt.Errorf("%w: it is of version %d, 2 is wanted", ErrMalformed, claims.Version)
	case !nkeys.IsValidPublicUserKey(claims.Subject):
		return nil, fmt.Errorf("%w: its subject is not a user", ErrMalformed)
	}
	return claims, nil
}

// issuer finds the account that a user belongs to and checks that it signed.
func (v *Verifier) issuer(claims *jwt.UserClaims) (*jwt.AccountClaims, error) {
	name := claims.IssuerAccount
	if name == "" {
		name = claims.Issuer
	}
	account := (*v.accounts.Load())[name]
	if account == nil {
		if v.Expects(name) {
			return nil, ErrNotServedYet
		}
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

// notBeforeLeeway is how far the clock of a credential's issuer may be ahead.
const notBeforeLeeway = time.Minute

func checkTime(claims *jwt.UserClaims, account *jwt.AccountClaims, now time.Time) error {
	seconds := now.Unix()
	switch {
	case account.Expires != 0 && seconds >= account.Expires:
		return fmt.Errorf("%w: the account's own JWT has expired", ErrNotTrusted)
	case claims.Expires != 0 && seconds >= claims.Expires:
		return ErrExpired
	case claims.NotBefore != 0 && seconds+int64(notBeforeLeeway.Seconds()) < claims.NotBefore:
		return ErrNotYet
	case account.IsClaimRevoked(claims), // or does not say when it was issued
		revoked(account, claims.Subject, claims.Name, time.Unix(claims.IssuedAt, 0)):
		return ErrRevoked
	}
	return nil
}

// checkLimits refuses what a NATS server would bind to an address, an hour or
// a kind of connection, rather than grant it more than its issuer meant.
func checkLimits(claims *jwt.UserClaims, account *jwt.AccountClaims) error {
	webSocket := func(kind string) bool { return strings.EqualFold(kind, jwt.ConnectionTypeWebsocket) }
	kinds := claims.AllowedConnectionTypes
	switch {
	case len(claims.Src) > 0, len(claims.Times) > 0:
		return fmt.Errorf("%w: it is bound to addresses or hours", ErrLimited)
	case claims.ProxyRequired:
		return fmt.Errorf("%w: it is bound to a proxy", ErrLimited)
	case len(kinds) > 0 && !slices.ContainsFunc(kinds, webSocket):
		return fmt.Errorf("%w: it is not for WebSocket", ErrLimited)
	case claims.BearerToken && account.Limits.DisallowBearer:
		return fmt.Errorf("%w: its account does not allow bearer tokens", ErrLimited)
	}
	return nil
}
