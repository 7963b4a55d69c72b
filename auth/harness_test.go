package auth_test

import (
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/jwt/v2"
	"github.com/nats-io/nkeys"
	"pgregory.net/rapid"

	"github.com/rccs-io/rccs/auth"
	"github.com/rccs-io/rccs/internal/natstest"
	"github.com/rccs-io/rccs/internal/testkit"
	"github.com/rccs-io/rccs/subjects"
)

// openVariable makes this test program open the keystore it names, print what
// it found, and end: another process, for tests of processes that race.
const openVariable = "AUTH_TEST_OPEN"

func TestMain(m *testing.M) {
	if dir, ok := os.LookupEnv(openVariable); ok {
		k, err := auth.OpenKeystore(dir)
		if err != nil {
			fmt.Fprintln(os.Stdout, "error", err)
			return
		}
		fmt.Fprintln(os.Stdout, k.Created(), fingerprint(k))
		return
	}
	natstest.VerifyTestMain(m)
}

// fingerprint tells two sets of keys apart, by public parts only.
func fingerprint(k *auth.Keystore) string {
	key, err := k.DeviceKey(phone)
	return fmt.Sprint(k.OperatorJWT(), k.System().JWT, k.Account().JWT, key, err)
}

var phone = subjects.Address{User: "alice", Device: "phone"}

func must[T any](tb testing.TB, v T, err error) T {
	tb.Helper()
	return testkit.Must(tb, v, err)
}

func open(tb testing.TB, dir string) *auth.Keystore {
	tb.Helper()
	k, err := auth.OpenKeystore(dir)
	return must(tb, k, err)
}

func issue(tb testing.TB, k *auth.Keystore, a subjects.Address, opts auth.DeviceOptions) auth.Credential {
	tb.Helper()
	cred, err := k.IssueDevice(a, opts)
	return must(tb, cred, err)
}

func verifier(tb testing.TB, accounts ...string) *auth.Verifier {
	tb.Helper()
	v, err := auth.NewVerifier(accounts...)
	return must(tb, v, err)
}

func public(tb testing.TB, pair nkeys.KeyPair) string {
	tb.Helper()
	key, err := pair.PublicKey()
	return must(tb, key, err)
}

func decodeUser(tb testing.TB, token string) *jwt.UserClaims {
	tb.Helper()
	claims, err := jwt.DecodeUserClaims(token)
	return must(tb, claims, err)
}

// tenant is an account made by hand, which can sign what a keystore never
// would.
type tenant struct {
	operator, account, signing, user nkeys.KeyPair
	claims                           *jwt.AccountClaims
}

func newTenant(tb testing.TB) *tenant {
	tb.Helper()
	t := &tenant{}
	for pair, create := range map[*nkeys.KeyPair]func() (nkeys.KeyPair, error){
		&t.operator: nkeys.CreateOperator, &t.account: nkeys.CreateAccount,
		&t.signing: nkeys.CreateAccount, &t.user: nkeys.CreateUser,
	} {
		made, err := create()
		*pair = must(tb, made, err)
	}
	t.claims = jwt.NewAccountClaims(public(tb, t.account))
	t.claims.SigningKeys.Add(public(tb, t.signing))
	return t
}

func (t *tenant) token(tb testing.TB) string {
	tb.Helper()
	token, err := t.claims.Encode(t.operator)
	return must(tb, token, err)
}

// device makes the claims of alice/phone, signed by the signing key unless
// change decides otherwise.
func (t *tenant) device(tb testing.TB, change func(*jwt.UserClaims)) string {
	tb.Helper()
	return t.sign(tb, t.signing, change)
}

func (t *tenant) sign(tb testing.TB, by nkeys.KeyPair, change func(*jwt.UserClaims)) string {
	tb.Helper()
	claims := jwt.NewUserClaims(public(tb, t.user))
	claims.Name = phone.String()
	claims.IssuerAccount = public(tb, t.account)
	claims.Expires = time.Now().Add(time.Hour).Unix()
	if change != nil {
		change(claims)
	}
	token, err := claims.Encode(by)
	return must(tb, token, err)
}

// texts draws names of every kind that may stand in a credential.
func texts() *rapid.Generator[string] {
	tricky := rapid.SampledFrom([]string{
		"a.b", "a%2Eb", "A", "a", "*", ">", "ß", "İ", "日本語", "a\tb", " a ", "rccs-type:61", "service:x", "<&>\"\\", "\u2028", ":", "-----",
	})
	return rapid.OneOf(tricky, rapid.StringN(1, 40, subjects.MaxName)).Filter(func(s string) bool {
		return subjects.CheckName("name", s) == nil
	})
}

func addresses() *rapid.Generator[subjects.Address] {
	return rapid.Custom(func(t *rapid.T) subjects.Address {
		user := texts().Filter(func(s string) bool { return !strings.Contains(s, "/") }).Draw(t, "user")
		return subjects.Address{User: subjects.UserID(user), Device: subjects.DeviceID(texts().Draw(t, "device"))}
	}).Filter(func(a subjects.Address) bool { return a.Check() == nil })
}

// revokedOnNATS reports whether NATS servers refuse a key, which look for keys
// alone, and for all.
func revokedOnNATS(tb testing.TB, account, key string) bool {
	tb.Helper()
	claims, err := jwt.DecodeAccountClaims(account)
	if err != nil {
		tb.Fatal(err)
	}
	return claims.Revocations.IsRevoked(key, time.Now().Add(-time.Minute))
}
