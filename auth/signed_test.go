package auth

import (
	"encoding/binary"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/jwt/v2"

	"github.com/rccs-io/rccs/subjects"
)

// keysAndPhone are keys, and a credential of alice's phone that they have signed.
func keysAndPhone(t *testing.T, opts DeviceOptions) (*Keystore, Credential) {
	t.Helper()
	keys, err := OpenKeystore(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	cred, err := keys.IssueDevice(subjects.Address{User: "alice", Device: "phone"}, opts)
	if err != nil {
		t.Fatal(err)
	}
	return keys, cred
}

// A device's token whose signature was checked before says the same when it is read
// again, and is looked at again in all that can change.
func TestDeviceTokenThatIsRememberedStillEnds(t *testing.T) {
	t.Parallel()
	keys, cred := keysAndPhone(t, DeviceOptions{Bearer: true, Type: "Mobile", Expires: time.Hour})
	v, err := NewVerifier(keys.Account().JWT)
	if err != nil {
		t.Fatal(err)
	}
	now := time.Now()
	first, err := v.Verify(cred.JWT, now)
	if err != nil {
		t.Fatal(err)
	}
	if !v.devices.has(v.devices.sum(cred.JWT)) {
		t.Error("its signature will be checked again")
	}
	if again, err := v.Verify(cred.JWT, now); err != nil || again != first {
		t.Errorf("read again: %+v, %v; want %+v", again, err, first)
	}
	if _, err := v.Verify(cred.JWT, now.Add(2*time.Hour)); !errors.Is(err, ErrExpired) {
		t.Errorf("after its end: %v", err)
	}
	other, err := keys.IssueDevice(subjects.Address{User: "alice", Device: "phone"}, DeviceOptions{Bearer: true, Expires: 48 * time.Hour})
	if err != nil {
		t.Fatal(err)
	}
	mine, theirs := strings.Split(cred.JWT, "."), strings.Split(other.JWT, ".")
	for what, token := range map[string]string{
		"other claims with its signature": strings.Join([]string{mine[0], theirs[1], mine[2]}, "."),
		"its claims, signature of others": strings.Join([]string{mine[0], mine[1], theirs[2]}, "."),
		"with something at its end":       cred.JWT + "A",
		"without its signature":           mine[0] + "." + mine[1] + ".",
	} {
		if _, err := v.Verify(token, now); !errors.Is(err, ErrMalformed) {
			t.Errorf("%s: %v", what, err)
		}
	}
	account, err := keys.RevokeMany(Revocation{Kind: RevokedDevice, Name: "alice/phone", At: now.Add(time.Second)}, Keys{})
	if err != nil {
		t.Fatal(err)
	}
	if err := v.Update(account.JWT); err != nil {
		t.Fatal(err)
	}
	if _, err := v.Verify(cred.JWT, now); !errors.Is(err, ErrRevoked) {
		t.Errorf("after its revocation: %v", err)
	}
}

// A key that an account no longer has makes worthless what it signed, remembered or
// not.
func TestATokenThatIsRememberedEndsWithTheKeyThatSignedIt(t *testing.T) {
	t.Parallel()
	keys, cred := keysAndPhone(t, DeviceOptions{Bearer: true})
	v, err := NewVerifier(keys.Account().JWT)
	if err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if _, err := v.Verify(cred.JWT, time.Now()); err != nil {
			t.Fatal(err)
		}
	}
	old := (*v.accounts.Load())[keys.Account().PublicKey]
	without := *old
	without.SigningKeys = jwt.SigningKeys{}
	v.accounts.Store(&map[string]*jwt.AccountClaims{without.Subject: &without})
	if _, err := v.Verify(cred.JWT, time.Now()); !errors.Is(err, ErrNotTrusted) {
		t.Errorf("signed by a key that the account does not have: %v", err)
	}
}

// Refused tokens are not remembered, however often they are shown; and of good ones
// no more than there is room for, the least used of which go first.
func TestWhatIsRememberedOfTokensIsBounded(t *testing.T) {
	t.Parallel()
	_, cred := keysAndPhone(t, DeviceOptions{Bearer: true})
	v, err := NewVerifier() // trusts nobody
	if err != nil {
		t.Fatal(err)
	}
	if _, err := v.Verify(cred.JWT, time.Now()); !errors.Is(err, ErrNotTrusted) {
		t.Fatal(err)
	}
	s := &v.devices
	if n := len(s.recent) + len(s.older); n > 0 {
		t.Errorf("%d refused tokens are remembered", n)
	}
	sum := func(n uint64) (sum tokenSum) {
		binary.LittleEndian.PutUint64(sum[:], n)
		return sum
	}
	const used = 0
	for n := range uint64(3 * maxSigned) {
		s.add(sum(n))
		if !s.has(sum(used)) {
			t.Fatalf("what is used all the time is forgotten after %d others", n)
		}
	}
	if n := len(s.recent) + len(s.older); n > 2*maxSigned {
		t.Errorf("%d are remembered, at most %d may be", n, 2*maxSigned)
	}
	if s.has(sum(1)) {
		t.Error("what was not used for long is remembered")
	}
}
