package enroll

import (
	"net/netip"
	"sync"
	"time"

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
	all       bucket
	addresses map[string]*bucket
}

// bucket holds attempts. Its zero value is full.
type bucket struct {
	spent int
	at    time.Time // when spent was true
}

// free gives back what has come since.
func (b *bucket) free(now time.Time, every time.Duration) {
	n := int(now.Sub(b.at) / every)
	if n >= b.spent {
		b.spent, b.at = 0, now
		return
	}
	if n > 0 {
		b.spent -= n
		b.at = b.at.Add(time.Duration(n) * every)
	}
}

// wait is how long until there is an attempt again.
func (b *bucket) wait(now time.Time, burst int, every time.Duration) time.Duration {
	if b.spent < burst {
		return 0
	}
	return time.Duration(b.spent-burst+1)*every - now.Sub(b.at)
}

func newThrottle(now func() time.Time) *throttle {
	return &throttle{now: now, addresses: make(map[string]*bucket)}
}

// take counts an attempt from an address, which is empty where none is known,
// or refuses it. giveBack is for one
// that was right.
func (t *throttle) take(address string) (giveBack func(), werr *wire.Error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	now := t.now()
	one := t.addressLocked(group(address), now)
	one.free(now, addressEvery)
	t.all.free(now, allEvery)
	if wait := max(one.wait(now, addressBurst, addressEvery), t.all.wait(now, allBurst, allEvery)); wait > 0 {
		werr := wire.NewError(wire.RateLimited, "too many wrong claims: wait, then try again with a good one")
		werr.RetryAfter = wait
		return nil, werr
	}
	one.spent++
	t.all.spent++
	return func() {
		t.mu.Lock()
		defer t.mu.Unlock()
		one.spent = max(one.spent-1, 0)
		t.all.spent = max(t.all.spent-1, 0)
	}, nil
}

func (t *throttle) addressLocked(key string, now time.Time) *bucket {
	if key == "" {
		return &bucket{} // counted in all only
	}
	if b := t.addresses[key]; b != nil {
		return b
	}
	if len(t.addresses) >= maxAddresses {
		t.sweepLocked(now)
	}
	if len(t.addresses) >= maxAddresses {
		key = overflow
		if b := t.addresses[key]; b != nil {
			return b
		}
	}
	b := &bucket{at: now}
	t.addresses[key] = b
	return b
}

// sweepLocked forgets addresses that have all their attempts again.
func (t *throttle) sweepLocked(now time.Time) {
	for key, b := range t.addresses {
		if b.free(now, addressEvery); b.spent == 0 {
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
