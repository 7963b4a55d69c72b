package auth_test

import (
	"errors"
	"testing"
	"time"

	"github.com/rccs-io/rccs/auth"
)

// A token that was checked before is looked at again in all that can change.
func TestServiceTokenThatIsRememberedStillEnds(t *testing.T) {
	t.Parallel()
	keys, err := auth.OpenKeystore(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	cred, err := keys.IssueService("billing", auth.ServiceOptions{Bearer: true, Expires: time.Hour})
	if err != nil {
		t.Fatal(err)
	}
	v, err := auth.NewVerifier(keys.Account().Services)
	if err != nil {
		t.Fatal(err)
	}
	now := time.Now()
	for range 2 {
		if s, err := v.VerifyService(cred.JWT, now); err != nil || s.Name != "billing" {
			t.Fatalf("%+v, %v", s, err)
		}
	}
	if _, err := v.VerifyService(cred.JWT, now.Add(2*time.Hour)); !errors.Is(err, auth.ErrExpired) {
		t.Errorf("after its end: %v", err)
	}
	other := []byte(cred.JWT)
	in := &other[len(other)-20] // the middle of the signature: its end has few values
	if *in != 'A' {
		*in = 'A'
	} else {
		*in = 'B'
	}
	if _, err := v.VerifyService(string(other), now); !errors.Is(err, auth.ErrMalformed) {
		t.Errorf("with another signature: %v", err)
	}
	account, err := keys.RevokeMany(auth.Revocation{Kind: auth.RevokedService, Name: "billing", At: now.Add(time.Second)}, auth.Keys{})
	if err != nil {
		t.Fatal(err)
	}
	if err := v.Update(account.Services); err != nil {
		t.Fatal(err)
	}
	if _, err := v.VerifyService(cred.JWT, now); !errors.Is(err, auth.ErrRevoked) {
		t.Errorf("after its revocation: %v", err)
	}
}
