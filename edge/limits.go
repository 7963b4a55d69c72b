package edge

import (
	"net/netip"
	"time"

	"github.com/rccs-io/rccs/internal/limit"
	"github.com/rccs-io/rccs/internal/send"
	"github.com/rccs-io/rccs/subjects"
	"github.com/rccs-io/rccs/wire"
)

// Limits bound the load that one sender puts on others. Zero means no limit. Each
// edge counts for itself.
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
	// Rates bound what a device, and all devices of a user on this edge, send.
	// Acknowledgements and heartbeats do not count. The edge sets MaxMessage and
	// Limited itself.
	send.Rates
	// Proxies are the networks of trusted proxies: their X-Forwarded-For says for
	// whom they speak. Limits of addresses do not apply to the proxies
	// themselves.
	Proxies []netip.Prefix
}

const (
	// attemptBurst is how large a burst may be, in seconds of the rate.
	attemptBurst = 10
	// maxLimited bounds how many addresses, and how many devices, are counted
	// apart.
	maxLimited = 1 << 16
	// logRate is how often a second the same thing is logged: once a minute.
	logRate = 1.0 / 60
	// maxLogged bounds how many lines of one kind are logged in a minute, because
	// clients choose what would be logged.
	maxLogged = 256
)

// limiter has the rate limits of a server.
type limiter struct {
	originLog     *limit.Table[string]     // what is logged of refused origins
	forwardedLog  *limit.Table[netip.Addr] // and of peers that are no proxies
	attempts      *limit.Table[netip.Addr]
	registrations *limit.Table[tenantDevice]
	messages      *send.Limiter
}

// tenantDevice is a device of a tenant's account.
type tenantDevice struct {
	account string
	device  subjects.Key
}

func newLimiter(l *Limits, maxMessage int, limited func(scope string)) *limiter {
	rates := l.Rates
	rates.MaxMessage, rates.Limited = maxMessage, limited
	return &limiter{
		originLog:     limit.New[string](logRate, 1, maxLogged),
		forwardedLog:  limit.New[netip.Addr](logRate, 1, maxLogged),
		attempts:      limit.New[netip.Addr](float64(l.AddressAttempts), attemptBurst*float64(l.AddressAttempts), maxLimited),
		registrations: limit.New[tenantDevice](float64(l.Registrations), attemptBurst*float64(l.Registrations), maxLimited),
		messages:      send.NewLimiter(rates),
	}
}

// maxRefused messages in a row end a connection: the device does not heed its
// errors.
const maxRefused = 1000

// withinRates reports whether the device may send e now. If not, it tells the
// device.
func (c *conn) withinRates(e *wire.Envelope) bool {
	from := c.identity()
	err := c.s.limiter.messages.Take(c.who.Account, &from, len(e.Payload), time.Now())
	if err == nil {
		c.refused = 0
		return true
	}
	if c.refused++; c.refused >= maxRefused {
		c.finish(wire.CloseRateLimited, err.For(e.ID))
	} else {
		c.fail(e, err)
	}
	return false
}
