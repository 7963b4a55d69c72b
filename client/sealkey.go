package client

import (
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"unicode"

	"github.com/nats-io/jwt/v2"
	"github.com/nats-io/nkeys"
)

// sealCapability is the member of a device's capabilities that publishes its
// key: a list of the public curve key, the signature of the device's user key
// over sealStatement, base64url, and the credential that says whose that user
// key is.
const sealCapability = "sealKey"

// sealPrefix begins what a device signs to publish its curve key. The same key
// signs the nonces of edges: see signable.
const sealPrefix = "rccs seal key 1\n"

// ErrNoSealKey says that a device has published no key to seal to.
var ErrNoSealKey = errors.New("client: the device has no key to seal to: it must connect with Options.Seal")

// ErrSealUnproved says that a device's record has a key to seal to and no good
// proof that it is the device's.
var ErrSealUnproved = errors.New("client: the key to seal to is not proved to be the device's")

// sealStatement is what the device called name (USER/DEVICE) signs.
func sealStatement(name, key string) []byte {
	return []byte(sealPrefix + name + "\n" + key)
}

// signable refuses a nonce that would make the device sign a statement, such as
// one for a curve key that is not its own: those have several lines, and a
// nonce has one.
func signable(nonce string) error {
	if strings.ContainsFunc(nonce, unicode.IsControl) {
		return errors.New("client: the edge's nonce is more than one line, as no honest edge's is: it is not signed")
	}
	return nil
}

// publishedKey is the value of sealCapability for a key.
func publishedKey(key nkeys.KeyPair, token string, sign Signer) ([]string, error) {
	claims, err := jwt.DecodeUserClaims(token)
	if err != nil {
		return nil, fmt.Errorf("client: Options.Seal: credential: %w", err)
	}
	if sign == nil || claims.BearerToken {
		return nil, errors.New("client: Options.Seal needs a credential with a key that signs, and a bearer token has none: " +
			"use the .creds file that rccs creds device makes without --bearer")
	}
	public, err := key.PublicKey()
	if err != nil {
		return nil, fmt.Errorf("client: Options.Seal: %w", err)
	}
	sig, err := sign(sealStatement(claims.Name, public))
	if err != nil {
		return nil, fmt.Errorf("client: sign the key to seal to: %w", err)
	}
	return []string{public, encodeSig(sig), token}, nil
}

// provedKey is the curve key that a device called name (USER/DEVICE) publishes
// in its capabilities, if one of issuers signed its credential, and that
// credential's key the curve key. An expired credential is good: a device may
// be away for longer.
func provedKey(capabilities []byte, name string, issuers []string) (string, error) {
	var published struct {
		Key json.RawMessage `json:"sealKey"`
	}
	if len(capabilities) > 0 {
		if err := json.Unmarshal(capabilities, &published); err != nil {
			return "", fmt.Errorf("%w: capabilities cannot be read: %w", ErrSealUnproved, err)
		}
	}
	if published.Key == nil || string(published.Key) == "null" {
		return "", ErrNoSealKey
	}
	var proof []string
	if json.Unmarshal(published.Key, &proof) != nil || len(proof) != 3 {
		return "", fmt.Errorf("%w: it must come with a signature and a credential", ErrSealUnproved)
	}
	key, token := proof[0], proof[2]
	if !nkeys.IsValidPublicCurveKey(key) {
		return "", fmt.Errorf("%w: it is no curve key", ErrSealUnproved)
	}
	claims, err := jwt.DecodeUserClaims(token)
	if err != nil {
		return "", fmt.Errorf("%w: credential: %w", ErrSealUnproved, err)
	}
	if claims.Name != name {
		return "", fmt.Errorf("%w: its credential is that of %q", ErrSealUnproved, claims.Name)
	}
	if !slices.Contains(issuers, claims.Issuer) {
		return "", fmt.Errorf("%w: its credential was issued by %s, who did not issue this device's (see Seal.Issuers)",
			ErrSealUnproved, claims.Issuer)
	}
	user, err := nkeys.FromPublicKey(claims.Subject)
	if err != nil {
		return "", fmt.Errorf("%w: credential: %w", ErrSealUnproved, err)
	}
	sig, err := base64.RawURLEncoding.DecodeString(proof[1])
	if err != nil || user.Verify(sealStatement(name, key), sig) != nil {
		return "", fmt.Errorf("%w: the device did not sign it", ErrSealUnproved)
	}
	return key, nil
}
