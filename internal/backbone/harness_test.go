package backbone_test

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/jwt/v2"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/nats-io/nkeys"

	"github.com/rccs-io/rccs"
	"github.com/rccs-io/rccs/internal/backbone"
	"github.com/rccs-io/rccs/internal/natstest"
	"github.com/rccs-io/rccs/internal/testkit"
)

func TestMain(m *testing.M) { natstest.VerifyTestMain(m) }

// trust is an operator with a system account and one tenant.
type trust struct {
	operator     nkeys.KeyPair
	claims       *jwt.OperatorClaims
	system       string
	systemJWT    string
	tenant       nkeys.KeyPair
	tenantClaims *jwt.AccountClaims
	tenantJWT    string
}

func must[T any](tb testing.TB, v T, err error) T {
	tb.Helper()
	return testkit.Must(tb, v, err)
}

func public(tb testing.TB, pair nkeys.KeyPair) string {
	tb.Helper()
	key, err := pair.PublicKey()
	return must(tb, key, err)
}

func newTrust(tb testing.TB) *trust {
	tb.Helper()
	t := &trust{}
	var err error
	t.operator, err = nkeys.CreateOperator()
	must(tb, t.operator, err)
	system, err := nkeys.CreateAccount()
	must(tb, system, err)
	t.tenant, err = nkeys.CreateAccount()
	must(tb, t.tenant, err)

	t.system = public(tb, system)
	t.claims = jwt.NewOperatorClaims(public(tb, t.operator))
	t.claims.SystemAccount = t.system
	_, err = t.claims.Encode(t.operator)
	must(tb, 0, err)
	t.systemJWT = t.sign(tb, jwt.NewAccountClaims(t.system))
	t.tenantClaims = jwt.NewAccountClaims(public(tb, t.tenant))
	t.tenantClaims.Limits.JetStreamLimits = jwt.JetStreamLimits{
		MemoryStorage: jwt.NoLimit, DiskStorage: jwt.NoLimit, Streams: jwt.NoLimit, Consumer: jwt.NoLimit,
	}
	t.tenantJWT = t.sign(tb, t.tenantClaims)
	return t
}

func (t *trust) sign(tb testing.TB, claims *jwt.AccountClaims) string {
	tb.Helper()
	token, err := claims.Encode(t.operator)
	return must(tb, token, err)
}

// user makes a credential of the tenant, and the public key that revokes it.
func (t *trust) user(tb testing.TB) (nats.Option, string) {
	tb.Helper()
	pair, err := nkeys.CreateUser()
	must(tb, pair, err)
	seed, err := pair.Seed()
	must(tb, seed, err)
	token, err := jwt.NewUserClaims(public(tb, pair)).Encode(t.tenant)
	return nats.UserJWTAndSeed(must(tb, token, err), string(seed)), public(tb, pair)
}

func (t *trust) options(dir string) backbone.Options {
	return backbone.Options{
		Config:        rccs.DefaultConfig(),
		Dir:           dir,
		Operator:      t.claims,
		SystemAccount: t.system,
		Accounts:      []string{t.systemJWT, t.tenantJWT},
	}
}

// private is a directory for a test that puts something there first.
func private(tb testing.TB) string {
	tb.Helper()
	dir := filepath.Join(tb.TempDir(), "data")
	return must(tb, dir, os.Mkdir(dir, 0o700))
}

func start(tb testing.TB, opts backbone.Options) *backbone.Server {
	tb.Helper()
	s, err := backbone.New(opts)
	must(tb, s, err)
	tb.Cleanup(func() { stop(tb, s) })
	if err := s.Start(tb.Context()); err != nil {
		tb.Fatal(err)
	}
	return s
}

func stop(tb testing.TB, s *backbone.Server) {
	tb.Helper()
	ctx, cancel := context.WithTimeout(context.WithoutCancel(tb.Context()), testkit.Patience) // in Cleanup, tb's is over
	defer cancel()
	if err := s.Stop(ctx); err != nil {
		tb.Error(err)
	}
}

// patient is for machines that are busy with other tests.
// until polls, because servers and clients do things in their own time.
var until = testkit.Eventually

var patient = nats.Timeout(testkit.Patience)

func dial(tb testing.TB, s *backbone.Server, opts ...nats.Option) *nats.Conn {
	tb.Helper()
	nc, err := nats.Connect("", append(opts, patient, s.InProcess())...)
	must(tb, nc, err)
	tb.Cleanup(nc.Close)
	return nc
}

func jetStream(tb testing.TB, nc *nats.Conn) jetstream.JetStream {
	tb.Helper()
	js, err := jetstream.New(nc, jetstream.WithDefaultTimeout(testkit.Patience))
	return must(tb, js, err)
}

// signAt signs account claims as of a moment in the past, which the jwt
// package does not offer: it encodes them now, and changes "iat" under a new
// signature.
func signAt(tb testing.TB, operator nkeys.KeyPair, claims *jwt.AccountClaims, at time.Time) string {
	tb.Helper()
	token, err := claims.Encode(operator)
	must(tb, token, err)
	parts := strings.Split(token, ".")
	body, err := base64.RawURLEncoding.DecodeString(parts[1])
	must(tb, body, err)
	var fields map[string]any
	if err := json.Unmarshal(body, &fields); err != nil {
		tb.Fatal(err)
	}
	fields["iat"] = at.Unix()
	body, err = json.Marshal(fields)
	must(tb, body, err)
	signed := parts[0] + "." + base64.RawURLEncoding.EncodeToString(body)
	signature, err := operator.Sign([]byte(signed))
	must(tb, signature, err)
	return signed + "." + base64.RawURLEncoding.EncodeToString(signature)
}
