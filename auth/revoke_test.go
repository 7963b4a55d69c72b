package auth_test

import (
	"errors"
	"sync"
	"testing"
	"time"

	"github.com/rccs-io/rccs/auth"
	"github.com/rccs-io/rccs/subjects"
)

// What was issued before is refused, used or not; what is issued afterwards,
// and every other device's, is accepted. A restart does not change that.
func TestRevokeEndsWhatWasIssuedUntilThen(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	keys, err := auth.OpenKeystore(dir)
	if err != nil {
		t.Fatal(err)
	}
	phone, desktop := subjects.Address{User: "alice", Device: "phone"}, subjects.Address{User: "alice", Device: "desktop"}
	issue := func(a subjects.Address) string {
		t.Helper()
		cred, err := keys.IssueDevice(a, auth.DeviceOptions{Bearer: true})
		if err != nil {
			t.Fatal(err)
		}
		return cred.JWT
	}
	before, other := issue(phone), issue(desktop)
	var wg sync.WaitGroup
	for _, a := range []subjects.Address{phone, {User: "bob", Device: "x"}} { // at once
		wg.Go(func() {
			if _, err := open(t, dir).Revoke(a); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	after := issue(phone)
	again, err := auth.OpenKeystore(dir)
	if err != nil {
		t.Fatal(err)
	}
	v, err := auth.NewVerifier(again.Account().JWT)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := v.Verify(before, time.Now()); !errors.Is(err, auth.ErrRevoked) {
		t.Errorf("issued before: %v", err)
	}
	bob, err := keys.IssueDevice(subjects.Address{User: "bob", Device: "x"}, auth.DeviceOptions{Bearer: true})
	if err != nil {
		t.Fatal(err)
	}
	for name, token := range map[string]string{"issued after": after, "of another device": other, "of the other one revoked, issued after": bob.JWT} {
		id, err := v.Verify(token, time.Now())
		if err != nil {
			t.Errorf("%s: %v", name, err)
		} else if v.Revoked(id, id.IssuedAt) {
			t.Errorf("%s: revoked", name)
		}
	}
	account, err := open(t, dir).Unrevoke(phone)
	if err != nil {
		t.Fatal(err)
	}
	if err := v.Update(account.JWT); err != nil {
		t.Fatal(err)
	}
	if _, err := v.Verify(before, time.Now()); err != nil {
		t.Errorf("taken back: %v", err)
	}
}
