package enroll

import (
	"context"
	"errors"
	"time"

	"github.com/rccs-io/rccs/subjects"
	"github.com/rccs-io/rccs/wire"
)

// Renew signs for a key that is enrolled already. who is the device that asks,
// where that is known by other means; the zero address: nobody. The error is a
// [wire.Error].
func (s *Service) Renew(ctx context.Context, body []byte, who subjects.Address) (*wire.Enrolled, error) {
	e, err := s.open(body, wire.PurposeRenew)
	if err != nil {
		return nil, err
	}
	a := subjects.Address{User: e.User, Device: e.Device}
	if err := a.Check(); err != nil {
		return nil, wire.NewError(wire.BadMessage, "user and device name the device: "+err.Error())
	}
	known := who != (subjects.Address{})
	if known && a != who {
		return nil, wire.NewError(wire.IdentityMismatch, "a device renews its own credential only")
	}
	began := time.Now()
	answer, err := s.renew(ctx, a, e, !known && s.foreign(e))
	if errors.Is(err, errUnknownKey) {
		sameTime(ctx, began)
	}
	if err != nil {
		s.opts.Logger.Info("credential not renewed", "user", e.User, "device", e.Device, "err", err)
		return nil, s.outward(err)
	}
	return answer, nil
}

// sameTime waits for the end of the step that began then, or of a later one.
func sameTime(ctx context.Context, began time.Time) {
	timer := time.NewTimer(refusalStep - time.Since(began)%refusalStep)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-ctx.Done():
	}
}

// renew renews a key of this tenant. One that asks another, foreign, is not known:
// nobody is told which tenants there are.
func (s *Service) renew(ctx context.Context, a subjects.Address, e *wire.Enrollment, foreign bool) (*wire.Enrolled, error) {
	if err := s.mayRenew(ctx, a, e.PublicKey); err != nil && !foreign {
		return nil, err
	}
	if foreign {
		return nil, errUnknownKey
	}
	key, err := s.keys.renew(ctx, a, e.PublicKey, e.Time, s.opts.Now().UTC().Add(s.opts.RenewFor))
	if err != nil {
		return nil, err
	}
	return s.sign(a, key)
}

// mayRenew refuses a key that was revoked, or whose device, user or tenant was
// since it was enrolled.
func (s *Service) mayRenew(ctx context.Context, a subjects.Address, publicKey string) error {
	r, _, err := s.keys.read(ctx, a)
	if err != nil {
		return err
	}
	for _, key := range r.Keys {
		if key.PublicKey == publicKey && s.opts.Revoked(a, publicKey, key.Enrolled) {
			return wire.NewError(wire.DeviceRevoked, "the device was revoked: enrol it again, with a new key")
		}
	}
	return nil
}
