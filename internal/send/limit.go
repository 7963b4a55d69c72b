package send

import (
	"sync"
	"time"

	"golang.org/x/time/rate"

	"github.com/rccs-io/rccs/subjects"
	"github.com/rccs-io/rccs/wire"
)

// Rates are how many messages, and bytes of payload, a device and a user may
// send a second, twice that in a burst. Zero means no bound.
type Rates struct {
	DeviceMessages, DeviceBytes int
	UserMessages, UserBytes     int
	// MaxMessage is the largest payload, which can always be sent.
	MaxMessage int
	// Limited, if set, is told of each refusal, by the name of the bound.
	Limited func(scope string)
}

const (
	// burstSeconds is what may be saved up, as seconds of a rate.
	burstSeconds = 2
	// maxLimited bounds how many senders a bound tells apart. Those that come
	// when it is full share one.
	maxLimited = 1 << 16
	// forgetSome bounds how many senders are looked at to forget idle ones.
	forgetSome = 16
)

// Limiter holds [Rates]. A nil one has no bounds. It counts for one process.
type Limiter struct {
	limited func(string)

	mu     sync.Mutex
	bounds []bound
}

// bound is one of the rates.
type bound struct {
	scope string // of the metric, and for people
	user  bool   // by user, not by device
	bytes bool
	rate  float64
	burst int
	all   map[limitKey]*rate.Limiter
}

// limitKey is whom a bound counts. Users of two tenants may have one name.
type limitKey struct{ account, name string }

// Scopes are what bounds of messages are called in metrics.
func Scopes() []string {
	return []string{"device_messages", "device_bytes", "user_messages", "user_bytes"}
}

// NewLimiter returns nil when there are no bounds.
func NewLimiter(r Rates) *Limiter {
	l := &Limiter{limited: r.Limited}
	for _, b := range []struct {
		rate int
		bound
	}{
		{r.DeviceMessages, bound{scope: "device_messages"}},
		{r.DeviceBytes, bound{scope: "device_bytes", bytes: true}},
		{r.UserMessages, bound{scope: "user_messages", user: true}},
		{r.UserBytes, bound{scope: "user_bytes", user: true, bytes: true}},
	} {
		if b.rate <= 0 {
			continue
		}
		b.bound.rate, b.burst, b.all = float64(b.rate), burstSeconds*b.rate, make(map[limitKey]*rate.Limiter)
		if b.bytes {
			b.burst = max(b.burst, r.MaxMessage)
		}
		l.bounds = append(l.bounds, b.bound)
	}
	if len(l.bounds) == 0 {
		return nil
	}
	return l
}

// Take counts a message of so many bytes, or returns RATE_LIMITED with the time
// after which it would be taken; then it counts for nothing.
func (l *Limiter) Take(account string, from subjects.Address, size int, now time.Time) *wire.Error {
	if l == nil {
		return nil
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	var taken [4]*rate.Reservation
	for i := range l.bounds {
		b := &l.bounds[i]
		n := 1
		if b.bytes {
			n = min(size, b.burst) // or it could never be
		}
		key := limitKey{account, string(from.Key())}
		if b.user {
			key.name = string(from.User)
		}
		taken[i] = b.of(key, now).ReserveN(now, n)
		wait := taken[i].DelayFrom(now)
		if wait == 0 {
			continue
		}
		for j := i; j >= 0; j-- {
			taken[j].CancelAt(now)
		}
		if l.limited != nil {
			l.limited(b.scope)
		}
		err := wire.NewError(wire.RateLimited, "over the limit of "+b.scope+" a second: send it again later")
		err.RetryAfter = max(wait, time.Millisecond).Round(time.Millisecond)
		return err
	}
	return nil
}

// of returns who counts for a key. Each new one costs the forgetting of some
// that are idle: a full bucket is as good as none.
func (b *bound) of(key limitKey, now time.Time) *rate.Limiter {
	if one := b.all[key]; one != nil {
		return one
	}
	looked := 0
	for other, one := range b.all {
		if looked++; looked > forgetSome {
			break
		}
		if one.TokensAt(now) >= float64(b.burst) {
			delete(b.all, other)
		}
	}
	if len(b.all) >= maxLimited {
		key = limitKey{}
		if one := b.all[key]; one != nil {
			return one
		}
	}
	one := rate.NewLimiter(rate.Limit(b.rate), b.burst)
	b.all[key] = one
	return one
}
