package send

import (
	"time"

	"github.com/rccs-io/rccs/internal/limit"
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
	// maxLimited bounds how many senders a bound tells apart.
	maxLimited = 1 << 16
)

// Limiter holds [Rates]. A nil one has no bounds. It counts for one process.
type Limiter struct {
	limited func(string)
	bounds  []bound
}

// bound is one of the rates.
type bound struct {
	scope string // of the metric, and for people
	user  bool   // by user, not by device
	bytes bool
	all   *limit.Table[limitKey]
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
	for n, rate := range []int{r.DeviceMessages, r.DeviceBytes, r.UserMessages, r.UserBytes} {
		b := bound{scope: Scopes()[n], user: n >= 2, bytes: n%2 == 1}
		burst := burstSeconds * float64(rate)
		if b.bytes {
			burst = max(burst, float64(r.MaxMessage))
		}
		if b.all = limit.New[limitKey](float64(rate), burst, maxLimited); b.all != nil {
			l.bounds = append(l.bounds, b)
		}
	}
	if len(l.bounds) == 0 {
		return nil
	}
	return l
}

// Take counts a message of so many bytes, or returns RATE_LIMITED with the time
// after which it would be taken; then it counts for nothing.
func (l *Limiter) Take(account string, from *From, size int, now time.Time) *wire.Error {
	if l == nil {
		return nil
	}
	for n := range l.bounds {
		b := &l.bounds[n]
		wait := b.all.Take(b.key(account, from), b.amount(size), now)
		if wait == 0 {
			continue
		}
		for _, taken := range l.bounds[:n] {
			taken.all.Return(taken.key(account, from), taken.amount(size), now)
		}
		if l.limited != nil {
			l.limited(b.scope)
		}
		return TooFast("over the limit of "+b.scope+" a second: send it again later", wait)
	}
	return nil
}

// TooFast is RATE_LIMITED: coming again is of use after a wait.
func TooFast(text string, wait time.Duration) *wire.Error {
	err := wire.NewError(wire.RateLimited, text)
	err.RetryAfter = max(wait, time.Millisecond).Round(time.Millisecond)
	return err
}

func (b *bound) key(account string, from *From) limitKey {
	if b.user {
		return limitKey{account, string(from.Address.User)}
	}
	return limitKey{account, string(from.Key)}
}

func (b *bound) amount(size int) float64 {
	if b.bytes {
		return float64(size)
	}
	return 1
}
