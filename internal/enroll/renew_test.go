package enroll_test

import (
	"context"
	"testing"
	"time"

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
