package auth_test

import (
	"testing"
	"time"

	"github.com/rccs-io/rccs/auth"
)

// Taking a revocation back gives back what it took, and nothing that another
// one took, whichever way round they were made.
func TestUndoTakesBackWhatWasAskedAndNothingElse(t *testing.T) {
	t.Parallel()
	device := auth.Revocation{Kind: auth.RevokedDevice, Name: phone.String()}
	user := auth.Revocation{Kind: auth.RevokedUser, Name: string(phone.User)}
	all := auth.Revocation{Kind: auth.RevokedAll}
	for _, test := range []struct {
		name             string
		made, undone     []auth.Revocation
		refused, natsToo bool
	}{
		{"a device, then all, without all", []auth.Revocation{device, all}, []auth.Revocation{all}, true, true},
		{"all, then a device, without all", []auth.Revocation{all, device}, []auth.Revocation{all}, true, true},
		{"a device and all, without the device", []auth.Revocation{device, all}, []auth.Revocation{device}, true, true},
		{"a device and its user, without the device", []auth.Revocation{device, user}, []auth.Revocation{device}, true, true},
		{"a device and its user, without the user", []auth.Revocation{user, device}, []auth.Revocation{user}, true, true},
		{"a user and all, without all", []auth.Revocation{user, all}, []auth.Revocation{all}, true, true},
		{"all of them taken back", []auth.Revocation{device, user, all}, []auth.Revocation{user, device, all}, false, false},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			k := open(t, t.TempDir())
			cred := issue(t, k, phone, auth.DeviceOptions{})
			key, err := k.DeviceKey(phone)
			must(t, key, err)
			var account auth.Account
			for _, r := range test.made {
				r.At = time.Now()
				account, err = k.RevokeMany(r, of(r, key))
				must(t, account, err)
			}
			for _, r := range test.undone {
				account, err = k.Restore(r, of(r, key))
				must(t, account, err)
			}
			_, err = verifier(t, account.JWT).Verify(cred.JWT, time.Now())
			if refused := err != nil; refused != test.refused {
				t.Errorf("at an edge: %v", err)
			}
			if refused := revokedOnNATS(t, account.JWT, key); refused != test.natsToo {
				t.Errorf("NATS refuses the key: %t", refused)
			}
		})
	}
}

// of are the keys that fall under a revocation beside those that follow from its
// name.
func of(r auth.Revocation, key string) (k auth.Keys) {
	if r.Kind == auth.RevokedUser {
		k.Derived = []string{key}
	}
	return k
}
