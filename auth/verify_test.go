package auth_test

import (
	"encoding/base64"
	"encoding/json"
	"errors"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/jwt/v2"
	"github.com/nats-io/nkeys"

	"github.com/rccs-io/rccs/auth"
)

func TestIdentityIsWhatTheClaimsSay(t *testing.T) {
	t.Parallel()
	k := open(t, t.TempDir())
	v := verifier(t, k.Account().JWT)
	now := time.Now()
	cred := issue(t, k, phone, auth.DeviceOptions{Type: "Mobile", Expires: time.Hour})
	id, err := v.Verify(cred.JWT, now)
	must(t, id, err)
	key, err := k.DeviceKey(phone)
	must(t, key, err)
	if id.Account != k.Account().PublicKey || id.Address != phone || id.Type != "Mobile" || id.UserKey != key || id.Bearer {
		t.Errorf("identity %+v", id)
	}
	if d := now.Sub(id.IssuedAt).Abs(); d > time.Minute || id.Expires.Sub(id.IssuedAt).Round(10*time.Second) != time.Hour {
		t.Errorf("issued %s ago, expires %s after that", d, id.Expires.Sub(id.IssuedAt))
	}
}

// What the account's owner signs by other tools is as good.
func TestForeignToolsTokensAreAccepted(t *testing.T) {
	t.Parallel()
	ten := newTenant(t)
	v := verifier(t, ten.token(t))
	for what, token := range map[string]string{
		"signed by a signing key":     ten.device(t, nil),
		"signed by the account":       ten.sign(t, ten.account, func(c *jwt.UserClaims) { c.IssuerAccount = "" }),
		"the same, and says so":       ten.sign(t, ten.account, nil),
		"for ever":                    ten.device(t, func(c *jwt.UserClaims) { c.Expires = 0 }),
		"valid since a while":         ten.device(t, func(c *jwt.UserClaims) { c.NotBefore = time.Now().Unix() - 5 }),
		"for WebSocket and others":    ten.device(t, func(c *jwt.UserClaims) { c.AllowedConnectionTypes.Add("STANDARD", "websocket") }),
		"with tags of its own":        ten.device(t, func(c *jwt.UserClaims) { c.Tags.Add("blue", "rccs:x") }),
		"said of the same type twice": ten.device(t, func(c *jwt.UserClaims) { c.Tags = jwt.TagList{"rccs-type:61", "RCCS-TYPE:61"} }),
	} {
		id, err := v.Verify(token, time.Now())
		if err != nil || id.Address != phone || id.Account != public(t, ten.account) {
			t.Errorf("%s: %+v, %v", what, id, err)
		}
		if forever := what == "for ever"; forever != id.Expires.IsZero() {
			t.Errorf("%s: expires %s", what, id.Expires)
		}
	}
}

func TestClaimsThatAreNotADevicesAreRefused(t *testing.T) {
	t.Parallel()
	ten := newTenant(t)
	v := verifier(t, ten.token(t))
	now := time.Now()
	for what, c := range map[string]struct {
		change func(*jwt.UserClaims)
		want   error
	}{
		"no name":               {func(c *jwt.UserClaims) { c.Name = "" }, auth.ErrNotDevice},
		"a user only":           {func(c *jwt.UserClaims) { c.Name = "alice" }, auth.ErrNotDevice},
		"no user":               {func(c *jwt.UserClaims) { c.Name = "/phone" }, auth.ErrNotDevice},
		"no device":             {func(c *jwt.UserClaims) { c.Name = "alice/" }, auth.ErrNotDevice},
		"a newline":             {func(c *jwt.UserClaims) { c.Name = "alice/a\nb" }, auth.ErrNotDevice},
		"a long name":           {func(c *jwt.UserClaims) { c.Name = "alice/" + strings.Repeat("x", 129) }, auth.ErrNotDevice},
		"a service":             {func(c *jwt.UserClaims) { c.Name = "service:billing" }, auth.ErrNotDevice},
		"a part":                {func(c *jwt.UserClaims) { c.Name = "rccs:edge" }, auth.ErrNotDevice},
		"expired this second":   {func(c *jwt.UserClaims) { c.Expires = now.Unix() }, auth.ErrExpired},
		"expired long ago":      {func(c *jwt.UserClaims) { c.Expires = 1 }, auth.ErrExpired},
		"expired before 1970":   {func(c *jwt.UserClaims) { c.Expires = -1 }, auth.ErrExpired},
		"not yet valid":         {func(c *jwt.UserClaims) { c.NotBefore = now.Unix() + 62 }, auth.ErrNotYet},
		"a type not in hex":     {func(c *jwt.UserClaims) { c.Tags.Add("rccs-type:mobile") }, auth.ErrMalformed},
		"an empty type":         {func(c *jwt.UserClaims) { c.Tags.Add("rccs-type:") }, auth.ErrMalformed},
		"a control character":   {func(c *jwt.UserClaims) { c.Tags.Add("rccs-type:00") }, auth.ErrMalformed},
		"two types":             {func(c *jwt.UserClaims) { c.Tags.Add("rccs-type:61", "rccs-type:62") }, auth.ErrMalformed},
		"bound to an address":   {func(c *jwt.UserClaims) { c.Src.Add("10.0.0.0/8") }, auth.ErrLimited},
		"bound to hours":        {func(c *jwt.UserClaims) { c.Times = []jwt.TimeRange{{Start: "08:00:00", End: "09:00:00"}} }, auth.ErrLimited},
		"bound to a proxy":      {func(c *jwt.UserClaims) { c.ProxyRequired = true }, auth.ErrLimited},
		"not for WebSocket":     {func(c *jwt.UserClaims) { c.AllowedConnectionTypes.Add("MQTT") }, auth.ErrLimited},
		"of an unknown account": {func(c *jwt.UserClaims) { c.IssuerAccount = public(t, ten.signing) }, auth.ErrNotTrusted},
		"of no account":         {func(c *jwt.UserClaims) { c.IssuerAccount = "" }, auth.ErrNotTrusted},
		"far too long":          {func(c *jwt.UserClaims) { c.Tags.Add(strings.Repeat("x", 9000)) }, auth.ErrMalformed},
	} {
		id, err := v.Verify(ten.device(t, c.change), now)
		if !errors.Is(err, c.want) || id != (auth.Identity{}) {
			t.Errorf("%s: %+v, %v; want %v", what, id, err, c.want)
		}
		// Whose it is can be told of what the account has signed.
		its, told := auth.RefusedDevice(err)
		if want := errors.Is(err, auth.ErrExpired) || errors.Is(err, auth.ErrNotYet) || errors.Is(err, auth.ErrLimited); told != want || told && its != phone {
			t.Errorf("%s: the token is said to be of %v, %v", what, its, told)
		}
	}
}

func TestUntrustedIssuersAreRefused(t *testing.T) {
	t.Parallel()
	ten, other := newTenant(t), newTenant(t)
	scoped, err := nkeys.CreateAccount()
	must(t, scoped, err)
	scope := jwt.NewUserScope()
	scope.Key = public(t, scoped)
	ten.claims.SigningKeys.AddScopedSigner(scope)
	v := verifier(t, ten.token(t))
	ours := public(t, ten.account)
	for what, token := range map[string]string{
		"another account's":                  other.device(t, nil),
		"another account's, said to be ours": other.device(t, func(c *jwt.UserClaims) { c.IssuerAccount = ours }),
		"signed by a scoped key":             ten.sign(t, scoped, func(c *jwt.UserClaims) { c.UserPermissionLimits = jwt.UserPermissionLimits{} }),
		"of another installation":            issue(t, open(t, t.TempDir()), phone, auth.DeviceOptions{}).JWT,
	} {
		if id, err := v.Verify(token, time.Now()); !errors.Is(err, auth.ErrNotTrusted) {
			t.Errorf("%s: %+v, %v", what, id, err)
		} else if its, told := auth.RefusedDevice(err); told {
			t.Errorf("%s: the token is said to be of %v", what, its)
		}
	}
	if _, err := verifier(t).Verify(ten.device(t, nil), time.Now()); !errors.Is(err, auth.ErrNotTrusted) {
		t.Errorf("without any account: %v", err)
	}
	ten.claims.Expires = time.Now().Add(time.Hour).Unix()
	if _, err := verifier(t, ten.token(t)).Verify(ten.device(t, func(c *jwt.UserClaims) { c.Expires = 0 }), time.Now().Add(time.Hour)); !errors.Is(err, auth.ErrNotTrusted) {
		t.Errorf("of an account that has expired: %v", err)
	}
	ten.claims.Expires, ten.claims.Limits.DisallowBearer = 0, true
	if _, err := verifier(t, ten.token(t)).Verify(ten.device(t, func(c *jwt.UserClaims) { c.BearerToken = true }), time.Now()); !errors.Is(err, auth.ErrLimited) {
		t.Errorf("a bearer of an account that allows none: %v", err)
	}
}

// A keystore's own tokens of other roles are no devices.
func TestOtherRolesAreNotDevices(t *testing.T) {
	t.Parallel()
	k := open(t, t.TempDir())
	v := verifier(t, k.Account().JWT, k.Account().Services, k.System().JWT) // even where all accounts are trusted
	for name, make := range map[string]func(string) (auth.Credential, error){
		"service": func(n string) (auth.Credential, error) { return k.IssueService(n, auth.ServiceOptions{}) },
		"part":    k.IssuePart,
		"system":  k.IssueSystem,
	} {
		cred, err := make("alice")
		must(t, cred, err)
		if id, err := v.Verify(cred.JWT, time.Now()); !errors.Is(err, auth.ErrNotDevice) {
			t.Errorf("%s: %+v, %v", name, id, err)
		}
	}
}

// sealed makes a token of raw header and claims, signed as version 2 or 1 is.
func sealed(tb testing.TB, by nkeys.KeyPair, header, claims any, version int) string {
	tb.Helper()
	part := func(v any) string {
		raw, err := json.Marshal(v)
		return base64.RawURLEncoding.EncodeToString(must(tb, raw, err))
	}
	text := part(header) + "." + part(claims)
	signed := text
	if version == 1 {
		signed = part(claims)
	}
	sig, err := by.Sign([]byte(signed))
	return text + "." + base64.RawURLEncoding.EncodeToString(must(tb, sig, err))
}

func TestMalformedTokensAreRefused(t *testing.T) {
	t.Parallel()
	k, ten := open(t, t.TempDir()), newTenant(t)
	v := verifier(t, ten.token(t), k.Account().JWT)
	good := ten.device(t, nil)
	parts := strings.Split(good, ".")
	header := nkeyHeader
	body := func(kind string, version int) map[string]any {
		return map[string]any{
			"iss": public(t, ten.account), "sub": public(t, ten.user), "name": "alice/phone", "iat": 1, "jti": "x",
			"nats": map[string]any{"type": kind, "version": version},
		}
	}
	old := body("", 0)
	delete(old, "nats")
	old["type"] = "user"
	accountAsUser := body("user", 2)
	accountAsUser["sub"] = public(t, ten.account)
	activation := jwt.NewActivationClaims(public(t, ten.account))
	activation.ImportSubject, activation.ImportType = "a", jwt.Stream
	activationToken, err := activation.Encode(ten.signing)
	must(t, activationToken, err)
	generic, err := jwt.NewGenericClaims(public(t, ten.user)).Encode(ten.account)
	must(t, generic, err)

	if _, err := v.Verify(sealed(t, ten.account, header, body("user", 2), 2), time.Now()); err != nil {
		t.Fatalf("a good token made by hand: %v", err) // or those below prove nothing
	}
	for what, token := range map[string]string{
		"empty": "", "dots": "..", "text": "hello", "two parts": parts[0] + "." + parts[1], "four parts": good + ".x",
		"huge":                  strings.Repeat("a", 1<<20),
		"no signature":          parts[0] + "." + parts[1] + ".",
		"another's signature":   parts[0] + "." + parts[1] + "." + strings.Split(ten.device(t, func(c *jwt.UserClaims) { c.Name = "bob/phone" }), ".")[2],
		"padded signature":      good + "==",
		"signature with a line": good[:len(good)-1] + "\n" + good[len(good)-1:],
		"ends in a line":        good + "\n",
		"begins with a space":   " " + good,
		"an account":            k.Account().JWT,
		"an operator":           k.OperatorJWT(),
		"an activation":         activationToken,
		"a generic":             generic,
		"no algorithm":          sealed(t, ten.account, map[string]string{"typ": "JWT", "alg": "none"}, body("user", 2), 2),
		"another algorithm":     sealed(t, ten.account, map[string]string{"typ": "JWT", "alg": "HS256"}, body("user", 2), 2),
		"version 1":             sealed(t, ten.account, map[string]string{"typ": "jwt", "alg": "ed25519"}, old, 1),
		"version 0":             sealed(t, ten.account, header, body("user", 0), 2),
		"version 3":             sealed(t, ten.account, header, body("user", 3), 2),
		"an account as user":    sealed(t, ten.account, header, accountAsUser, 2),
		"issued by an operator": sealed(t, ten.operator, header, map[string]any{"iss": public(t, ten.operator), "sub": public(t, ten.user), "nats": map[string]any{"type": "user", "version": 2}}, 2),
		"null":                  sealed(t, ten.account, header, nil, 2),
		"a number":              sealed(t, ten.account, header, 1, 2),
		"deep":                  sealed(t, ten.account, header, json.RawMessage(strings.Repeat("[", 2000)+strings.Repeat("]", 2000)), 2),
	} {
		if id, err := v.Verify(token, time.Now()); !errors.Is(err, auth.ErrMalformed) {
			t.Errorf("%s: %+v, %v", what, id, err)
		}
	}
}

// A changed token is refused, whichever character was changed and however.
func TestEveryChangedCharacterIsNoticed(t *testing.T) {
	t.Parallel()
	k := open(t, t.TempDir())
	v := verifier(t, k.Account().JWT)
	good := issue(t, k, phone, auth.DeviceOptions{Bearer: true}).JWT
	tried := 0
	for i := range good {
		for _, b := range []byte{'A', 'B', good[i] ^ 1, good[i] + 1, '\n', '='} {
			if b == good[i] {
				continue
			}
			tried++
			if id, err := v.Verify(good[:i]+string(rune(b))+good[i+1:], time.Now()); err == nil {
				t.Fatalf("byte %d changed from %q to %q: accepted as %+v", i, good[i], b, id)
			}
		}
	}
	t.Logf("%d changed credentials", tried)
}

func TestRevocationsCount(t *testing.T) {
	t.Parallel()
	ten := newTenant(t)
	token := ten.device(t, nil)
	issued := time.Unix(decodeUser(t, token).IssuedAt, 0)
	user := public(t, ten.user)
	v := verifier(t, ten.token(t))
	for what, c := range map[string]struct {
		who     string
		at      time.Time
		refused bool
	}{
		"the same second":      {user, issued, true},
		"later":                {user, issued.Add(time.Hour), true},
		"before it was issued": {user, issued.Add(-time.Second), false},
		"everybody":            {jwt.All, issued, true},
		"everybody before":     {jwt.All, issued.Add(-time.Second), false},
		"somebody else":        {public(t, newTenant(t).user), issued, false},
	} {
		ten.claims.Revocations = jwt.RevocationList{c.who: c.at.Unix()}
		if err := v.Update(ten.token(t)); err != nil {
			t.Fatal(err)
		}
		_, err := v.Verify(token, time.Now())
		if (err != nil) != c.refused || err != nil && !errors.Is(err, auth.ErrRevoked) {
			t.Errorf("%s: %v, want refusal %t", what, err, c.refused)
		}
	}
	// A token that hides when it was issued cannot outlive a revocation.
	header := nkeyHeader
	undated := map[string]any{"iss": public(t, ten.account), "sub": user, "name": "alice/phone", "nats": map[string]any{"type": "user", "version": 2}}
	if _, err := v.Verify(sealed(t, ten.account, header, undated, 2), time.Now()); !errors.Is(err, auth.ErrRevoked) {
		t.Errorf("without the time of issue: %v", err)
	}
}

// DeviceKey is what revokes: it ends what was issued until then, used or not.
func TestDeviceIsRevokedByItsDerivedKey(t *testing.T) {
	t.Parallel()
	k := open(t, t.TempDir())
	tablet := phone
	tablet.Device = "tablet"
	stolen, other := issue(t, k, phone, auth.DeviceOptions{Bearer: true}), issue(t, k, tablet, auth.DeviceOptions{})
	claims, err := jwt.DecodeAccountClaims(k.Account().JWT)
	must(t, claims, err)
	key, err := k.DeviceKey(phone)
	must(t, key, err)
	claims.Revoke(key)
	operator, err := nkeys.CreateOperator()
	must(t, operator, err)
	token, err := claims.Encode(operator)
	v := verifier(t, must(t, token, err))
	if _, err := v.Verify(stolen.JWT, time.Now()); !errors.Is(err, auth.ErrRevoked) {
		t.Errorf("the revoked one: %v", err)
	}
	if _, err := v.Verify(other.JWT, time.Now()); err != nil {
		t.Errorf("another device: %v", err)
	}
}

func TestUpdateOfAnAccount(t *testing.T) {
	t.Parallel()
	ten := newTenant(t)
	token := ten.device(t, nil)
	first := ten.token(t)
	v := verifier(t, first)
	ten.claims.SigningKeys = jwt.SigningKeys{}
	if err := v.Update(ten.token(t)); err != nil {
		t.Fatal(err)
	}
	if _, err := v.Verify(token, time.Now()); !errors.Is(err, auth.ErrNotTrusted) {
		t.Errorf("signed by a key that was removed: %v", err)
	}
	claims, err := jwt.DecodeAccountClaims(first)
	must(t, claims, err)
	header := nkeyHeader
	claims.Issuer, claims.IssuedAt = public(t, ten.operator), time.Now().Add(-time.Hour).Unix()
	if err := v.Update(sealed(t, ten.operator, header, claims, 2)); !errors.Is(err, auth.ErrStale) {
		t.Errorf("an older JWT: %v", err)
	}
	if _, err := v.Verify(token, time.Now()); !errors.Is(err, auth.ErrNotTrusted) {
		t.Errorf("after the older JWT: %v", err)
	}
	for _, bad := range []string{"", "x", token, open(t, t.TempDir()).OperatorJWT()} {
		if err := v.Update(bad); err == nil {
			t.Errorf("%.20q was taken for an account", bad)
		}
		if _, err := auth.NewVerifier(bad); err == nil {
			t.Errorf("%.20q was taken for an account", bad)
		}
	}
	if accounts := v.Accounts(); len(accounts) != 1 || accounts[0] != public(t, ten.account) {
		t.Errorf("trusts %v", accounts)
	}
}

// No update is lost among many at once, and none disturbs checks.
func TestUpdatesAndChecksAtOnce(t *testing.T) {
	t.Parallel()
	ten := newTenant(t)
	token := ten.device(t, nil)
	v := verifier(t, ten.token(t))
	var wg sync.WaitGroup
	const others = 8
	for range others {
		account := newTenant(t).token(t)
		wg.Go(func() {
			if err := v.Update(account); err != nil {
				t.Error(err)
			}
		})
		wg.Go(func() {
			for range 20 {
				if _, err := v.Verify(token, time.Now()); err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
	if n := len(v.Accounts()); n != others+1 {
		t.Errorf("%d accounts are known, want %d", n, others+1)
	}
}

func TestNonceIsProvenInAnyBase64(t *testing.T) {
	t.Parallel()
	k := open(t, t.TempDir())
	cred := issue(t, k, phone, auth.DeviceOptions{})
	id, err := verifier(t, k.Account().JWT).Verify(cred.JWT, time.Now())
	must(t, id, err)
	// Enough nonces that each of the two alphabets' own characters occur.
	for _, nonce := range []string{"", "a", "b", "c", "d", "e", "f", "g", strings.Repeat("long", 100)} {
		sig, err := cred.Sign([]byte(nonce))
		must(t, sig, err)
		for _, encoding := range []*base64.Encoding{base64.RawURLEncoding, base64.URLEncoding, base64.RawStdEncoding, base64.StdEncoding} {
			if err := id.VerifyNonce([]byte(nonce), encoding.EncodeToString(sig)); err != nil {
				t.Errorf("nonce %q: %v", nonce, err)
			}
		}
		text := base64.RawURLEncoding.EncodeToString(sig)
		for what, bad := range map[string]string{
			"none": "", "cut": text[:80], "long": text + text, "not base64": strings.Repeat("*", 86),
			"zero": base64.RawURLEncoding.EncodeToString(make([]byte, 64)), "hex": strings.Repeat("0", 128),
		} {
			if err := id.VerifyNonce([]byte(nonce), bad); !errors.Is(err, auth.ErrSignature) {
				t.Errorf("%s: %v", what, err)
			}
		}
		if err := id.VerifyNonce([]byte(nonce+"x"), text); !errors.Is(err, auth.ErrSignature) {
			t.Errorf("another nonce: %v", err)
		}
		other, err := issue(t, open(t, t.TempDir()), phone, auth.DeviceOptions{}).Sign([]byte(nonce))
		must(t, other, err)
		if err := id.VerifyNonce([]byte(nonce), base64.RawURLEncoding.EncodeToString(other)); !errors.Is(err, auth.ErrSignature) {
			t.Errorf("another key: %v", err)
		}
	}
	none := auth.Identity{}
	if err := none.VerifyNonce(nil, strings.Repeat("A", 86)); !errors.Is(err, auth.ErrSignature) {
		t.Errorf("nobody's signature: %v", err)
	}
}

func BenchmarkVerify(b *testing.B) {
	k := open(b, b.TempDir())
	v := verifier(b, k.Account().JWT)
	token := issue(b, k, phone, auth.DeviceOptions{}).JWT
	b.ReportAllocs()
	for b.Loop() {
		if _, err := v.Verify(token, time.Now()); err != nil {
			b.Fatal(err)
		}
	}
}
