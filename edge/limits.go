package edge

import (
	"net/netip"
	"time"

	"github.com/rccs-io/rccs/wire"
)

// Limits bound what one sender costs the others. Zero means no bound. Each edge
// counts for itself.
type Limits struct {
	// Connections is how many may be open at once.
	Connections int
	// AddressConnections is how many of them may be from one address; IPv6
	// addresses are told apart by their first 64 bits.
	AddressConnections int
	// AddressAttempts is how many connections a second an address may try to
	// open, ten times that in a burst.
	AddressAttempts int
	// Unauthenticated is how many connections may be open that have shown no
	// credential yet. As many again may be in TLS and HTTP.
	Unauthenticated int
	// Registrations is how often a second one device may register, ten times
	// that in a burst.
	Registrations int
	// DeviceMessages and DeviceBytes are how many messages, and bytes of
	// payload, a device may send a second, twice that in a burst; UserMessages
	// and UserBytes the same for all devices of a user on this edge.
	// Acknowledgements and heartticks do not count.
	DeviceMessages, DeviceBytes int
	UserMessages, UserBytes     int
	// Proxies are the networks of peers that are believed when they say in
	// X-Forwarded-For for whom they speak. Bounds of addresses are not applied
	// to themselves.
	Proxies []netip.Prefix
}

// What may be saved up, as so many seconds of a rate.
const (
	attemptBurst = 10
	messageBurst = 2
)

// logRate is how often a second the same is logged: once a minute.
const logRate = 1.0 / 60

// maxLogged bounds how many lines of a kind there are in a minute: it is the
// clients who choose what would be logged.
const maxLogged = 256

func newLogLimit() *buckets {
	b := newBuckets(logRate, 1)
	b.max = maxLogged
	return b
}

// limiter holds what a server counts by name.
type limiter struct {
	originLog     *buckets // what is logged of refused origins
	forwardedLog  *buckets // and of peers that are no proxies, by address
	attempts      *buckets // by address
	registrations *buckets // by device
	messages      []pace
}

// pace is one bound of what devices send.
type pace struct {
	scope   string // of the metric, and for people
	buckets *buckets
	user    bool // by user, not by device
	bytes   bool
}

func newLimiter(l *Limits, maxMessage int) *limiter {
	out := &limiter{
		originLog: newLogLimit(), forwardedLog: newLogLimit(),
		attempts:      newBuckets(float64(l.AddressAttempts), attemptBurst*float64(l.AddressAttempts)),
		registrations: newBuckets(float64(l.Registrations), attemptBurst*float64(l.Registrations)),
	}
	for _, p := range []struct {
		rate int
		pace pace
	}{
		{l.DeviceMessages, pace{scope: "device_messages"}},
		{l.DeviceBytes, pace{scope: "device_bytes", bytes: true}},
		{l.UserMessages, pace{scope: "user_messages", user: true}},
		{l.UserBytes, pace{scope: "user_bytes", user: true, bytes: true}},
	} {
		burst := messageBurst * float64(p.rate)
		if p.pace.bytes {
			burst = max(burst, float64(maxMessage)) // the largest message can always be sent
		}
		if p.pace.buckets = newBuckets(float64(p.rate), burst); p.pace.buckets != nil {
			out.messages = append(out.messages, p.pace)
		}
	}
	return out
}

// sweep forgets some of those who have not been heard of for a while.
func (l *limiter) sweep(now time.Time) {
	l.originLog.sweep(now)
	l.forwardedLog.sweep(now)
	l.attempts.sweep(now)
	l.registrations.sweep(now)
	for _, p := range l.messages {
		p.buckets.sweep(now)
	}
}

// maxRefused messages in a row end a connection: the device does not heed what
// it is told.
const maxRefused = 1000

// paced reports whether what the device sends is within its bounds, and tells it
// when not.
func (c *conn) paced(e *wire.Envelope) bool {
	all := c.s.limiter.messages
	if len(all) == 0 {
		return true
	}
	now := time.Now()
	for i, p := range all {
		wait := p.buckets.take(c.paceName(p), p.amount(e), now)
		if wait == 0 {
			continue
		}
		for _, taken := range all[:i] {
			taken.buckets.give(c.paceName(taken), taken.amount(e), now)
		}
		c.tooFast(e, p.scope, wait)
		return false
	}
	c.refused = 0
	return true
}

// paceName is whom a bound counts.
func (c *conn) paceName(p pace) limitKey {
	if p.user {
		return limitKey{c.who.Account, string(c.who.Address.User)}
	}
	return limitKey{c.who.Account, string(c.key)}
}

func (p pace) amount(e *wire.Envelope) float64 {
	if p.bytes {
		return float64(len(e.Payload))
	}
	return 1
}

// tooFast refuses a message that nothing was done with.
func (c *conn) tooFast(e *wire.Envelope, scope string, wait time.Duration) {
	c.s.metrics.limited.WithLabelValues(scope).Inc()
	err := wire.NewError(wire.RateLimited, "over the limit of "+scope+" a second: send it again later")
	err.RetryAfter = max(wait, time.Millisecond).Round(time.Millisecond)
	if c.refused++; c.refused >= maxRefused {
		err.OriginalID = e.ID
		c.finish(wire.CloseRateLimited, err)
		return
	}
	c.fail(e, err)
}
