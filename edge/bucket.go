package edge

import (
	"sync"
	"time"
)

// maxBuckets bounds how many keys a table tells apart. Those that come when it
// is full share one bucket.
const maxBuckets = 1 << 16

// buckets are token buckets by key. A full one is as good as none, and is
// forgotten. A nil table has no limit.
type buckets struct {
	rate  float64 // tokens a second
	burst float64
	max   int // keys that are told apart

	mu  sync.Mutex
	all map[limitKey]*bucket // guarded by mu
}

// limitKey is what a bucket counts. Users of two tenants may have one name.
type limitKey struct{ account, name string }

type bucket struct {
	tokens float64
	at     time.Time
}

// newBuckets is nil, no limit, when rate is 0.
func newBuckets(rate, burst float64) *buckets {
	if rate <= 0 {
		return nil
	}
	return &buckets{rate: rate, burst: max(burst, 1), max: maxBuckets, all: make(map[limitKey]*bucket)}
}

// take removes n tokens of a key and returns 0, or returns after how long they
// would be there.
func (b *buckets) take(name limitKey, n float64, now time.Time) (wait time.Duration) {
	if b == nil {
		return 0
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	one := b.ofLocked(name, now)
	n = min(n, b.burst) // or it could never be
	if one.tokens < n {
		return time.Duration((n - one.tokens) / b.rate * float64(time.Second))
	}
	one.tokens -= n
	return 0
}

// give puts back tokens that were not used after all.
func (b *buckets) give(name limitKey, n float64, now time.Time) {
	if b == nil {
		return
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	one := b.ofLocked(name, now)
	one.tokens = min(one.tokens+min(n, b.burst), b.burst)
}

// ofLocked is the key's bucket, with what it has gained since.
func (b *buckets) ofLocked(name limitKey, now time.Time) *bucket {
	one := b.all[name]
	if one == nil && len(b.all) >= b.max {
		name = limitKey{}
		one = b.all[name]
	}
	if one == nil {
		one = &bucket{tokens: b.burst, at: now}
		b.all[name] = one
	}
	if gone := now.Sub(one.at); gone > 0 {
		one.tokens, one.at = min(b.burst, one.tokens+gone.Seconds()*b.rate), now
	}
	return one
}

// sweepSome bounds how many buckets one sweep looks at. It begins at random, as
// each walk over a map does, so that many sweeps see all.
const sweepSome = 256

// sweep forgets some of those that are full.
func (b *buckets) sweep(now time.Time) {
	if b == nil {
		return
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	looked := 0
	for name, one := range b.all {
		if looked++; looked > sweepSome {
			return
		}
		if one.tokens+now.Sub(one.at).Seconds()*b.rate >= b.burst {
			delete(b.all, name)
		}
	}
}
