// Package limit bounds how often something happens, by key: a device, an address,
// a name. It holds token buckets, a bounded number of them.
//
// All methods may be called from any goroutine. None blocks.
package limit

import (
	"sync"
	"time"
)

// forgetSome bounds how many keys are looked at to forget idle ones.
const forgetSome = 16

// Table holds a token bucket for each key. A nil one has no limit.
type Table[K comparable] struct {
	rate  float64 // tokens a second
	burst float64
	keys  int // that are told apart

	mu  sync.Mutex
	all map[K]*bucket
}

type bucket struct {
	tokens float64
	at     time.Time // when there were so many
}

// New makes a table of buckets that gain rate tokens a second, up to burst. It is
// nil, no limit, when rate is 0. It tells so many keys apart; those that come when
// it is full share one bucket, that of the zero key.
func New[K comparable](rate, burst float64, keys int) *Table[K] {
	if rate <= 0 {
		return nil
	}
	return &Table[K]{rate: rate, burst: max(burst, 1), keys: keys, all: make(map[K]*bucket)}
}

// Take takes n tokens of a key and returns 0, or takes none and returns after how
// long there will be as many. More than a burst is taken as a burst.
func (t *Table[K]) Take(key K, n float64, now time.Time) (wait time.Duration) {
	if t == nil {
		return 0
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	b := t.bucketLocked(key, now)
	n = min(n, t.burst)
	if b.tokens < n {
		return max(time.Duration((n-b.tokens)/t.rate*float64(time.Second)), 1)
	}
	b.tokens -= n
	return 0
}

// Return puts back tokens that were taken and not used.
func (t *Table[K]) Return(key K, n float64, now time.Time) {
	if t == nil {
		return
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	b := t.bucketLocked(key, now)
	b.tokens = min(b.tokens+min(n, t.burst), t.burst)
}

// bucketLocked returns the bucket of a key, with what it has gained since.
func (t *Table[K]) bucketLocked(key K, now time.Time) *bucket {
	b := t.all[key]
	if b == nil {
		t.forgetLocked(now)
		if len(t.all) >= t.keys {
			var shared K
			key, b = shared, t.all[shared]
		}
	}
	if b == nil {
		b = &bucket{tokens: t.burst, at: now}
		t.all[key] = b
	}
	t.fill(b, now)
	return b
}

func (t *Table[K]) fill(b *bucket, now time.Time) {
	if gone := now.Sub(b.at); gone > 0 {
		b.tokens, b.at = min(t.burst, b.tokens+gone.Seconds()*t.rate), now
	}
}

// forgetLocked drops some buckets that are full, which are as good as none. Each
// new key pays for it. A walk over a map begins anywhere, so that many of them
// see all.
func (t *Table[K]) forgetLocked(now time.Time) {
	looked := 0
	for key, b := range t.all {
		if looked++; looked > forgetSome {
			return
		}
		if t.fill(b, now); b.tokens >= t.burst {
			delete(t.all, key)
		}
	}
}
