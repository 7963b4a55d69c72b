package backbone_test

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/jwt/v2"
	"github.com/nats-io/nats.go"

	"github.com/rccs-io/rccs/internal/backbone"
	"github.com/rccs-io/rccs/internal/testkit"
)

func TestUpdateAccountDropsTheRevokedAtOnce(t *testing.T) {
	t.Parallel()
	trust, dir := newTrust(t), t.TempDir()
	s := start(t, trust.options(dir))
	bad, badKey := trust.user(t)
	good, _ := trust.user(t)
	dropped := make(chan struct{})
	dial(t, s, bad, nats.ClosedHandler(func(*nats.Conn) { close(dropped) }), nats.NoReconnect(),
		nats.ErrorHandler(func(*nats.Conn, *nats.Subscription, error) {})) // the default one prints
	other := dial(t, s, good)

	trust.tenantClaims.Revoke(badKey)
	revoked := trust.sign(t, trust.tenantClaims)
	if err := s.UpdateAccount(revoked); err != nil {
		t.Fatal(err)
	}
	select {
	case <-dropped:
	case <-time.After(testkit.Patience):
		t.Fatal("the revoked user stayed connected")
	}
	if err := other.FlushTimeout(testkit.Patience); err != nil || other.Stats().Reconnects != 0 {
		t.Fatalf("the other user was disturbed: %v", err)
	}
	other.Close()
	stop(t, s)

	// Started with what it was given the first time, it knows better.
	again := start(t, trust.options(dir))
	if nc, err := nats.Connect("", bad, again.InProcess()); err == nil {
		nc.Close()
		t.Fatalf("the revoked user connects after a restart")
	}
	dial(t, again, good)
}

func TestUpdateAccountRefusals(t *testing.T) {
	t.Parallel()
	trust := newTrust(t)
	s, err := backbone.New(trust.options(t.TempDir()))
	must(t, s, err)
	if err := s.UpdateAccount(trust.tenantJWT); !errors.Is(err, backbone.ErrNotRunning) {
		t.Errorf("before Start: %v", err)
	}
	s = start(t, trust.options(t.TempDir()))
	if err := s.UpdateAccount(newTrust(t).tenantJWT); err == nil || !strings.Contains(err.Error(), "no key of operator") {
		t.Errorf("foreign account: %v", err)
	}
	if err := s.UpdateAccount("x"); err == nil {
		t.Error("not a JWT was accepted")
	}
	if err := s.UpdateAccount(trust.tenantJWT); err != nil {
		t.Errorf("the same JWT again: %v", err)
	}
}

// An account that the server has not heard of comes in without a restart.
func TestUpdateAccountAddsAccount(t *testing.T) {
	t.Parallel()
	trust := newTrust(t)
	s := start(t, trust.options(t.TempDir()))
	second := newTrust(t)
	token := trust.sign(t, second.tenantClaims)
	if err := s.UpdateAccount(token); err != nil {
		t.Fatal(err)
	}
	user, _ := second.user(t)
	dial(t, s, user)
}

func TestLaterAccountWins(t *testing.T) {
	t.Parallel()
	trust := newTrust(t)
	user, key := trust.user(t)
	trust.tenantClaims.Revoke(key)
	revoked := trust.sign(t, trust.tenantClaims)
	open := trust.tenantJWT
	for name, c := range map[string]struct {
		stored, given string
		connects      bool
	}{
		"given is later":         {older(t, trust, revoked), open, true},
		"stored is later":        {revoked, older(t, trust, open), false},
		"the same second":        {revoked, open, false},
		"stored is spoilt":       {"eyJ", open, true},
		"stored is half written": {revoked[:len(revoked)/2], open, true},
		"stored is empty":        {"", open, true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			opts := trust.options(private(t))
			opts.Accounts = []string{trust.systemJWT, c.given}
			dir := filepath.Join(opts.Dir, "accounts")
			if err := os.Mkdir(dir, 0o700); err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(filepath.Join(dir, public(t, trust.tenant)+".jwt"), []byte(c.stored), 0o600); err != nil {
				t.Fatal(err)
			}
			nc, err := nats.Connect("", user, start(t, opts).InProcess())
			nc.Close()
			if connected := err == nil; connected != c.connects {
				t.Fatalf("connect: %v, want success %t", err, c.connects)
			}
		})
	}
}

func TestUpdateAccountRefusesOlder(t *testing.T) {
	t.Parallel()
	trust := newTrust(t)
	old := older(t, trust, trust.tenantJWT)
	s := start(t, trust.options(t.TempDir()))
	if err := s.UpdateAccount(old); !errors.Is(err, backbone.ErrStale) {
		t.Fatalf("error %v, want ErrStale", err)
	}
}

// older signs the token's claims as they would have been an hour ago. The
// library always stamps the present, so this changes the stamp and signs by
// hand.
func older(tb testing.TB, trust *trust, token string) string {
	tb.Helper()
	claims, err := jwt.DecodeAccountClaims(token)
	must(tb, claims, err)
	return signAt(tb, trust.operator, claims, time.Now().Add(-time.Hour))
}
