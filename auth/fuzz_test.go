package auth_test

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"maps"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/jwt/v2"
	"github.com/nats-io/nkeys"

	"github.com/rccs-io/rccs/auth"
)

// fixed makes a key that is the same in every process: a fuzz target runs in
// several, and the token that one of them adds has to be good in all.
func fixed(tb testing.TB, prefix nkeys.PrefixByte, b byte) nkeys.KeyPair {
	tb.Helper()
	pair, err := nkeys.FromRawSeed(prefix, bytes.Repeat([]byte{b}, 32))
	return must(tb, pair, err)
}

func fixedTenant(tb testing.TB) *tenant {
	tb.Helper()
	t := &tenant{
		operator: fixed(tb, nkeys.PrefixByteOperator, 1), account: fixed(tb, nkeys.PrefixByteAccount, 2),
		signing: fixed(tb, nkeys.PrefixByteAccount, 3), user: fixed(tb, nkeys.PrefixByteUser, 4),
	}
	t.claims = jwt.NewAccountClaims(public(tb, t.account))
	t.claims.SigningKeys.Add(public(tb, t.signing))
	return t
}

var nkeyHeader = map[string]string{"typ": "JWT", "alg": "ed25519-nkey"}

// issuedTokens are the tokens that the tenant's devices hold. Nothing in them
// depends on the time.
func issuedTokens(tb testing.TB, t *tenant) map[string]bool {
	tb.Helper()
	tokens := make(map[string]bool)
	for _, more := range []map[string]any{
		{},
		{"tags": []string{"rccs-type:6d6f62696c65"}, "bearer_token": true},
		{"pub": map[string]any{"allow": []string{"a.*"}}, "sub": map[string]any{"allow": []string{"b.>"}}, "subs": -1},
	} {
		user := map[string]any{"type": "user", "version": 2, "issuer_account": public(tb, t.account)}
		maps.Copy(user, more)
		claims := map[string]any{"iss": public(tb, t.signing), "sub": public(tb, t.user), "name": "alice/phone", "iat": 1, "nats": user}
		tokens[sealed(tb, t.signing, nkeyHeader, claims, 2)] = true
	}
	return tokens
}

// FuzzVerify feeds outside bytes: whatever they are, nothing panics, and only
// a token that was issued, byte for byte, is accepted.
func FuzzVerify(f *testing.F) {
	ten := fixedTenant(f)
	v := verifier(f, ten.token(f))
	issued := issuedTokens(f, ten)
	for token := range issued {
		if _, err := v.Verify(token, time.Now()); err != nil {
			f.Fatalf("an issued token is refused: %v", err) // or the target proves nothing
		}
		f.Add(token)
		f.Add(token[:len(token)-1])
		f.Add(token + "=")
		f.Add(strings.Replace(token, ".", "..", 1))
	}
	for _, token := range []string{"", "..", "a.b.c", ten.token(f)} {
		f.Add(token)
	}
	for _, claims := range []string{
		`null`, `{"nats":null}`, `{"nats":{"type":"user","version":2}}`, `{"nats":{"type":"user","version":-1}}`,
		`{"type":"user","iss":"A"}`, `{"iss":"","nats":{"type":"account","version":2,"signing_keys":[{}]}}`,
		`{"nats":{"type":"user","version":2,"src":1,"tags":[null]}}`,
	} {
		f.Add(sealed(f, ten.account, nkeyHeader, json.RawMessage(claims), 2))
	}
	f.Fuzz(func(t *testing.T, token string) {
		id, err := v.Verify(token, time.Now())
		if err == nil && !issued[token] {
			t.Errorf("accepted %q as %+v", token, id)
		}
		if err != nil && id != (auth.Identity{}) {
			t.Errorf("refused %q as %+v", token, id)
		}
	})
}

// FuzzClaims signs whatever claims it is fed: nothing panics, however odd what
// an account signs, and what is accepted can be a device's address.
func FuzzClaims(f *testing.F) {
	ten := fixedTenant(f)
	v := verifier(f, ten.token(f))
	for token := range issuedTokens(f, ten) {
		raw, err := base64.RawURLEncoding.DecodeString(strings.Split(token, ".")[1])
		f.Add(must(f, raw, err))
	}
	head := base64.RawURLEncoding.EncodeToString([]byte(`{"typ":"JWT","alg":"ed25519-nkey"}`))
	f.Fuzz(func(t *testing.T, claims []byte) {
		text := head + "." + base64.RawURLEncoding.EncodeToString(claims)
		sig, err := ten.signing.Sign([]byte(text))
		id, err := v.Verify(text+"."+base64.RawURLEncoding.EncodeToString(must(t, sig, err)), time.Now())
		if err != nil {
			return
		}
		if err := id.Address.Check(); err != nil || id.Account != public(t, ten.account) || !nkeys.IsValidPublicUserKey(id.UserKey) {
			t.Errorf("%s is accepted as %+v (%v)", claims, id, err)
		}
	})
}

// FuzzVerifyNonce feeds signatures, which come from outside too.
func FuzzVerifyNonce(f *testing.F) {
	user := fixed(f, nkeys.PrefixByteUser, 5)
	id := auth.Identity{UserKey: public(f, user)}
	sig, err := user.Sign([]byte("nonce"))
	must(f, sig, err)
	good := base64.RawURLEncoding.EncodeToString(sig)
	f.Add("nonce", good)
	f.Add("nonce", base64.StdEncoding.EncodeToString(sig))
	f.Add("other", good)
	f.Add("", "")
	f.Fuzz(func(t *testing.T, nonce, text string) {
		if id.VerifyNonce([]byte(nonce), text) != nil {
			return
		}
		plain := strings.NewReplacer("+", "-", "/", "_").Replace(strings.TrimRight(text, "="))
		if raw, err := base64.RawURLEncoding.DecodeString(plain); nonce != "nonce" || err != nil || !bytes.Equal(raw, sig) {
			t.Errorf("accepted %q for %q", text, nonce)
		}
	})
}
