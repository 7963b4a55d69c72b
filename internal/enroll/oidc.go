package enroll

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/go-jose/go-jose/v4/jwt"

	"github.com/rccs-io/rccs/subjects"
	"github.com/rccs-io/rccs/wire"
)

// OIDCOptions configure an [OIDC]. Zero values mean the documented default.
type OIDCOptions struct {
	// Issuer is what a token's iss has to be. Needed.
	Issuer string
	// Audience is what has to be in a token's aud. Needed.
	Audience string
	// JWKS is where the issuer's keys are: an https URL, or a file. Default:
	// where the issuer's /.well-known/openid-configuration says.
	JWKS string
	// UserClaim names the claim that is the user. Default "sub".
	UserClaim string
	// Skew is how far the issuer's clock may be from the one here. Default a
	// minute.
	Skew time.Duration
	// Client fetches keys; nil: one that the package makes.
	Client *http.Client
	// Now is the clock; nil: the system's.
	Now func() time.Time
}

func (o *OIDCOptions) validate() error {
	if o.Issuer == "" || o.Audience == "" {
		return errors.New("enroll: the issuer and the audience of tokens are needed, both")
	}
	if o.UserClaim == "" {
		o.UserClaim = "sub"
	}
	if o.Skew == 0 {
		o.Skew = time.Minute
	}
	if o.Client == nil {
		o.Client = keyClient()
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	return nil
}

// OIDC checks identity tokens of one issuer. It may be used from any goroutine.
type OIDC struct {
	opts OIDCOptions
	keys *keySource
}

// algorithms are those that a token may be signed with: with a private key,
// never with a secret that both sides know, and never not at all.
var algorithms = []jose.SignatureAlgorithm{
	jose.RS256, jose.RS384, jose.RS512, jose.PS256, jose.PS384, jose.PS512, jose.ES256, jose.ES384, jose.ES512, jose.EdDSA,
}

// NewOIDC checks the options, and reads the keys if they are in a file.
func NewOIDC(opts OIDCOptions) (*OIDC, error) {
	if err := opts.validate(); err != nil {
		return nil, err
	}
	keys, err := newKeySource(&opts)
	if err != nil {
		return nil, err
	}
	return &OIDC{opts: opts, keys: keys}, nil
}

// User implements [TokenVerifier].
func (o *OIDC) User(ctx context.Context, token string) (subjects.UserID, error) {
	parsed, err := jwt.ParseSigned(token, algorithms)
	if err != nil || len(parsed.Headers) != 1 {
		return "", fmt.Errorf("%w: it is not a JWT that is signed with one of the algorithms %v", errBadToken, algorithms)
	}
	header := parsed.Headers[0]
	// An access token, or one for another purpose, says so here.
	if typ, given := header.ExtraHeaders[jose.HeaderType]; given {
		if text, ok := typ.(string); !ok || !strings.EqualFold(text, "JWT") {
			return "", fmt.Errorf("%w: its typ is %q, an identity token has JWT or none", errBadToken, fmt.Sprint(typ))
		}
	}
	keys, err := o.keys.find(ctx, header.KeyID, header.Algorithm)
	if err != nil {
		return "", fmt.Errorf("%w: %w", wire.NewError(wire.Unavailable, "the keys of the token's issuer cannot be read now, try again"), err)
	}
	var claims jwt.Claims
	all := map[string]any{}
	for i := range keys {
		if err = parsed.Claims(keys[i].Key, &claims, &all); err == nil {
			return o.user(&claims, all)
		}
	}
	return "", fmt.Errorf("%w: it is not signed with a key of the issuer", errBadToken)
}

// user reads claims whose signature is good.
func (o *OIDC) user(claims *jwt.Claims, all map[string]any) (subjects.UserID, error) {
	if claims.Expiry == nil {
		return "", fmt.Errorf("%w: it does not say when it expires", errBadToken)
	}
	err := claims.ValidateWithLeeway(jwt.Expected{
		Issuer: o.opts.Issuer, AnyAudience: jwt.Audience{o.opts.Audience}, Time: o.opts.Now(),
	}, o.opts.Skew)
	switch {
	case errors.Is(err, jwt.ErrInvalidIssuer):
		return "", fmt.Errorf("%w: it is of another issuer", errBadToken)
	case errors.Is(err, jwt.ErrInvalidAudience):
		return "", fmt.Errorf("%w: it is for another audience", errBadToken)
	case errors.Is(err, jwt.ErrExpired):
		return "", fmt.Errorf("%w: it has expired", errBadToken)
	case err != nil:
		return "", fmt.Errorf("%w: it is not valid yet", errBadToken)
	}
	if azp, given := all["azp"]; given && azp != o.opts.Audience {
		return "", fmt.Errorf("%w: it was issued to another party", errBadToken)
	}
	name, ok := all[o.opts.UserClaim].(string)
	if !ok || name == "" {
		return "", fmt.Errorf("%w: its claim %q is not a text", errBadToken, o.opts.UserClaim)
	}
	// Anybody may claim an address that nobody has checked.
	if o.opts.UserClaim == "email" && all["email_verified"] != true {
		return "", fmt.Errorf("%w: its email is not verified", errBadToken)
	}
	if err := (subjects.Address{User: subjects.UserID(name), Device: "any"}).Check(); err != nil {
		return "", fmt.Errorf("%w: %w", errBadToken, err)
	}
	return subjects.UserID(name), nil
}
