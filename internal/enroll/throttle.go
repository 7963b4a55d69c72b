package enroll

import (
	"net/netip"
	"sync"
	"time"

	"golang.org/x/time/rate"

	"github.com/rccs-io/rccs/wire"
)

// Bounds of wrong claims: so many at once, and one more each time that an
// interval has passed.
const (
	addressBurst = 10
	addressEvery = 6 * time.Second
	allBurst     = 600
	allEvery     = 100 * time.Millisecond
	// maxAddresses bounds the table; past it, addresses that are not in it
	// share one entry.
	maxAddresses = 10_000
)

// overflow is the entry that addresses share which are too many.
const overflow = "*"

// throttle bounds wrong claims, per address and in all. An attempt is counted
// before it is looked at, and given back when it was right: so a thousand at
// once are no more than a thousand in a row.
type throttle struct {
	now func() time.Time

	mu        sync.Mutex
	all       *rate.Limiter
	addresses map[string]*rate.Limiter
}

func newThrottle(now func() time.Time) *throttle {
	return &throttle{now: now, all: rate.NewLimiter(rate.Every(allEvery), allBurst), addresses: make(map[string]*rate.Limiter)}
}

// take counts an attempt from an address, which is empty where none is known,
// or refuses it. giveBack is for one that was right.
func (t *throttle) take(address string) (giveBack func(), werr *wire.Error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	now := t.now()
	limits := []*rate.Limiter{t.all}
	if key := group(address); key != "" {
		limits = append(limits, t.addressLocked(key, now))
	}
	taken := make([]*rate.Reservation, len(limits))
	wait := time.Duration(0)
	for i, l := range limits {
		taken[i] = l.ReserveN(now, 1)
		wait = max(wait, taken[i].DelayFrom(now))
	}
	if wait > 0 {
		for _, one := range taken {
			one.CancelAt(now)
		}
		werr := wire.NewError(wire.RateLimited, "too many wrong claims: wait, then try again with a good one")
		werr.RetryAfter = wait
		return nil, werr
	}
	return func() {
		t.mu.Lock()
		defer t.mu.Unlock()
		now := t.now()
		for _, l := range limits {
			l.AllowN(now, -1) // a reservation can be cancelled at its own moment only
		}
	}, nil
}

func (t *throttle) addressLocked(key string, now time.Time) *rate.Limiter {
	if l := t.addresses[key]; l != nil {
		return l
	}
	if len(t.addresses) >= maxAddresses {
		t.sweepLocked(now)
	}
	if len(t.addresses) >= maxAddresses {
		key = overflow
		if l := t.addresses[key]; l != nil {
			return l
		}
	}
	l := rate.NewLimiter(rate.Every(addressEvery), addressBurst)
	t.addresses[key] = l
	return l
}

// sweepLocked forgets addresses that have all their attempts again.
func (t *throttle) sweepLocked(now time.Time) {
	for key, l := range t.addresses {
		if l.TokensAt(now) >= addressBurst {
			delete(t.addresses, key)
		}
	}
}

// group is what counts as one address: of IPv6 the network, since whoever has
// one has all addresses in it.
func group(address string) string {
	ip, err := netip.ParseAddr(address)
	if err != nil {
		return address
	}
	ip = ip.Unmap().WithZone("")
	if ip.Is4() {
		return ip.String()
	}
	network, err := ip.Prefix(64)
	if err != nil {
		return address
	}
	return network.String()
}
