package client

import (
	"encoding/json"
	"errors"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/nats-io/jwt/v2"
	"github.com/nats-io/nkeys"

	"github.com/rccs-io/rccs/wire"
)

// proofOf is the key to seal to of alice/phone, in its capabilities, and who issued
// the credential.
func proofOf(t testing.TB, bearer bool) (capabilities []byte, key, issuer string, err error) {
	t.Helper()
	account, err1 := nkeys.CreateAccount()
	user, err2 := nkeys.CreateUser()
	curve, err3 := nkeys.CreateCurveKeys()
	if err := errors.Join(err1, err2, err3); err != nil {
		t.Fatal(err)
	}
	subject, _ := user.PublicKey()
	claims := jwt.NewUserClaims(subject)
	claims.Name, claims.BearerToken = "alice/phone", bearer
	claims.Expires = 1 // long ago
	token, err := claims.Encode(account)
	if err != nil {
		t.Fatal(err)
	}
	key, _ = curve.PublicKey()
	issuer, _ = account.PublicKey()
	published, err := publishedKey(curve, token, user.Sign)
	if err != nil {
		return nil, key, issuer, err
	}
	capabilities, err = json.Marshal(map[string]any{sealCapability: published, "other": true})
	return capabilities, key, issuer, err
}

func TestKeyIsProvedByItsDeviceAlone(t *testing.T) {
	t.Parallel()
	capabilities, key, issuer, err := proofOf(t, false)
	if err != nil {
		t.Fatal(err)
	}
	if got, err := provedKey(capabilities, "alice/phone", []string{issuer}); err != nil || got != key {
		t.Fatalf("proved %s, %v", got, err)
	}
	if _, _, _, err := proofOf(t, true); err == nil {
		t.Error("a bearer token was published")
	}
	another, other, otherIssuer, err := proofOf(t, false)
	if err != nil {
		t.Fatal(err)
	}
	swapped := strings.Replace(string(capabilities), key, other, 1)
	var a, b map[string]any
	if err := errors.Join(json.Unmarshal(capabilities, &a), json.Unmarshal(another, &b)); err != nil {
		t.Fatal(err)
	}
	mixed := slices.Clone(a[sealCapability].([]any))
	mixed[2] = b[sealCapability].([]any)[2] // another's credential
	foreign, err := json.Marshal(map[string]any{sealCapability: mixed})
	if err != nil {
		t.Fatal(err)
	}
	both := []string{issuer, otherIssuer}
	for name, c := range map[string]struct {
		capabilities, name string
		issuers            []string
		want               error
	}{
		"another device":      {string(capabilities), "alice/desktop", both, ErrSealUnproved},
		"another user":        {string(capabilities), "bob/phone", both, ErrSealUnproved},
		"another issuer":      {string(capabilities), "alice/phone", []string{otherIssuer}, ErrSealUnproved},
		"nobody trusted":      {string(capabilities), "alice/phone", []string{""}, ErrSealUnproved},
		"another key":         {swapped, "alice/phone", both, ErrSealUnproved},
		"another credential":  {string(foreign), "alice/phone", both, ErrSealUnproved},
		"a bare key":          {`{"sealKey":["` + key + `"]}`, "alice/phone", both, ErrSealUnproved},
		"a text":              {`{"sealKey":"` + key + `"}`, "alice/phone", both, ErrSealUnproved},
		"no signature":        {`{"sealKey":["` + key + `","",""]}`, "alice/phone", both, ErrSealUnproved},
		"no capabilities":     {"", "alice/phone", both, ErrNoSealKey},
		"no key":              {`{"a":true}`, "alice/phone", both, ErrNoSealKey},
		"null":                {`{"sealKey":null}`, "alice/phone", both, ErrNoSealKey},
		"broken capabilities": {`{`, "alice/phone", both, ErrSealUnproved},
	} {
		if got, err := provedKey([]byte(c.capabilities), c.name, c.issuers); !errors.Is(err, c.want) || got != "" {
			t.Errorf("%s: %q, %v; want %v", name, got, err, c.want)
		}
	}
}

// TestRenewedCredentialIsLikeTheFirst has an edge that answers a renewal with a
// credential of its own making.
func TestRenewedCredentialIsLikeTheFirst(t *testing.T) {
	t.Parallel()
	curve, err1 := nkeys.CreateCurveKeys()
	user, err2 := nkeys.CreateUser()
	home, err3 := nkeys.CreateAccount()
	other, err4 := nkeys.CreateAccount()
	if err := errors.Join(err1, err2, err3, err4); err != nil {
		t.Fatal(err)
	}
	token := func(account nkeys.KeyPair, name string) string {
		t.Helper()
		subject, _ := user.PublicKey()
		claims := jwt.NewUserClaims(subject)
		claims.Name = name
		text, err := claims.Encode(account)
		if err != nil {
			t.Fatal(err)
		}
		return text
	}
	rival, _ := other.PublicKey()
	opts := &Seal{Key: curve, Pins: filepath.Join(t.TempDir(), "pins.json")}
	for name, c := range map[string]struct {
		token   string
		issuers []string
		want    bool
	}{
		"the same":                 {token(home, "alice/phone"), nil, true},
		"another issuer":           {token(other, "alice/phone"), nil, false},
		"another issuer, expected": {token(other, "alice/phone"), []string{rival}, true},
		"another user":             {token(home, "mallory/phone"), nil, false},
		"another user, by a rival": {token(other, "mallory/phone"), []string{rival}, false},
	} {
		opts.Issuers = nil
		s, err := newSealing(opts) // as after a restart
		if err != nil {
			t.Fatal(err)
		}
		if _, err := s.publish(token(home, "alice/phone"), user.Sign); err != nil {
			t.Fatal(err)
		}
		opts.Issuers = c.issuers
		if s, err = newSealing(opts); err != nil {
			t.Fatal(err)
		}
		if _, err := s.publish(c.token, user.Sign); (err == nil) != c.want {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// TestBoxDoesNotComeBack returns a box to the device that sealed it, as sealed
// by the one that it was for: both have the key that opens it.
func TestBoxDoesNotComeBack(t *testing.T) {
	t.Parallel()
	phone, err1 := nkeys.CreateCurveKeys()
	desktop, err2 := nkeys.CreateCurveKeys()
	if err := errors.Join(err1, err2); err != nil {
		t.Fatal(err)
	}
	to, _ := desktop.PublicKey()
	payload, err := sealContent(phone, to, &sealedContent{ID: "1", Type: "note", From: "phone", To: "desktop", Payload: []byte(`{ "a":1 }`)})
	if err != nil {
		t.Fatal(err)
	}
	box := sealedIn(payload)
	e := wire.Envelope{ID: "1", Type: "note", FromDeviceID: "phone"}
	if got, err := box.open([]nkeys.KeyPair{desktop}, "desktop", &e); err != nil || string(got) != `{ "a":1 }` {
		t.Fatalf("opened %s, %v", got, err)
	}
	box.From, box.To = box.To, box.From
	e.FromDeviceID = "desktop"
	if got, err := box.open([]nkeys.KeyPair{phone}, "phone", &e); !errors.Is(err, ErrSealBroken) {
		t.Errorf("a box came back: %s, %v", got, err)
	}
}

func FuzzOpenSealed(f *testing.F) {
	phone, err1 := nkeys.CreateCurveKeys()
	desktop, err2 := nkeys.CreateCurveKeys()
	if err := errors.Join(err1, err2); err != nil {
		f.Fatal(err)
	}
	to, _ := desktop.PublicKey()
	good, err := sealContent(phone, to, &sealedContent{ID: "1", Type: "note", From: "phone", To: "desktop", Payload: []byte(`"good"`)})
	if err != nil {
		f.Fatal(err)
	}
	f.Add(good)
	f.Add([]byte(`{"sealed":{"from":"X","to":"` + to + `","box":"eGt2MQ"}}`))
	f.Add([]byte(`{"sealed":null}`))
	f.Add([]byte(`{"sealed":[{"box":"a"}]}`))
	e := wire.Envelope{ID: "1", Type: "note", FromDeviceID: "phone"}
	f.Fuzz(func(t *testing.T, payload []byte) {
		box := sealedIn(payload)
		if box == nil {
			return
		}
		// Only what the phone sealed opens, and it holds one thing.
		if got, err := box.open([]nkeys.KeyPair{desktop}, "desktop", &e); err == nil && string(got) != `"good"` {
			t.Errorf("opened %q", got)
		} else if err != nil && !errors.Is(err, ErrSealBroken) {
			t.Errorf("error %v", err)
		}
	})
}

// FuzzSealedContent opens what somebody with a key sealed.
func FuzzSealedContent(f *testing.F) {
	key, err := nkeys.CreateCurveKeys()
	if err != nil {
		f.Fatal(err)
	}
	public, _ := key.PublicKey()
	f.Add([]byte(`{"id":"1","type":"note","from":"phone","to":"desktop","payload":1}`))
	f.Add([]byte(`{"id":"1","type":"note","from":"phone","to":"desktop"}`))
	f.Add([]byte(`[]`))
	e := wire.Envelope{ID: "1", Type: "note", FromDeviceID: "phone"}
	f.Fuzz(func(t *testing.T, plain []byte) {
		raw, err := key.Seal(plain, public)
		if err != nil {
			t.Fatal(err)
		}
		box := sealedBox{From: public, To: public, Box: encodeSig(raw)}
		got, err := box.open([]nkeys.KeyPair{key}, "desktop", &e)
		if err == nil && !wire.Embeddable(got) {
			t.Errorf("handed on %q, which is no JSON value", got)
		}
		if err != nil && !errors.Is(err, ErrSealBroken) {
			t.Errorf("error %v", err)
		}
	})
}

func FuzzProvedKey(f *testing.F) {
	capabilities, key, issuer, err := proofOf(f, false)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(capabilities)
	f.Add([]byte(`{"sealKey":["` + key + `","",""]}`))
	f.Add([]byte(`{"sealKey":[]}`))
	f.Fuzz(func(t *testing.T, text []byte) {
		got, err := provedKey(text, "alice/phone", []string{issuer})
		if err == nil && got != key {
			t.Errorf("proved %s", got)
		}
	})
}
