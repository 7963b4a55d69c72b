package edge

import (
	"context"

	"github.com/rccs-io/rccs/auth"
	"github.com/rccs-io/rccs/wire"
)

// An edge of a tenant with several shards may serve only some of them. It tells a
// device of another shard where to connect. Where there is no such edge, or the
// device comes back all the same, it serves the device itself. It may cease to serve
// such a shard; see [Tenant.Retire].

// elsewhere returns the Tenant of a device whose shard this edge did not serve so
// far, entered. It returns nil if the connection has ended: the device was told where to go,
// or the shard cannot be served now.
func (c *conn) elsewhere(e *wire.Envelope, who auth.Identity, tenant *Tenant) *Tenant {
	ctx, cancel := context.WithTimeout(c.s.ctx, attachTimeout)
	defer cancel()
	key := who.Address.Key()
	urls, err := c.s.opts.Elsewhere(ctx, who.Account, key)
	switch own := tenant.of(key); {
	case err != nil:
		c.log().Warn("shard of a device not served", "err", err)
		c.refuse(e, wire.CloseOverloaded, wire.NewError(wire.Unavailable, "the message store does not answer, try again"))
		return nil
	case len(urls) == 0 && own != nil && own.enter():
		return own
	case len(urls) == 0:
		c.refuse(e, wire.CloseOverloaded, wire.NewError(wire.Unavailable, "the edge ceases to serve this user, try again"))
		return nil
	}
	away := wire.NewError(wire.WrongEdge, "other edges serve this user: connect to one of urls")
	away.URLs = urls
	c.refuse(e, wire.CloseWrongEdge, away)
	return nil
}
