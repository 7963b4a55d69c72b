package auth_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/jwt/v2"
	"github.com/nats-io/nkeys"
	"pgregory.net/rapid"

	"github.com/rccs-io/rccs/auth"
	"github.com/rccs-io/rccs/internal/layout"
	"github.com/rccs-io/rccs/subjects"
)

func TestDeviceCredentialSaysWhoAndWhatFor(t *testing.T) {
	t.Parallel()
	k := open(t, t.TempDir())
	before := time.Now()
	claims := decodeUser(t, issue(t, k, phone, auth.DeviceOptions{Type: "mobile"}).JWT)
	if claims.Name != "alice/phone" || claims.IssuerAccount != k.Account().PublicKey || claims.Issuer == claims.IssuerAccount || claims.BearerToken {
		t.Errorf("name %q, account %s, issuer %s, bearer %t", claims.Name, claims.IssuerAccount, claims.Issuer, claims.BearerToken)
	}
	allow := layout.ForDevice(phone.Key())
	if !slices.Equal(claims.Pub.Allow, allow.Publish) || !slices.Equal(claims.Sub.Allow, allow.Subscribe) || claims.Resp != nil {
		t.Errorf("permissions %+v", claims.Permissions)
	}
	if lasts := time.Unix(claims.Expires, 0).Sub(before); lasts > auth.DefaultExpiry+time.Minute || lasts < auth.DefaultExpiry-time.Minute {
		t.Errorf("lasts %s", lasts)
	}
	claims = decodeUser(t, issue(t, k, phone, auth.DeviceOptions{Bearer: true, Expires: time.Hour}).JWT)
	if lasts := time.Unix(claims.Expires, 0).Sub(before); !claims.BearerToken || lasts > time.Hour+time.Minute || lasts < 59*time.Minute {
		t.Errorf("bearer %t, lasts %s", claims.BearerToken, lasts)
	}
}

func TestServiceAndPartCredentials(t *testing.T) {
	t.Parallel()
	k := open(t, t.TempDir())
	service, err := k.IssueService("billing", auth.ServiceOptions{Expires: time.Hour})
	must(t, service, err)
	claims := decodeUser(t, service.JWT)
	if claims.Name != "service:billing" || !slices.Equal(claims.Pub.Allow, layout.ForService().Publish) || claims.Expires == 0 {
		t.Errorf("service %q may publish %q until %d", claims.Name, claims.Pub.Allow, claims.Expires)
	}
	service, err = k.IssueService("billing", auth.ServiceOptions{})
	must(t, service, err)
	if claims := decodeUser(t, service.JWT); claims.Expires != 0 {
		t.Errorf("without expiry it ends at %d", claims.Expires)
	}
	part, err := k.IssuePart("edge")
	must(t, part, err)
	if claims := decodeUser(t, part.JWT); claims.Name != "rccs:edge" || claims.Expires != 0 || claims.IssuerAccount != k.Account().PublicKey {
		t.Errorf("part %q of %s until %d", claims.Name, claims.IssuerAccount, claims.Expires)
	}
	system, err := k.IssueSystem("admin")
	must(t, system, err)
	if claims := decodeUser(t, system.JWT); claims.Issuer != k.System().PublicKey {
		t.Errorf("system user is issued by %s", claims.Issuer)
	}
}

func TestBadRequestsForCredentialsAreRefused(t *testing.T) {
	t.Parallel()
	k := open(t, t.TempDir())
	device := func(user, device string, opts auth.DeviceOptions) error {
		_, err := k.IssueDevice(subjects.Address{User: subjects.UserID(user), Device: subjects.DeviceID(device)}, opts)
		return err
	}
	service := func(name string, expires time.Duration) error {
		_, err := k.IssueService(name, auth.ServiceOptions{Expires: expires})
		return err
	}
	part := func(name string) error { _, err := k.IssuePart(name); return err }
	system := func(name string) error { _, err := k.IssueSystem(name); return err }
	for what, err := range map[string]error{
		"user with a slash":           device("a/b", "c", auth.DeviceOptions{}),
		"no user":                     device("", "c", auth.DeviceOptions{}),
		"no device":                   device("a", "", auth.DeviceOptions{}),
		"newline":                     device("a", "b\n", auth.DeviceOptions{}),
		"long type":                   device("a", "b", auth.DeviceOptions{Type: strings.Repeat("x", 129)}),
		"type with control character": device("a", "b", auth.DeviceOptions{Type: "\x00"}),
		"no service":                  service("", 0),
		"service like a device":       service("alice/phone", 0),
		"part like a device":          part("alice/phone"),
		"no part":                     part(""),
		"system user like a device":   system("alice/phone"),
	} {
		if !errors.Is(err, subjects.ErrName) {
			t.Errorf("%s: %v", what, err)
		}
	}
	for what, err := range map[string]error{
		"device that has expired":  device("a", "b", auth.DeviceOptions{Expires: -time.Second}),
		"device for no time":       device("a", "b", auth.DeviceOptions{Expires: time.Millisecond}),
		"service that has expired": service("a", -time.Second),
	} {
		if err == nil || !strings.Contains(err.Error(), "at least a second") {
			t.Errorf("%s: %v", what, err)
		}
	}
}

// All credentials of a device have one key, whoever issues them and when; no
// two users share one.
func TestKeysAreDerivedFromWhoTheUserIs(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	k := open(t, dir)
	known, err := k.DeviceKey(phone)
	must(t, known, err)
	for range 2 {
		cred := issue(t, open(t, dir), phone, auth.DeviceOptions{Bearer: true, Type: "x", Expires: time.Minute})
		pair, err := nkeys.FromSeed(cred.Seed)
		must(t, pair, err)
		if claims := decodeUser(t, cred.JWT); claims.Subject != known || public(t, pair) != known {
			t.Errorf("subject %s, seed's key %s, want %s", claims.Subject, public(t, pair), known)
		}
	}
	seen := map[string]string{known: "alice/phone"}
	record := func(what string, cred auth.Credential, err error) {
		must(t, cred, err)
		key := decodeUser(t, cred.JWT).Subject
		if who, dup := seen[key]; dup {
			t.Errorf("%s has the key of %s", what, who)
		}
		seen[key] = what
	}
	for _, name := range []string{"alice.phone", "phone", "alice"} {
		cred, err := k.IssueService(name, auth.ServiceOptions{})
		record("service "+name, cred, err)
		cred, err = k.IssuePart(name)
		record("part "+name, cred, err)
		cred, err = k.IssueSystem(name)
		record("system "+name, cred, err)
	}
	other, err := open(t, t.TempDir()).IssueDevice(phone, auth.DeviceOptions{})
	record("the same of another installation", other, err)
}

func TestDifferentDevicesHaveDifferentKeys(t *testing.T) {
	t.Parallel()
	k := open(t, t.TempDir())
	rapid.Check(t, func(rt *rapid.T) {
		a, b := addresses().Draw(rt, "a"), addresses().Draw(rt, "b")
		keyA, errA := k.DeviceKey(a)
		keyB, errB := k.DeviceKey(b)
		if errA != nil || errB != nil || (keyA == keyB) != (a == b) {
			rt.Fatalf("%v: %s %v, %v: %s %v", a, keyA, errA, b, keyB, errB)
		}
	})
}

// Any name and type that may be issued is read back as it was.
func TestIdentitySurvivesTheToken(t *testing.T) {
	t.Parallel()
	k := open(t, t.TempDir())
	v := verifier(t, k.Account().JWT)
	rapid.Check(t, func(rt *rapid.T) {
		a := addresses().Draw(rt, "address")
		opts := auth.DeviceOptions{Bearer: rapid.Bool().Draw(rt, "bearer")}
		if rapid.Bool().Draw(rt, "typed") {
			opts.Type = texts().Draw(rt, "type")
		}
		cred, err := k.IssueDevice(a, opts)
		if err != nil {
			rt.Fatal(err)
		}
		id, err := v.Verify(cred.JWT, time.Now())
		if err != nil || id.Address != a || id.Type != opts.Type || id.Bearer != opts.Bearer {
			rt.Fatalf("%v %+v came back as %+v, %v", a, opts, id, err)
		}
	})
}

// worst is the name that grows most on its way into a token.
var worst = strings.Repeat("<", subjects.MaxName)

func TestLongestTokenIsAccepted(t *testing.T) {
	t.Parallel()
	k := open(t, t.TempDir())
	a := subjects.Address{User: subjects.UserID(worst), Device: subjects.DeviceID(worst)}
	cred := issue(t, k, a, auth.DeviceOptions{Type: worst, Bearer: true, Expires: 1000 * time.Hour})
	id, err := verifier(t, k.Account().JWT).Verify(cred.JWT, time.Now())
	if err != nil || id.Address != a {
		t.Fatalf("token of %d bytes: %v", len(cred.JWT), err)
	}
}

func TestCredentialFileIsReadBack(t *testing.T) {
	t.Parallel()
	k := open(t, t.TempDir())
	for _, bearer := range []bool{false, true} {
		cred := issue(t, k, phone, auth.DeviceOptions{Bearer: bearer})
		file, err := cred.File()
		must(t, file, err)
		back, err := auth.ParseCredential(file)
		if err != nil || back.JWT != cred.JWT || !bytes.Equal(back.Seed, cred.Seed) {
			t.Fatalf("bearer %t: came back another, %v", bearer, err)
		}
		id, err := verifier(t, k.Account().JWT).Verify(back.JWT, time.Now())
		must(t, id, err)
		for range 2 { // signing wipes a copy of the seed, not the seed
			sig, err := back.Sign([]byte("nonce"))
			must(t, sig, err)
			pair, err := nkeys.FromPublicKey(id.UserKey)
			must(t, pair, err)
			if err := pair.Verify([]byte("nonce"), sig); err != nil {
				t.Fatal(err)
			}
		}
	}
}

func TestBadCredentialFilesAreRefused(t *testing.T) {
	t.Parallel()
	k := open(t, t.TempDir())
	cred := issue(t, k, phone, auth.DeviceOptions{})
	account := open(t, t.TempDir())
	file, err := cred.File()
	must(t, file, err)
	mixed := strings.Replace(string(file), string(cred.Seed), string(issue(t, account, phone, auth.DeviceOptions{}).Seed), 1)
	for what, file := range map[string]string{
		"empty": "", "token only": cred.JWT, "seed only": string(cred.Seed), "text": "hello\nworld", "account": account.Account().JWT,
		"another's seed": mixed,
	} {
		if c, err := auth.ParseCredential([]byte(file)); err == nil {
			t.Errorf("%s was read as a credential with %d bytes of JWT", what, len(c.JWT))
		}
	}
	if _, err := (auth.Credential{}).File(); err == nil {
		t.Error("an empty credential has a file")
	}
	if _, err := (auth.Credential{}).Sign(nil); err == nil {
		t.Error("an empty credential signs")
	}
}

func TestCredentialsDoNotPrintTheirSecrets(t *testing.T) {
	t.Parallel()
	cred := issue(t, open(t, t.TempDir()), phone, auth.DeviceOptions{Bearer: true})
	var out bytes.Buffer
	for _, format := range []string{"%v", "%+v", "%#v", "%s"} {
		fmt.Fprintf(&out, format+"\n", cred)
	}
	slog.New(slog.NewJSONHandler(&out, nil)).Info("x", "cred", cred)
	slog.New(slog.NewTextHandler(&out, nil)).Info("x", "cred", cred)
	raw, err := json.Marshal(cred.Seed)
	must(t, raw, err)
	for _, secret := range []string{cred.JWT, string(cred.Seed), string(raw), fmt.Sprintf("%d", cred.Seed)} {
		if strings.Contains(out.String(), secret) {
			t.Errorf("printed: %s", out.String())
		}
	}
}

func TestIssuingInParallel(t *testing.T) {
	t.Parallel()
	k := open(t, t.TempDir())
	v := verifier(t, k.Account().JWT)
	var wg sync.WaitGroup
	for worker := range 4 {
		wg.Go(func() {
			for i := range 50 {
				a := subjects.Address{User: "alice", Device: subjects.DeviceID(fmt.Sprintf("%d-%d", worker, i))}
				cred, err := k.IssueDevice(a, auth.DeviceOptions{})
				if err != nil {
					t.Error(err)
					return
				}
				if id, err := v.Verify(cred.JWT, time.Now()); err != nil || id.Address != a {
					t.Errorf("%v: %+v, %v", a, id, err)
				}
			}
		})
	}
	wg.Wait()
}

// A tag that a tool has rewritten in another case says the same type.
func TestTypeSurvivesTheCaseOfTags(t *testing.T) {
	t.Parallel()
	own, ten := open(t, t.TempDir()), newTenant(t)
	v := verifier(t, ten.token(t))
	rapid.Check(t, func(rt *rapid.T) {
		kind := texts().Draw(rt, "type")
		cred, err := own.IssueDevice(phone, auth.DeviceOptions{Type: kind})
		if err != nil {
			rt.Fatal(err)
		}
		tags := decodeUser(t, cred.JWT).Tags
		for _, change := range []func(string) string{strings.ToLower, strings.ToUpper} {
			token := ten.device(t, func(c *jwt.UserClaims) {
				for _, tag := range tags {
					c.Tags = append(c.Tags, change(tag))
				}
			})
			if id, err := v.Verify(token, time.Now()); err != nil || id.Type != kind {
				rt.Fatalf("%q became %q came back as %q, %v", kind, tags, id.Type, err)
			}
		}
	})
}

func BenchmarkIssueDevice(b *testing.B) {
	k := open(b, b.TempDir())
	b.ReportAllocs()
	for i := 0; b.Loop(); i++ {
		a := subjects.Address{User: "alice", Device: subjects.DeviceID(fmt.Sprintf("device-%d", i))}
		if _, err := k.IssueDevice(a, auth.DeviceOptions{Bearer: true}); err != nil {
			b.Fatal(err)
		}
	}
}
