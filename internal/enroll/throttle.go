package enroll

import (
	"net/netip"
	"sync"
	"time"

	"github.com/rccs-io/rccs/internal/limit"
	"github.com/rccs-io/rccs/wire"
)

// Bounds of wrong claims: so many at once, and so many a second more.
const (
	addressBurst, addressRate = 10, 1.0 / 6
	allBurst, allRate         = 600, 10
	// maxAddresses bounds how many addresses are told apart.
	maxAddresses = 10_000
)

// throttle bounds wrong claims, per address and in all. An attempt is counted
// before it is looked at, and given back when it was right: so a thousand at
// once are no more than a thousand in a row.
type throttle struct {
	now       func() time.Time
	all       *limit.Table[struct{}]
	addresses *limit.Table[string]

	mu      sync.Mutex
	renewed map[string]bool // addresses of which a right renewal counted last
}

func newThrottle(now func() time.Time) *throttle {
	return &throttle{
		now: now, renewed: make(map[string]bool),
		all: limit.New[struct{}](allRate, allBurst, 1), addresses: limit.New[string](addressRate, addressBurst, maxAddresses),
	}
}

// allow counts an attempt from an address, or refuses it. Where the address is not
// known it is empty, and the attempt counts in all only. giveBack is for an
// attempt that was right.
func (t *throttle) allow(address string) (giveBack func(), werr *wire.Error) {
	now, addresses := t.now(), t.addresses
	if address == "" {
		addresses = nil
	}
	key := group(address)
	wait := addresses.Take(key, 1, now)
	why := t.why(key)
	if wait == 0 {
		if wait = t.all.Take(struct{}{}, 1, now); wait > 0 {
			addresses.Return(key, 1, now)
			why = "too many wrong claims come from everywhere: wait, then try again"
		}
	}
	if wait > 0 {
		werr := wire.NewError(wire.RateLimited, why)
		werr.RetryAfter = wait
		return nil, werr
	}
	return func() {
		addresses.Return(key, 1, t.now())
		t.all.Return(struct{}{}, 1, t.now())
	}, nil
}

// why says what has used up the bound of an address.
func (t *throttle) why(key string) string {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.renewed[key] {
		return "a key was renewed too often from this address: a device renews once in hours. Wait, then try again"
	}
	return "too many wrong claims came from this address: wait, then try again with a good one"
}

// counts notes what an attempt from an address was that is not given back: a right
// renewal, or a wrong claim.
func (t *throttle) counts(address string, renewal bool) {
	key := group(address)
	t.mu.Lock()
	defer t.mu.Unlock()
	if !renewal {
		delete(t.renewed, key)
		return
	}
	if len(t.renewed) >= maxAddresses {
		clear(t.renewed)
	}
	t.renewed[key] = true
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
