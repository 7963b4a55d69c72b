package enroll_test

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"
	"github.com/nats-io/nkeys"

	"github.com/rccs-io/rccs/auth"
	"github.com/rccs-io/rccs/internal/enroll"
	"github.com/rccs-io/rccs/internal/natstest"
	"github.com/rccs-io/rccs/internal/testkit"
	"github.com/rccs-io/rccs/subjects"
	"github.com/rccs-io/rccs/wire"
)

func TestMain(m *testing.M) { natstest.VerifyTestMain(m) }

var check = testkit.Check

// clock is one that a test sets.
type clock struct {
	mu  sync.Mutex
	off time.Duration
}

func (c *clock) now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return time.Now().Add(c.off)
}

func (c *clock) pass(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.off += d
}

// place is a tenant with a service.
type place struct {
	t        *testing.T
	dir      string
	keys     *auth.Keystore
	verifier *auth.Verifier
	js       jetstream.JetStream
	clock    *clock
	service  *enroll.Service
}

func newPlace(t *testing.T) *place {
	t.Helper()
	dir := t.TempDir()
	keys, err := auth.OpenKeystore(dir)
	check(t, err)
	verifier, err := auth.NewVerifier(keys.Account().JWT)
	check(t, err)
	p := &place{t: t, dir: dir, keys: keys, verifier: verifier, clock: &clock{}}
	p.js = natstest.Streams(t, natstest.Server(t).Conn(t))
	p.service = p.another()
	return p
}

// another is a service beside the first, as in a second process.
func (p *place) another() *enroll.Service {
	p.t.Helper()
	return p.taking(nil)
}

// taking is a service that takes a third party's tokens too.
func (p *place) taking(tokens enroll.TokenVerifier) *enroll.Service {
	p.t.Helper()
	return p.with(tokens, 0)
}

// with is a service that takes so many devices of a user; 0: as many as usual.
func (p *place) with(tokens enroll.TokenVerifier, devices int) *enroll.Service {
	p.t.Helper()
	return p.of("", tokens, devices)
}

// of is a service of a tenant; empty: of the default one.
func (p *place) of(tenant string, tokens enroll.TokenVerifier, devices int) *enroll.Service {
	p.t.Helper()
	account := p.keys.Account().PublicKey
	s, err := enroll.New(p.t.Context(), enroll.Options{
		Tenant: tenant, JetStream: p.js, Signer: p.keys, Tokens: tokens, Now: p.clock.now, MaxDevices: devices,
		Revoked: func(a subjects.Address, key string, issued time.Time) bool {
			return p.verifier.Revoked(auth.Identity{Account: account, Address: a, UserKey: key}, issued)
		},
	})
	check(p.t, err)
	return s
}

// code makes a code for alice.
func (p *place) code(ask string) string {
	p.t.Helper()
	c, err := p.service.NewCode(p.t.Context(), []byte(ask))
	check(p.t, err)
	return c.Code
}

// device is one that makes its own key.
type device struct {
	t   testing.TB
	p   *place
	key nkeys.KeyPair
	pub string
}

func (p *place) device() *device {
	p.t.Helper()
	key, err := nkeys.CreateUser()
	check(p.t, err)
	pub, err := key.PublicKey()
	check(p.t, err)
	return &device{t: p.t, p: p, key: key, pub: pub}
}

// signed is the body of a request. An empty key and time are the device's.
func (d *device) signed(purpose wire.Purpose, e wire.Enrollment) []byte {
	d.t.Helper()
	if e.PublicKey == "" {
		e.PublicKey = d.pub
	}
	if e.Time.IsZero() {
		e.Time = d.p.clock.now()
	}
	s, err := e.Encode()
	check(d.t, err)
	sig, err := d.key.Sign(s.Message(purpose))
	check(d.t, err)
	s.Sig = base64.RawURLEncoding.EncodeToString(sig)
	body, err := json.Marshal(s)
	check(d.t, err)
	return body
}

func (d *device) enroll(e wire.Enrollment) (*wire.Enrolled, error) {
	d.t.Helper()
	return d.p.service.Enroll(context.Background(), d.signed(wire.PurposeEnroll, e), "192.0.2.1")
}

func (d *device) renew(e wire.Enrollment) (*wire.Enrolled, error) {
	d.t.Helper()
	return d.p.service.Renew(context.Background(), d.signed(wire.PurposeRenew, e), subjects.Address{})
}

// refused fails the test unless err is told with this code.
func refused(tb testing.TB, err error, code wire.Code) {
	tb.Helper()
	if !errors.Is(err, code) {
		tb.Fatalf("error %v, want %s", err, code)
	}
}

func alicePhone() subjects.Address { return subjects.Address{User: "alice", Device: "phone"} }
