package enroll

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/rccs-io/rccs/auth"
	"github.com/rccs-io/rccs/internal/layout"
	"github.com/rccs-io/rccs/internal/shard"
	"github.com/rccs-io/rccs/subjects"
	"github.com/rccs-io/rccs/wire"
)

// Enroll answers the body of a request that comes from an address. The error
// is a [wire.Error].
func (s *Service) Enroll(ctx context.Context, body []byte, from string) (*wire.Enrolled, error) {
	e, err := s.open(body, wire.PurposeEnroll)
	if err != nil {
		return nil, err
	}
	giveBack, werr := s.throttle.allow(from)
	if werr != nil {
		return nil, werr
	}
	answer, err := s.enroll(ctx, e)
	if !isWrongClaim(err) {
		giveBack()
	}
	if err != nil {
		s.opts.Logger.Info("device not enrolled", "device", e.Device, "from", from, "err", err)
		return nil, s.outward(err)
	}
	s.opts.Logger.Info("device enrolled", "user", answer.User, "device", answer.Device, "from", from)
	return answer, nil
}

// errBadToken begins what is wrong with a third party's token.
var errBadToken = errors.New("the token was not accepted")

func isWrongClaim(err error) bool { return errors.Is(err, errBadCode) || errors.Is(err, errBadToken) }

func (s *Service) enroll(ctx context.Context, e *wire.Enrollment) (*wire.Enrolled, error) {
	foreign := s.foreign(e)
	switch {
	case (e.Code == "") == (e.Token == ""):
		return nil, wire.NewError(wire.BadMessage, "one claim is needed: code or token")
	case e.Code != "" && foreign:
		_, err := s.codes.find(ctx, e.Code) // takes as long as for any other code
		return nil, cmp.Or(err, errBadCode)
	case e.Code != "":
		return s.byCode(ctx, e)
	case foreign:
		return nil, errBadToken
	}
	return s.byToken(ctx, e)
}

// foreign reports whether a request is to another tenant: the default one gets
// those to tenants that do not exist.
func (s *Service) foreign(e *wire.Enrollment) bool {
	return cmp.Or(e.Tenant, auth.DefaultTenant) != s.opts.Tenant
}

func (s *Service) byCode(ctx context.Context, e *wire.Enrollment) (*wire.Enrolled, error) {
	code, err := s.codes.find(ctx, e.Code)
	if err != nil {
		return nil, err
	}
	if e.Device == "" {
		e.Device = subjects.DeviceID(code.Device)
	}
	if code.Device != "" && e.Device != subjects.DeviceID(code.Device) {
		return nil, wire.NewError(wire.IdentityMismatch, "the code is for a device of another name")
	}
	a, err := s.address(code.User, e)
	if err != nil {
		return nil, err
	}
	if code.Device == "" {
		if err := s.free(ctx, a, e.PublicKey); err != nil {
			if _, used := s.codes.find(ctx, e.Code); used != nil {
				return nil, used // perhaps by the device that has the name now
			}
			return nil, err
		}
	}
	if err := s.codes.redeem(ctx, code); err != nil {
		return nil, err
	}
	var may func(*record) error
	if code.Device == "" {
		may = func(r *record) error {
			if own, other := s.holders(r, a, e.PublicKey); other && !own {
				return conflict(a)
			}
			return nil
		}
	}
	answer, err := s.admit(ctx, a, e, code.Type, may)
	if errors.Is(err, wire.Conflict) || errors.Is(err, wire.QueueFull) || errors.Is(err, errTooMany) { // the code is not to blame
		err = cmp.Or(s.codes.putBack(ctx, code), err)
	}
	return answer, err
}

// free refuses a name that is taken, to a code that does not say it: who got the
// code is let in as a new device, and not in the place of another one. A key that
// is the device's already only asks again. A name whose credentials were revoked is
// free, until somebody has enrolled with it since.
func (s *Service) free(ctx context.Context, a subjects.Address, publicKey string) error {
	r, _, err := s.keys.read(ctx, a)
	if err != nil {
		return err
	}
	own, taken := s.holders(&r, a, publicKey)
	if own {
		return nil
	}
	if !taken && !s.opts.Revoked(a, "", time.Unix(0, 0)) {
		_, err := s.devices[shard.OfUser(a.User, len(s.devices))].Get(ctx, layout.DeviceEntry(a.Key()))
		if err != nil && !errors.Is(err, jetstream.ErrKeyNotFound) {
			return fmt.Errorf("enroll: bucket %s: %w", layout.BucketDevices, err)
		}
		taken = err == nil
	}
	if taken {
		return conflict(a)
	}
	return nil
}

// holders reports whether a key is the device's already, and whether another one
// is that is good.
func (s *Service) holders(r *record, a subjects.Address, publicKey string) (own, other bool) {
	for _, key := range r.Keys {
		own = own || key.PublicKey == publicKey
		other = other || key.PublicKey != publicKey && !s.opts.Now().After(key.Until) && !s.opts.Revoked(a, key.PublicKey, key.Enrolled)
	}
	return own, other
}

func conflict(a subjects.Address) error {
	return wire.Errorf(wire.Conflict,
		"%s has a device %q already: choose another name, or ask for a code that names the device; this code stays good", a.User, a.Device)
}

func (s *Service) byToken(ctx context.Context, e *wire.Enrollment) (*wire.Enrolled, error) {
	if s.opts.Tokens == nil && s.opts.Tenant != auth.DefaultTenant {
		return nil, errBadToken // as where there is no such tenant
	}
	if s.opts.Tokens == nil {
		return nil, wire.NewError(wire.PermissionDenied, "no third party's tokens are taken here: set --oidc-issuer, or enrol with a code")
	}
	user, err := s.opts.Tokens.User(ctx, e.Token)
	if err != nil {
		return nil, err
	}
	a, err := s.address(string(user), e)
	if err != nil {
		return nil, err
	}
	return s.admit(ctx, a, e, "", nil)
}

// address is the device that is to be enrolled, if it may be.
func (s *Service) address(user string, e *wire.Enrollment) (subjects.Address, error) {
	a := subjects.Address{User: subjects.UserID(user), Device: e.Device}
	if err := a.Check(); err != nil {
		return a, wire.NewError(wire.BadMessage, err.Error())
	}
	if e.User != "" && e.User != subjects.UserID(user) {
		return a, wire.NewError(wire.IdentityMismatch, "the claim is of another user")
	}
	if s.opts.Revoked(a, e.PublicKey, s.opts.Now()) {
		return a, wire.NewError(wire.DeviceRevoked, "this key was revoked: make a new one")
	}
	return a, nil
}

// admit records the key, then signs for it. may, if there is one, refuses by what
// is recorded of the device at that moment.
func (s *Service) admit(
	ctx context.Context, a subjects.Address, e *wire.Enrollment, kind string, may func(*record) error,
) (*wire.Enrolled, error) {
	if err := s.room(ctx, a); err != nil {
		return nil, err
	}
	now := s.opts.Now().UTC()
	key := Key{PublicKey: e.PublicKey, Type: kind, Enrolled: now, Last: e.Time, Until: now.Add(s.opts.RenewFor)}
	if err := s.keys.add(ctx, a, key, may); err != nil {
		return nil, err
	}
	return s.sign(a, key)
}

// room refuses another device of a user who has enrolled too many.
func (s *Service) room(ctx context.Context, a subjects.Address) error {
	if r, _, err := s.keys.read(ctx, a); err != nil || len(r.Keys) > 0 {
		return err
	}
	n, err := s.keys.good(ctx, a.User)
	if err == nil && n >= s.opts.MaxDevices {
		err = wire.Errorf(wire.QueueFull, "%d devices of this user are enrolled, which is all there may be: one counts until its key can be renewed no more", n)
	}
	return err
}
