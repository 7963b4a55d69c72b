package auth_test

import (
	"bytes"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/nats-io/jwt/v2"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/nats-io/nkeys"

	"github.com/rccs-io/rccs/auth"
	"github.com/rccs-io/rccs/internal/natstest"
)

// Keys of before services had an account get what that needs, and keep the rest.
func TestUpgradeGivesATenantItsExports(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	fresh := open(t, dir).Account().JWT
	upgraded, err := open(t, dir).Upgrade()
	if must(t, upgraded, err); upgraded.JWT != fresh {
		t.Error("a new tenant was changed")
	}
	account, err := open(t, dir).RevokeMany(auth.Revocation{Kind: auth.RevokedService, Name: "old", At: time.Now()}, auth.Keys{})
	must(t, account, err)
	claims, err := jwt.DecodeAccountClaims(account.JWT)
	must(t, claims, err).Exports = nil
	seed, err := os.ReadFile(filepath.Join(dir, "keys", "operator-signing.nk"))
	must(t, seed, err)
	operator, err := nkeys.FromSeed(bytes.TrimSpace(seed))
	must(t, operator, err)
	old, err := claims.Encode(operator)
	if err := os.WriteFile(filepath.Join(dir, "keys", "default.jwt"), []byte(must(t, old, err)), 0o600); err != nil {
		t.Fatal(err)
	}
	for n := range 2 {
		before := open(t, dir).Account().JWT
		account, err := open(t, dir).Upgrade()
		must(t, account, err)
		if n == 1 && account.JWT != before {
			t.Error("what is up to date was changed")
		}
		for _, token := range []string{account.JWT, account.Services} {
			claims, err := jwt.DecodeAccountClaims(token)
			if must(t, claims, err); claims.Revocations["service/old"] == 0 {
				t.Errorf("%s has lost what is revoked: %v", claims.Name, claims.Revocations)
			}
			if claims.Name == auth.DefaultTenant && len(claims.Exports) == 0 || claims.Name != auth.DefaultTenant && len(claims.Imports) == 0 {
				t.Errorf("%s has neither exports nor imports", claims.Name)
			}
			problems := jwt.CreateValidationResults()
			claims.Validate(problems)
			for _, p := range problems.Issues {
				if p.Blocking {
					t.Errorf("%s: %s", claims.Name, p.Description)
				}
			}
		}
	}
}

// What it costs a service to be in an account of its own, beside a part of RCCS
// that publishes straight.
func BenchmarkPublishToInboxes(b *testing.B) {
	for name, dial := range map[string]func(*installation) *nats.Conn{
		"service": func(i *installation) *nats.Conn { return i.service(b).Conn },
		"part":    func(i *installation) *nats.Conn { return i.part },
	} {
		b.Run(name, func(b *testing.B) {
			i := install(b)
			natstest.Streams(b, i.part)
			js, err := jetstream.New(dial(i), jetstream.WithPublishAsyncMaxPending(1024))
			must(b, js, err)
			body := bytes.Repeat([]byte("x"), 256)
			for b.Loop() {
				if _, err := js.PublishAsync("rccs.inbox.alice.phone.normal", body, jetstream.WithStallWait(patience)); err != nil {
					b.Fatal(err)
				}
			}
			<-js.PublishAsyncComplete()
		})
	}
}
