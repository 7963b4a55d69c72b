package main

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/go-jose/go-jose/v4/jwt"
	"github.com/nats-io/nats.go"

	"github.com/rccs-io/rccs/internal/enroll"
	"github.com/rccs-io/rccs/internal/testkit"
)

// newCode makes a code as an operator's script does.
func (c console) newCode(t *testing.T, more ...string) string {
	t.Helper()
	var made enroll.Code
	out := c.succeed(t, append([]string{"enroll", "code", "--json"}, more...)...).out
	if err := json.Unmarshal([]byte(out), &made); err != nil || made.Code == "" {
		t.Fatalf("printed %q", out)
	}
	return made.Code
}

func TestADeviceEnrolsByACode(t *testing.T) {
	t.Parallel()
	i := serve(t)
	c := i.console()
	code := c.newCode(t, "--user", "alice", "--type", "mobile")
	file := filepath.Join(t.TempDir(), "phone.creds")
	got := c.succeed(t, "enroll", "--code", strings.ToLower(code), "--device", "phone", "--out", file)
	if !strings.HasPrefix(got.out, "enrolled: alice/phone, until ") {
		t.Errorf("printed %q", got.out)
	}
	if info, err := os.Stat(file); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("file %v, %v", info, err)
	}
	c.succeed(t, "send", "alice/phone", `{"n":1}`)
	got = c.succeed(t, "connect", "alice/phone", "--creds", file, "--count", "1", "--timeout", patient)
	if !strings.Contains(got.out, `{"n":1}`) {
		t.Errorf("printed %q", got.out)
	}
	c.run(t, "enroll", "--code", code, "--device", "phone", "--out", file).refused(t, exitFailed, "is there already")
	other := filepath.Join(t.TempDir(), "other.creds")
	c.run(t, "enroll", "--code", code, "--device", "other", "--out", other).refused(t, exitFailed, "AUTH_ERROR", "was used")
	if _, err := os.Stat(other); err == nil {
		t.Error("a refusal left a file")
	}

	before, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	// Credentials count in seconds.
	next := time.Now().Truncate(time.Second).Add(time.Second)
	testkit.Eventually(t, "the next second", func() bool { return !time.Now().Before(next) })
	c.succeed(t, "enroll", "renew", "--creds", file)
	if after, err := os.ReadFile(file); err != nil || string(after) == string(before) {
		t.Errorf("renewed, and the same (%v)", err)
	}

	// Revoking ends the key that the device made.
	c.succeed(t, "devices", "revoke", "alice/phone")
	c.run(t, "connect", "alice/phone", "--creds", file, "--timeout", patient).refused(t, exitFailed, "DEVICE_REVOKED")
	c.run(t, "enroll", "renew", "--creds", file).refused(t, exitFailed, "DEVICE_REVOKED")
	again := filepath.Join(t.TempDir(), "again.creds")
	c.succeed(t, "enroll", "--code", c.newCode(t, "--user", "alice"), "--device", "phone", "--out", again)
	c.succeed(t, "send", "alice/phone", `{"n":2}`)
	c.succeed(t, "connect", "alice/phone", "--creds", again, "--count", "1", "--timeout", patient)
}

func TestRevokingAUserEndsTheKeysOfItsDevicesUntilItIsUndone(t *testing.T) {
	t.Parallel()
	i := serve(t)
	c := i.console()
	file := filepath.Join(t.TempDir(), "phone.creds")
	c.succeed(t, "enroll", "--code", c.newCode(t, "--user", "alice"), "--device", "phone", "--out", file)
	connect := func() error { // on plain NATS, where keys count and not names
		nc, err := nats.Connect(i.nats, nats.UserCredentials(file), nats.Timeout(testkit.Patience))
		if err == nil {
			nc.Close()
		}
		return err
	}
	if err := connect(); err != nil {
		t.Fatal(err)
	}
	c.succeed(t, "revoke", "user", "alice")
	if err := connect(); err == nil {
		t.Error("the key is still good on NATS")
	}
	c.run(t, "enroll", "renew", "--creds", file).refused(t, exitFailed, "DEVICE_REVOKED")
	c.succeed(t, "revoke", "undo", "user", "alice")
	if err := connect(); err != nil {
		t.Errorf("after the undo: %v", err)
	}
	testkit.Eventually(t, "it is renewed again", func() bool { return c.run(t, "enroll", "renew", "--creds", file).status == exitOK })
}

func TestAnEnrolledDeviceRenewsOnItsConnection(t *testing.T) {
	t.Parallel()
	i := serve(t, "--enroll-life", "45s") // a busy machine takes seconds to renew
	c := i.console()
	file := filepath.Join(t.TempDir(), "phone.creds")
	c.succeed(t, "enroll", "--code", c.newCode(t, "--user", "alice"), "--device", "phone", "--out", file)
	first, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	device := c.start(t, "connect", "alice/phone", "--creds", file)
	device.noted("connected as alice/phone")
	for range 2 { // longer than any one credential
		testkit.Eventually(t, "the file holds a new credential", func() bool {
			now, err := os.ReadFile(file)
			fresh := err == nil && string(now) != string(first)
			if fresh {
				first = now
			}
			return fresh
		})
	}
	c.succeed(t, "send", "alice/phone", `{"still":"here"}`)
	device.await(`"still":"here"`)
	if strings.Contains(device.stderr(), "connection lost") {
		t.Errorf("the connection broke: %s", device.stderr())
	}
}

func TestADeviceEnrolsByAThirdPartysToken(t *testing.T) {
	t.Parallel()
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	key := jose.JSONWebKey{Key: private, KeyID: "k1", Algorithm: string(jose.ES256), Use: "sig"}
	dir := t.TempDir()
	write := func(name string, content any) string {
		path := filepath.Join(dir, name)
		text, err := json.Marshal(content)
		if s, ok := content.(string); ok {
			text, err = []byte(s+"\n"), nil
		}
		if err = errors.Join(err, os.WriteFile(path, text, 0o600)); err != nil {
			t.Fatal(err)
		}
		return path
	}
	signer, err := jose.NewSigner(jose.SigningKey{Algorithm: jose.ES256, Key: key}, nil)
	if err != nil {
		t.Fatal(err)
	}
	token, err := jwt.Signed(signer).Claims(map[string]any{
		"iss": "https://id.example.com", "aud": "rccs", "login": "alice", "exp": time.Now().Add(time.Hour).Unix(),
	}).Serialize()
	if err != nil {
		t.Fatal(err)
	}
	jwks := write("keys.json", jose.JSONWebKeySet{Keys: []jose.JSONWebKey{key.Public()}})
	i := serve(t, "--oidc-issuer", "https://id.example.com", "--oidc-audience", "rccs", "--oidc-jwks", jwks, "--oidc-user-claim", "login")
	c := i.console()
	file := filepath.Join(dir, "phone.creds")
	bad := write("bad.jwt", token[:len(token)-8]+"AAAAAAAA")
	c.run(t, "enroll", "--token-file", bad, "--device", "phone", "--out", file).refused(t, exitFailed, "AUTH_ERROR")
	got := c.succeed(t, "enroll", "--token-file", write("id.jwt", token), "--device", "phone", "--out", file)
	if !strings.HasPrefix(got.out, "enrolled: alice/phone, until ") {
		t.Errorf("printed %q", got.out)
	}
}

func TestACodeIsShownAsAQRCode(t *testing.T) {
	t.Parallel()
	i := serve(t)
	c := i.console()
	got := c.succeed(t, "enroll", "code", "--user", "alice", "--device", "phone", "--expires", "1h")
	if !strings.Contains(got.out, "\u2580") || !strings.Contains(got.out, "\nfor a device of alice, once, until ") {
		t.Errorf("printed %s", got.out)
	}
	var made struct {
		Link    string
		Expires time.Time `json:"expiresAt"`
	}
	out := c.succeed(t, "enroll", "code", "--user", "alice", "--url", "wss://edge.example.com", "--expires", "1h", "--json").out
	if err := json.Unmarshal([]byte(out), &made); err != nil {
		t.Fatal(err)
	}
	if !strings.HasPrefix(made.Link, "rccs:enroll?code=") || !strings.HasSuffix(made.Link, "&url=wss%3A%2F%2Fedge.example.com&user=alice") {
		t.Errorf("link %q", made.Link)
	}
	if left := time.Until(made.Expires); left > time.Hour || left < 50*time.Minute {
		t.Errorf("good for %s", left)
	}
}

func TestServicesMakeNoCodes(t *testing.T) {
	t.Parallel()
	i := serve(t)
	c := i.console()
	file := filepath.Join(t.TempDir(), "service.creds")
	if err := os.WriteFile(file, []byte(c.succeed(t, "creds", "service", "billing").out), 0o600); err != nil {
		t.Fatal(err)
	}
	if got := c.run(t, "enroll", "code", "--user", "alice", "--creds", file); got.status != exitFailed || got.out != "" {
		t.Errorf("status %d, printed %q", got.status, got.out)
	}
}
