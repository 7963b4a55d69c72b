package enroll_test

import (
	"context"
	"testing"
	"time"

	"github.com/rccs-io/rccs/internal/enroll"
	"github.com/rccs-io/rccs/subjects"
	"github.com/rccs-io/rccs/wire"
)

// enrolled is alice's phone.
func (p *place) enrolled() *device {
	p.t.Helper()
	d := p.device()
	_, err := d.enroll(wire.Enrollment{Code: p.code(`{"user":"alice","device":"phone","type":"mobile"}`), Device: "phone"})
	check(p.t, err)
	return d
}

func TestAKeyIsRenewedBeforeAndAfterItsTokenExpired(t *testing.T) {
	t.Parallel()
	p := newPlace(t)
	d := p.enrolled()
	for _, pass := range []time.Duration{12 * time.Hour, 29 * 24 * time.Hour} {
		p.clock.pass(pass)
		got, err := d.renew(wire.Enrollment{User: "alice", Device: "phone"})
		check(t, err)
		id, err := p.verifier.Verify(got.JWT, time.Now())
		check(t, err)
		if id.Address != alicePhone() || id.UserKey != d.pub || id.Type != "mobile" {
			t.Errorf("identity %+v", id)
		}
	}
	p.clock.pass(31 * 24 * time.Hour)
	_, err := d.renew(wire.Enrollment{User: "alice", Device: "phone"})
	refused(t, err, wire.AuthError)
}

func TestAReplayedProofIsRefused(t *testing.T) {
	t.Parallel()
	p := newPlace(t)
	d := p.enrolled()
	body := d.signed(wire.PurposeRenew, wire.Enrollment{User: "alice", Device: "phone"})
	_, err := p.service.Renew(t.Context(), body, subjects.Address{})
	check(t, err)
	for _, s := range []interface {
		Renew(ctx context.Context, body []byte, who subjects.Address) (*wire.Enrolled, error)
	}{p.service, p.another()} {
		_, err = s.Renew(t.Context(), body, subjects.Address{})
		refused(t, err, wire.AuthError)
	}
	_, err = d.renew(wire.Enrollment{User: "alice", Device: "phone"})
	check(t, err)
}

func TestOnlyAnEnrolledKeyOfTheDeviceIsRenewed(t *testing.T) {
	t.Parallel()
	p := newPlace(t)
	d := p.enrolled()
	_, err := p.device().renew(wire.Enrollment{User: "alice", Device: "phone"})
	refused(t, err, wire.AuthError)
	_, err = d.renew(wire.Enrollment{User: "alice", Device: "laptop"})
	refused(t, err, wire.AuthError)
	_, err = d.renew(wire.Enrollment{User: "bob", Device: "phone"})
	refused(t, err, wire.AuthError)
	_, err = d.renew(wire.Enrollment{Device: "phone"})
	refused(t, err, wire.BadMessage)
	body := d.signed(wire.PurposeRenew, wire.Enrollment{User: "alice", Device: "phone"})
	_, err = p.service.Renew(t.Context(), body, subjects.Address{User: "alice", Device: "laptop"})
	refused(t, err, wire.IdentityMismatch)
}

func TestARevokedDeviceIsNotRenewed(t *testing.T) {
	t.Parallel()
	p := newPlace(t)
	d := p.enrolled()
	p.revoke()
	_, err := d.renew(wire.Enrollment{User: "alice", Device: "phone"})
	refused(t, err, wire.DeviceRevoked)
}

// A device may be revoked where its own keys are not at hand.
func TestADeviceRevokedByNameAloneIsNotRenewed(t *testing.T) {
	t.Parallel()
	p := newPlace(t)
	d := p.enrolled()
	account, err := p.keys.Revoke(alicePhone())
	check(t, err)
	check(t, p.verifier.Update(account.JWT))
	_, err = d.renew(wire.Enrollment{User: "alice", Device: "phone"})
	refused(t, err, wire.DeviceRevoked)
}

func TestTheKeysOfADeviceAreBounded(t *testing.T) {
	t.Parallel()
	p := newPlace(t)
	for range 16 {
		p.enrolled()
	}
	_, err := p.device().enroll(wire.Enrollment{Code: p.code(`{"user":"alice","device":"phone"}`)})
	refused(t, err, wire.QueueFull)
	p.clock.pass(31 * 24 * time.Hour)
	p.enrolled()
}

// The gateway asks the default tenant for one that does not exist. So what that
// answers to the name of another is what a tenant answers that is there, whatever
// is claimed.
func TestNobodyIsToldWhichTenantsThereAre(t *testing.T) {
	t.Parallel()
	p := newPlace(t)
	d := p.enrolled()
	theirs := p.of("acme", nil, 0)
	for _, taken := range []enroll.TokenVerifier{nil, anyToken{}} {
		ours := p.of("", taken, 0)
		for what, ask := range map[string]func(*enroll.Service, string) error{
			"a token": func(s *enroll.Service, tenant string) error {
				_, err := s.Enroll(t.Context(), d.signed(wire.PurposeEnroll, wire.Enrollment{Token: "a.b.c", Tenant: tenant, Device: "phone"}), "")
				return err
			},
			"a code": func(s *enroll.Service, tenant string) error {
				_, err := s.Enroll(t.Context(), d.signed(wire.PurposeEnroll, wire.Enrollment{Code: "AAAA-BBBB", Tenant: tenant, Device: "phone"}), "")
				return err
			},
			"a renewal": func(s *enroll.Service, tenant string) error {
				key := p.device() // which acme does not know
				if tenant == "nobody" {
					key = d
				}
				_, err := s.Renew(t.Context(), key.signed(wire.PurposeRenew, wire.Enrollment{User: "alice", Device: "phone", Tenant: tenant}), subjects.Address{})
				return err
			},
		} {
			there, not := ask(theirs, "acme"), ask(ours, "nobody")
			refused(t, there, wire.AuthError)
			if not == nil || not.Error() != there.Error() {
				t.Errorf("%s: a tenant that is there answers %q, one that is not %v", what, there, not)
			}
		}
	}
}

// Whoever asks with a key of his own hears the same of a device that is enrolled, of
// one that was revoked, and of one that does not exist.
func TestNobodyIsToldWhichDevicesAreEnrolled(t *testing.T) {
	t.Parallel()
	p := newPlace(t)
	p.enrolled()
	ask := func(a subjects.Address) string {
		t.Helper()
		d, began := p.device(), time.Now()
		_, err := d.renew(wire.Enrollment{User: a.User, Device: a.Device})
		refused(t, err, wire.AuthError)
		if took := time.Since(began); took < 10*time.Millisecond {
			t.Errorf("refused after %s: the time tells whether there is a record", took)
		}
		return err.Error()
	}
	there := ask(alicePhone())
	for _, a := range []subjects.Address{{User: "alice", Device: "laptop"}, {User: "bob", Device: "phone"}} {
		if not := ask(a); not != there {
			t.Errorf("of a device that is enrolled it is said %q, of %s/%s %q", there, a.User, a.Device, not)
		}
	}
	p.revoke()
	if revoked := ask(alicePhone()); revoked != there {
		t.Errorf("of a device that is enrolled it is said %q, of one that was revoked %q", there, revoked)
	}
}

// anyToken takes every token for alice's.
type anyToken struct{}

func (anyToken) User(context.Context, string) (subjects.UserID, error) { return "alice", nil }
