package auth_test

import (
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/rccs-io/rccs/auth"
	"github.com/rccs-io/rccs/subjects"
)

// verdict is what a new verifier says of a token.
func verdict(t *testing.T, account auth.Account, token string) error {
	t.Helper()
	v, err := auth.NewVerifier(account.JWT)
	if err != nil {
		t.Fatal(err)
	}
	_, err = v.Verify(token, time.Now())
	return err
}

func TestRevokingAUserEndsDevicesThatNobodyKnows(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	keys := open(t, dir)
	issue := func(user, device string) string {
		t.Helper()
		cred, err := keys.IssueDevice(subjects.Address{User: subjects.UserID(user), Device: subjects.DeviceID(device)}, auth.DeviceOptions{Bearer: true})
		must(t, cred, err)
		return cred.JWT
	}
	unused, similar, other := issue("alice", "never seen"), issue("alice2", "phone"), issue("bob", "alice")
	r := auth.Revocation{Kind: auth.RevokedUser, Name: "alice", At: time.Now()}
	account, err := open(t, dir).RevokeMany(r, auth.Keys{})
	must(t, account, err)
	if err := verdict(t, account, unused); !errors.Is(err, auth.ErrRevoked) {
		t.Errorf("issued before: %v", err)
	}
	for name, token := range map[string]string{"issued after": issue("alice", "never seen"), "another user": similar, "another user's device": other} {
		if err := verdict(t, account, token); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	all, err := open(t, dir).Revocations()
	if err != nil || len(all) != 1 || all[0].Kind != auth.RevokedUser || all[0].Name != "alice" || all[0].At.Unix() != r.At.Unix() {
		t.Errorf("listed %+v, %v", all, err)
	}
	account, err = open(t, dir).Restore(r, auth.Keys{})
	must(t, account, err)
	if err := verdict(t, account, unused); err != nil {
		t.Errorf("restored: %v", err)
	}
	if _, err := open(t, dir).Restore(r, auth.Keys{}); err == nil || !strings.Contains(err.Error(), "not revoked") {
		t.Errorf("restored twice: %v", err)
	}
}

func TestRevokingAllIssuedBeforeATime(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	keys := open(t, dir)
	phone := subjects.Address{User: "alice", Device: "phone"}
	old, err := keys.IssueDevice(phone, auth.DeviceOptions{Bearer: true})
	must(t, old, err)
	if _, err := open(t, dir).Revoke(phone); err != nil { // is covered, and stands when that is taken back
		t.Fatal(err)
	}
	account, err := open(t, dir).RevokeMany(auth.Revocation{Kind: auth.RevokedAll, At: time.Now()}, auth.Keys{})
	must(t, account, err)
	if err := verdict(t, account, old.JWT); !errors.Is(err, auth.ErrRevoked) {
		t.Errorf("issued before: %v", err)
	}
	fresh, err := keys.IssueDevice(phone, auth.DeviceOptions{Bearer: true})
	must(t, fresh, err)
	if err := verdict(t, account, fresh.JWT); err != nil {
		t.Errorf("issued after: %v", err)
	}
	if all, err := open(t, dir).Revocations(); err != nil || len(all) != 2 || all[0].Kind != auth.RevokedAll {
		t.Errorf("listed %+v, %v", all, err)
	}
}

func TestRevocationsThatMakeNoSense(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	open(t, dir)
	for _, r := range []auth.Revocation{
		{Kind: "planet", Name: "x"},
		{Kind: auth.RevokedUser, Name: "a/b"},
		{Kind: auth.RevokedUser},
		{Kind: auth.RevokedDevice, Name: "alice"},
		{Kind: auth.RevokedService, Name: ""},
	} {
		if _, err := open(t, dir).RevokeMany(r, auth.Keys{}); err == nil {
			t.Errorf("accepted %+v", r)
		}
	}
}
