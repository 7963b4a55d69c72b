package edge

import (
	"sync"
	"time"
)

// maxBuckets bounds how many names a table tells apart. Who comes when it is
// full shares one bucket with the others who do.
const maxBuckets = 1 << 16

// buckets are token buckets by name. One that is full is as good as none, and
// is forgotten. A nil table has no limit.
type buckets struct {
	rate  float64 // tokens a second
	burst float64

	mu  sync.Mutex
	all map[party]*bucket // guarded by mu
}

// party is whom a bucket counts. Users of two tenants may have one name.
type party struct{ account, name string }

type bucket struct {
	tokens float64
	at     time.Time
}

// newBuckets is nil, no limit, when rate is 0.
func newBuckets(rate, burst float64) *buckets {
	if rate <= 0 {
		return nil
	}
	return &buckets{rate: rate, burst: max(burst, 1), all: make(map[party]*bucket)}
}

// take removes n tokens of the name, or says after how long they would be
// there; 0 is taken.
func (b *buckets) take(name party, n float64, now time.Time) (wait time.Duration) {
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

// give puts back what was taken for nothing.
func (b *buckets) give(name party, n float64, now time.Time) {
	if b == nil {
		return
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	one := b.ofLocked(name, now)
	one.tokens = min(one.tokens+min(n, b.burst), b.burst)
}

// ofLocked is the name's bucket, with what it has gained since.
func (b *buckets) ofLocked(name party, now time.Time) *bucket {
	one := b.all[name]
	if one == nil && len(b.all) >= maxBuckets {
		name = party{}
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
