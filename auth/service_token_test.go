package auth_test

import (
	"errors"
	"slices"
	"testing"
	"time"

	"github.com/nats-io/jwt/v2"

	"github.com/rccs-io/rccs/auth"
	"github.com/rccs-io/rccs/subjects"
)

func TestAServicesTokenSaysWhatItMay(t *testing.T) {
	t.Parallel()
	k := open(t, t.TempDir())
	account := k.Account()
	v, err := auth.NewVerifier(account.Services)
	if err != nil {
		t.Fatal(err)
	}
	now := time.Now()
	for _, mayIssue := range []bool{true, false} {
		cred, err := k.IssueService("web", auth.ServiceOptions{Bearer: true, MayIssue: mayIssue, Expires: time.Hour})
		if err != nil {
			t.Fatal(err)
		}
		s, err := v.VerifyService(cred.JWT, now)
		if err != nil || s.Name != "web" || s.MayIssue != mayIssue || s.Account == account.PublicKey || s.Expires.Before(now) {
			t.Errorf("%+v, %v", s, err)
		}
		if _, err := v.VerifyService(cred.JWT, now.Add(2*time.Hour)); !errors.Is(err, auth.ErrExpired) {
			t.Errorf("once it has expired: %v", err)
		}
		if _, err := v.Verify(cred.JWT, now); !errors.Is(err, auth.ErrNotDevice) {
			t.Errorf("as a device's: %v", err)
		}
	}
	signed, err := k.IssueService("web", auth.ServiceOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := v.VerifyService(signed.JWT, now); !errors.Is(err, auth.ErrSignature) {
		t.Errorf("a token that needs a signature: %v", err)
	}
	device, err := k.IssueDevice(subjects.Address{User: "alice", Device: "phone"}, auth.DeviceOptions{Bearer: true})
	if err != nil {
		t.Fatal(err)
	}
	part, err := k.IssuePart("edge")
	if err != nil {
		t.Fatal(err)
	}
	both, err := auth.NewVerifier(account.Services, account.JWT)
	if err != nil {
		t.Fatal(err)
	}
	for _, token := range []string{device.JWT, part.JWT} {
		if _, err := both.VerifyService(token, now); !errors.Is(err, auth.ErrNotService) {
			t.Errorf("what is no service's: %v", err)
		}
	}
}

func TestARevokedServicesTokenIsRefused(t *testing.T) {
	t.Parallel()
	k := open(t, t.TempDir())
	cred, err := k.IssueService("web", auth.ServiceOptions{Bearer: true})
	if err != nil {
		t.Fatal(err)
	}
	account, err := k.RevokeMany(auth.Revocation{Kind: auth.RevokedService, Name: "web", At: time.Now()}, auth.Keys{})
	if err != nil {
		t.Fatal(err)
	}
	v, err := auth.NewVerifier(account.Services)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := v.VerifyService(cred.JWT, time.Now()); !errors.Is(err, auth.ErrRevoked) {
		t.Errorf("a revoked service's token: %v", err)
	}
}

func TestServicesAreRememberedAsDevicesAre(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	issued := open(t, dir).RecordIssued()
	issued.AddService("billing.eu", auth.ServiceOptions{})
	issued.Add(subjects.Address{User: "alice", Device: "phone"}, auth.DeviceOptions{})
	issued.Add(subjects.Address{User: "alice", Device: "mac/1"}, auth.DeviceOptions{})
	issued.Add(subjects.Address{User: "bob", Device: "phone"}, auth.DeviceOptions{})
	if err := issued.Flush(); err != nil {
		t.Fatal(err)
	}
	for _, test := range []struct {
		r                 auth.Revocation
		devices, services []string
	}{
		{auth.Revocation{Kind: auth.RevokedAll}, []string{"alice/mac/1", "alice/phone", "bob/phone"}, []string{"billing.eu"}},
		{auth.Revocation{Kind: auth.RevokedUser, Name: "alice"}, []string{"alice/mac/1", "alice/phone"}, nil},
		{auth.Revocation{Kind: auth.RevokedDevice, Name: "bob/phone"}, []string{"bob/phone"}, nil},
		{auth.Revocation{Kind: auth.RevokedService, Name: "billing.eu"}, nil, []string{"billing.eu"}},
		{auth.Revocation{Kind: auth.RevokedService, Name: "typo"}, nil, nil},
		{auth.Revocation{Kind: auth.RevokedDevice, Name: "billing.eu"}, nil, nil},
	} {
		devices, services, err := open(t, dir).Holders(test.r)
		if err != nil || !slices.Equal(devices, test.devices) || !slices.Equal(services, test.services) {
			t.Errorf("%+v ends %q and %q, %v; want %q and %q", test.r, devices, services, err, test.devices, test.services)
		}
	}
}

func TestADeviceHas256SubscriptionsOnPlainNATS(t *testing.T) {
	t.Parallel()
	cred, err := open(t, t.TempDir()).IssueDevice(subjects.Address{User: "alice", Device: "phone"}, auth.DeviceOptions{})
	if err != nil {
		t.Fatal(err)
	}
	claims, err := jwt.DecodeUserClaims(cred.JWT)
	if err != nil || claims.Subs != 256 {
		t.Errorf("%d subscriptions, %v", claims.Subs, err)
	}
}

// The clocks of issuer and checker may differ by a minute.
func TestNotBeforeHasALeewayOfAMinute(t *testing.T) {
	t.Parallel()
	ten := newTenant(t)
	v := verifier(t, ten.token(t))
	for ahead, want := range map[time.Duration]error{59 * time.Second: nil, 62 * time.Second: auth.ErrNotYet} {
		now := time.Now()
		token := ten.device(t, func(c *jwt.UserClaims) { c.NotBefore = now.Add(ahead).Unix() })
		if _, err := v.Verify(token, now); !errors.Is(err, want) {
			t.Errorf("%s ahead: %v", ahead, err)
		}
	}
}

// A token of an earlier version, which let a service have such a name, would speak
// for operators.
func TestNoServiceIsCalledAsOperatorsAre(t *testing.T) {
	t.Parallel()
	k := open(t, t.TempDir())
	ten := newTenant(t)
	ten.claims.Name = "default services"
	v := verifier(t, ten.token(t))
	for name, reserved := range map[string]bool{"operator": true, "Operator": true, "nats": true, "operators": false} {
		if _, err := k.IssueService(name, auth.ServiceOptions{}); errors.Is(err, subjects.ErrName) != reserved {
			t.Errorf("a credential for %q: %v", name, err)
		}
		token := ten.device(t, func(c *jwt.UserClaims) { c.Name, c.BearerToken = "service:"+name, true })
		if _, err := v.VerifyService(token, time.Now()); errors.Is(err, auth.ErrNotService) != reserved || !reserved && err != nil {
			t.Errorf("a token of %q: %v", name, err)
		}
	}
}
