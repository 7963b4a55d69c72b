package auth

import (
	"encoding/base64"
	"fmt"
	"strings"
	"time"

	"github.com/nats-io/jwt/v2"
	"github.com/nats-io/nkeys"

	"github.com/rccs-io/rccs/subjects"
)

// Identity is what a checked credential says. All of it is signed.
type Identity struct {
	Account  string // the tenant: public key of its account
	Address  subjects.Address
	Type     string // of the device; empty when the credential does not say
	UserKey  string // public key of the holder
	IssuedAt time.Time
	Expires  time.Time // zero: never
	Bearer   bool      // the token is enough, no signature is needed
	Topics   Topics
}

// newIdentity reads claims that were checked. Only the name of a device has a
// '/', so a service, or a part of RCCS, is none.
func newIdentity(claims *jwt.UserClaims, account string) (Identity, error) {
	address, err := subjects.ParseAddress(claims.Name)
	if err != nil {
		return Identity{}, fmt.Errorf("%w: its name is not USER/DEVICE: %w", ErrNotDevice, err)
	}
	kind, err := deviceType(claims.Tags)
	if err != nil {
		return Identity{}, err
	}
	id := Identity{
		Account: account, Address: address, Type: kind, UserKey: claims.Subject,
		IssuedAt: time.Unix(claims.IssuedAt, 0), Bearer: claims.BearerToken,
		Topics: newTopics(claims),
	}
	if claims.Expires != 0 {
		id.Expires = time.Unix(claims.Expires, 0)
	}
	return id, nil
}

// urlToStd turns the alphabet of base64url into that of base64.
var urlToStd = strings.NewReplacer("-", "+", "_", "/")

// VerifyNonce checks that sig, in base64 of any of the usual alphabets, padded
// or not, is the holder's signature of the nonce. The error wraps
// [ErrSignature].
func (id *Identity) VerifyNonce(nonce []byte, sig string) error {
	sig = strings.TrimRight(sig, "=")
	if len(sig) != signatureLen {
		return fmt.Errorf("%w: it has %d characters, want %d of base64", ErrSignature, len(sig), signatureLen)
	}
	raw, err := base64.RawStdEncoding.DecodeString(urlToStd.Replace(sig))
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
