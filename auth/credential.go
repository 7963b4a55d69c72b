package auth

import (
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"time"

	"github.com/nats-io/jwt/v2"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nkeys"
)

// Credential is a user JWT and the seed of its key. Both are secret: printed
// or logged, a Credential shows neither.
type Credential struct {
	JWT  string
	Seed []byte
}

// ParseCredential reads a .creds file, and checks that what it holds is a user
// JWT and the seed of its key: whatever else it took for a JWT, a seed even,
// would be sent to a server.
func ParseCredential(file []byte) (Credential, error) {
	token, err := jwt.ParseDecoratedJWT(file)
	if err != nil {
		return Credential{}, fmt.Errorf("auth: no JWT in the credentials file: %w", err)
	}
	claims, err := jwt.DecodeUserClaims(token)
	if err != nil {
		return Credential{}, fmt.Errorf("auth: no user JWT in the credentials file: %w", err)
	}
	pair, err := jwt.ParseDecoratedUserNKey(file)
	if err != nil {
		return Credential{}, fmt.Errorf("auth: no user seed in the credentials file: %w", err)
	}
	if public, err := pair.PublicKey(); err != nil || public != claims.Subject {
		return Credential{}, errors.New("auth: the seed in the credentials file is not that of its JWT: make the file anew")
	}
	seed, err := pair.Seed()
	if err != nil {
		return Credential{}, fmt.Errorf("auth: %w", err)
	}
	return Credential{JWT: token, Seed: seed}, nil
}

// File is the credential as a .creds file, as NATS clients read it.
func (c Credential) File() ([]byte, error) {
	file, err := jwt.FormatUserConfig(c.JWT, c.Seed)
	if err != nil {
		return nil, fmt.Errorf("auth: %w", err)
	}
	return file, nil
}

// Sign signs a server's nonce.
func (c Credential) Sign(nonce []byte) ([]byte, error) {
	pair, err := nkeys.FromSeed(c.Seed) // a copy, so wiping it leaves the seed
	if err != nil {
		return nil, fmt.Errorf("auth: %w", err)
	}
	defer pair.Wipe()
	return pair.Sign(nonce)
}

// Option makes a NATS connection use the credential.
func (c Credential) Option() nats.Option {
	return nats.UserJWT(func() (string, error) { return c.JWT, nil }, c.Sign)
}

// String implements [fmt.Stringer], and hides the secrets.
func (Credential) String() string { return "[credential]" }

// GoString implements [fmt.GoStringer], and hides the secrets.
func (c Credential) GoString() string { return c.String() }

// LogValue implements [slog.LogValuer], and hides the secrets.
func (c Credential) LogValue() slog.Value { return slog.StringValue(c.String()) }

// Account is the public key of the account that the credential belongs to, as
// its JWT says. Whether that account issued it is for a server to check.
func (c Credential) Account() (string, error) {
	claims, err := jwt.DecodeUserClaims(c.JWT)
	if err != nil {
		return "", fmt.Errorf("auth: credential: %w", err)
	}
	if claims.IssuerAccount != "" {
		return claims.IssuerAccount, nil
	}
	return claims.Issuer, nil
}

// Tenant is the tenant's name, as the credential of a part has it.
func (c Credential) Tenant() string {
	claims, err := jwt.DecodeUserClaims(c.JWT)
	if err == nil {
		for _, tag := range claims.Tags {
			if name, ok := strings.CutPrefix(tag, tenantTag); ok {
				return name
			}
		}
	}
	return DefaultTenant
}

// Holder is who the credential says it is of, and when it ends; zero is never.
// That it is true is for a server to check.
func (c Credential) Holder() (name string, expires time.Time, err error) {
	claims, err := jwt.DecodeUserClaims(c.JWT)
	if err != nil {
		return "", expires, fmt.Errorf("auth: credential: %w", err)
	}
	if claims.Expires != 0 {
		expires = time.Unix(claims.Expires, 0).UTC()
	}
	return claims.Name, expires, nil
}
