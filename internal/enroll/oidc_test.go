package enroll_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"sync/atomic"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/go-jose/go-jose/v4/jwt"

	"github.com/rccs-io/rccs/internal/enroll"
	"github.com/rccs-io/rccs/wire"
)

const audience = "rccs"

// issuer is a third party, which signs tokens and serves its keys.
type issuer struct {
	t     *testing.T
	url   string
	keys  atomic.Pointer[jose.JSONWebKeySet]
	down  atomic.Bool
	asked atomic.Int64
}

func newIssuer(t *testing.T) *issuer {
	t.Helper()
	i := &issuer{t: t}
	i.keys.Store(&jose.JSONWebKeySet{})
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if i.down.Load() {
			http.Error(w, "down", http.StatusServiceUnavailable)
			return
		}
		if r.URL.Path == "/.well-known/openid-configuration" {
			_ = json.NewEncoder(w).Encode(map[string]string{"issuer": i.url, "jwks_uri": i.url + "/keys"})
			return
		}
		i.asked.Add(1)
		_ = json.NewEncoder(w).Encode(i.keys.Load())
	}))
	t.Cleanup(server.Close)
	i.url = server.URL
	return i
}

// key is a new one; it is served once [issuer.serve] was called.
func (i *issuer) key(id string) jose.JSONWebKey {
	i.t.Helper()
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	check(i.t, err)
	return jose.JSONWebKey{Key: private, KeyID: id, Algorithm: string(jose.ES256), Use: "sig"}
}

func (i *issuer) serve(keys ...jose.JSONWebKey) {
	set := &jose.JSONWebKeySet{}
	for _, key := range keys {
		set.Keys = append(set.Keys, key.Public())
	}
	i.keys.Store(set)
}

// claims are good ones.
func (i *issuer) claims() map[string]any {
	now := time.Now()
	return map[string]any{
		"iss": i.url, "aud": audience, "sub": "alice", "iat": now.Unix(), "exp": now.Add(3 * time.Hour).Unix(),
	}
}

func (i *issuer) sign(key jose.JSONWebKey, claims map[string]any) string {
	i.t.Helper()
	signer, err := jose.NewSigner(jose.SigningKey{Algorithm: jose.SignatureAlgorithm(key.Algorithm), Key: key}, nil)
	check(i.t, err)
	token, err := jwt.Signed(signer).Claims(claims).Serialize()
	check(i.t, err)
	return token
}

func (i *issuer) verifier(opts enroll.OIDCOptions) *enroll.OIDC {
	i.t.Helper()
	opts.Issuer, opts.Audience = i.url, audience
	o, err := enroll.NewOIDC(opts)
	check(i.t, err)
	return o
}

func accepted(t *testing.T, o *enroll.OIDC, token, want string) {
	t.Helper()
	if user, err := o.User(t.Context(), token); err != nil || string(user) != want {
		t.Errorf("user %q, %v; want %q", user, err, want)
	}
}

func notAccepted(t *testing.T, o *enroll.OIDC, what, token string) {
	t.Helper()
	if user, err := o.User(t.Context(), token); err == nil {
		t.Errorf("%s: accepted as %q", what, user)
	}
}

func TestAThirdPartysTokenGetsADeviceItsToken(t *testing.T) {
	t.Parallel()
	i := newIssuer(t)
	key := i.key("k1")
	i.serve(key)
	p := newPlace(t)
	p.service = p.taking(i.verifier(enroll.OIDCOptions{})) // by discovery
	got, err := p.device().enroll(wire.Enrollment{Token: i.sign(key, i.claims()), Device: "phone"})
	check(t, err)
	id, err := p.verifier.Verify(got.JWT, time.Now())
	check(t, err)
	if id.Address != alicePhone() {
		t.Errorf("enrolled as %s", id.Address)
	}
	_, err = p.device().enroll(wire.Enrollment{Token: i.sign(i.key("k1"), i.claims()), Device: "phone"})
	refused(t, err, wire.AuthError)
	_, err = p.device().enroll(wire.Enrollment{Token: "x", Code: "y", Device: "phone"})
	refused(t, err, wire.BadMessage)

	// The same request again is a replay.
	d := p.device()
	body := d.signed(wire.PurposeEnroll, wire.Enrollment{Token: i.sign(key, i.claims()), Device: "phone"})
	_, err = p.service.Enroll(t.Context(), body, "")
	check(t, err)
	_, err = p.service.Enroll(t.Context(), body, "")
	refused(t, err, wire.AuthError)
}

func TestATokenIsOfTheIssuerAndForTheAudience(t *testing.T) {
	t.Parallel()
	i := newIssuer(t)
	key := i.key("k1")
	i.serve(key)
	o := i.verifier(enroll.OIDCOptions{JWKS: i.url + "/keys"})
	with := func(name string, value any) string {
		c := i.claims()
		if c[name] = value; value == nil {
			delete(c, name)
		}
		return i.sign(key, c)
	}
	accepted(t, o, with("sub", "alice"), "alice")
	accepted(t, o, with("aud", []string{"other", audience}), "alice")
	for what, token := range map[string]string{
		"wrong issuer": with("iss", "https://evil.example"), "no issuer": with("iss", nil),
		"wrong audience": with("aud", "other"), "no audience": with("aud", nil),
		"no end": with("exp", nil), "no user": with("sub", nil), "user is a number": with("sub", 7),
		"user with a slash": with("sub", "alice/phone"), "empty user": with("sub", ""),
	} {
		notAccepted(t, o, what, token)
	}
}

func TestClocksMayDifferByAMinute(t *testing.T) {
	t.Parallel()
	i := newIssuer(t)
	key := i.key("k1")
	i.serve(key)
	o := i.verifier(enroll.OIDCOptions{})
	at := func(name string, off time.Duration) string {
		c := i.claims()
		c[name] = time.Now().Add(off).Unix()
		return i.sign(key, c)
	}
	accepted(t, o, at("exp", -30*time.Second), "alice")
	accepted(t, o, at("nbf", 30*time.Second), "alice")
	accepted(t, o, at("iat", 30*time.Second), "alice")
	notAccepted(t, o, "expired", at("exp", -2*time.Minute))
	notAccepted(t, o, "not yet", at("nbf", 2*time.Minute))
	notAccepted(t, o, "issued in the future", at("iat", 2*time.Minute))
}

func TestAlgorithmsArePinned(t *testing.T) {
	t.Parallel()
	i := newIssuer(t)
	key := i.key("k1")
	i.serve(key)
	o := i.verifier(enroll.OIDCOptions{})

	part := func(v any) string {
		text, err := json.Marshal(v)
		check(t, err)
		return base64.RawURLEncoding.EncodeToString(text)
	}
	none := part(map[string]string{"alg": "none", "kid": "k1"}) + "." + part(i.claims()) + "."
	notAccepted(t, o, "none", none)

	// The public key, taken for a secret.
	public, err := key.Public().MarshalJSON()
	check(t, err)
	notAccepted(t, o, "HS256", i.sign(jose.JSONWebKey{Key: public, KeyID: "k1", Algorithm: string(jose.HS256)}, i.claims()))

	// A secret that the issuer serves by mistake is no key.
	secret := jose.JSONWebKey{Key: []byte("0123456789abcdef0123456789abcdef"), KeyID: "s", Algorithm: string(jose.HS256)}
	i.keys.Store(&jose.JSONWebKeySet{Keys: []jose.JSONWebKey{secret}})
	notAccepted(t, i.verifier(enroll.OIDCOptions{}), "a served secret", i.sign(secret, i.claims()))

	// A key is for the algorithm that it says.
	other := key
	other.Algorithm = string(jose.ES384)
	i.serve(other)
	notAccepted(t, i.verifier(enroll.OIDCOptions{}), "another algorithm than the key's", i.sign(key, i.claims()))
}

func TestKeysRotate(t *testing.T) {
	t.Parallel()
	i := newIssuer(t)
	first, second := i.key("k1"), i.key("k2")
	c := &clock{}
	i.serve(first)
	o := i.verifier(enroll.OIDCOptions{JWKS: i.url + "/keys", Now: c.now})
	accepted(t, o, i.sign(first, i.claims()), "alice")
	i.serve(second)
	notAccepted(t, o, "a key that came just now", i.sign(second, i.claims()))
	if n := i.asked.Load(); n != 1 {
		t.Errorf("the issuer was asked %d times", n)
	}
	c.pass(11 * time.Second)
	accepted(t, o, i.sign(second, i.claims()), "alice")
	notAccepted(t, o, "a key that was taken back", i.sign(first, i.claims()))

	// A key is taken back though no other is asked for.
	i.serve(first)
	c.pass(6 * time.Minute)
	notAccepted(t, o, "a key that was taken back", i.sign(second, i.claims()))

	// The issuer may be away for a while.
	i.down.Store(true)
	c.pass(6 * time.Minute)
	accepted(t, o, i.sign(first, i.claims()), "alice")
	c.pass(time.Hour)
	_, err := o.User(t.Context(), i.sign(first, i.claims()))
	refused(t, err, wire.Unavailable)
}

func TestKeysComeFromAFile(t *testing.T) {
	t.Parallel()
	i := newIssuer(t)
	key := i.key("k1")
	file := filepath.Join(t.TempDir(), "keys.json")
	text, err := json.Marshal(jose.JSONWebKeySet{Keys: []jose.JSONWebKey{key.Public()}})
	check(t, err)
	check(t, os.WriteFile(file, text, 0o600))
	accepted(t, i.verifier(enroll.OIDCOptions{JWKS: file}), i.sign(key, i.claims()), "alice")
	for _, bad := range []string{file + "x", "http://issuer.example/keys", "ftp://127.0.0.1/keys"} {
		if _, err := enroll.NewOIDC(enroll.OIDCOptions{Issuer: i.url, Audience: audience, JWKS: bad}); err == nil {
			t.Errorf("keys from %s", bad)
		}
	}
}

func TestTheUserComesFromTheClaimThatIsNamed(t *testing.T) {
	t.Parallel()
	i := newIssuer(t)
	key := i.key("k1")
	i.serve(key)
	o := i.verifier(enroll.OIDCOptions{UserClaim: "email"})
	c := i.claims()
	c["email"] = "alice@example.com"
	notAccepted(t, o, "an address that was not verified", i.sign(key, c))
	c["email_verified"] = true
	accepted(t, o, i.sign(key, c), "alice@example.com")
	notAccepted(t, o, "without the claim", i.sign(key, i.claims()))
}

// A token that was made for another purpose, or issued to somebody else, is no
// identity token for here.
func TestOnlyIdentityTokensForHereAreAccepted(t *testing.T) {
	t.Parallel()
	i := newIssuer(t)
	key := i.key("k")
	i.serve(key)
	o := i.verifier(enroll.OIDCOptions{})
	sign := func(typ any, claims map[string]any) string {
		options := &jose.SignerOptions{}
		if typ != nil {
			options.ExtraHeaders = map[jose.HeaderKey]any{jose.HeaderType: typ}
		}
		signer, err := jose.NewSigner(jose.SigningKey{Algorithm: jose.ES256, Key: key}, options)
		check(t, err)
		token, err := jwt.Signed(signer).Claims(claims).Serialize()
		check(t, err)
		return token
	}
	for _, typ := range []any{nil, "JWT", "jwt"} {
		accepted(t, o, sign(typ, i.claims()), "alice")
	}
	for _, typ := range []any{"at+jwt", "application/at+jwt", "logout+jwt", "dpop+jwt", ""} {
		notAccepted(t, o, fmt.Sprintf("typ %q", typ), sign(typ, i.claims()))
	}
	claims := i.claims()
	claims["azp"] = audience
	accepted(t, o, sign(nil, claims), "alice")
	for _, azp := range []any{"another", "", 7, nil, []string{audience}} {
		claims["azp"] = azp
		notAccepted(t, o, fmt.Sprintf("azp %v", azp), sign(nil, claims))
	}
}
