package revoke

import (
	"context"
	"maps"
	"slices"
	"strings"

	"github.com/rccs-io/rccs/auth"
	"github.com/rccs-io/rccs/subjects"
)

// Holders are those whose credentials a revocation ends, as far as is known: by
// the keys, for whom one was made, and by the tenant, which devices registered
// or enrolled.
type Holders struct {
	Devices  []string // USER/DEVICE, sorted
	Services []string // sorted
	// Unreached says why the tenant could not be asked; nil: it was.
	Unreached error
}

// Any reports whether anybody is known to have a credential that ends.
func (h *Holders) Any() bool { return len(h.Devices)+len(h.Services) > 0 }

// Holders finds them. That the tenant cannot be reached is no error.
func (i *Installation) Holders(ctx context.Context, r auth.Revocation) (*Holders, error) {
	devices, services, err := i.Keys.Holders(r)
	if err != nil {
		return nil, err
	}
	h := &Holders{Services: services}
	known := map[string]bool{}
	for _, name := range devices {
		known[name] = true
	}
	if r.Kind != auth.RevokedService {
		h.Unreached = i.registeredUnder(ctx, r, known)
	}
	h.Devices = slices.Sorted(maps.Keys(known))
	return h, nil
}

// registeredUnder adds the devices of a revocation that the tenant knows.
func (i *Installation) registeredUnder(ctx context.Context, r auth.Revocation, known map[string]bool) error {
	t, err := i.reach()
	if err != nil {
		return err
	}
	defer t.nc.Close()
	scope := subjects.Scope{}
	if r.Kind != auth.RevokedAll {
		user, device, _ := strings.Cut(r.Name, "/")
		scope = subjects.Scope{User: subjects.UserID(user), Device: subjects.DeviceID(device)}
	}
	list, err := t.registered(ctx, scope)
	if err != nil {
		return err
	}
	for _, a := range list {
		known[a.String()] = true
	}
	return nil
}
