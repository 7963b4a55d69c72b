package edge

import (
	"context"
	"time"

	"github.com/rccs-io/rccs/wire"
)

// Recheck ends the connections whose credentials were revoked. Devices that lost
// their connection before are shown as offline at once. Call it when the verifier
// has learnt of a new account JWT.
func (s *Server) Recheck() {
	for _, c := range s.snapshot(nil) {
		c.recheck()
	}
	s.heldBack.reveal(s.opts.Verifier)
}

func (c *conn) recheck() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.tenant == nil || !c.who.revoked(c.s.opts.Verifier, c.issued.time()) {
		return
	}
	c.endLocked(wire.CloseRevoked, wire.NewError(wire.DeviceRevoked, "the credential was revoked"))
	if c.mailbox != nil {
		sess := c.sess
		go c.contained(func() { // at once, however long the peer takes to close
			sess.NoDelay()
			c.endSession(false, nil)
		})
	}
}

// Expel ends the connections of a tenant that is not served any more: its
// credentials are revoked. It returns when they are gone, or ctx has ended.
func (s *Server) Expel(ctx context.Context, t *Tenant) error {
	tick := time.NewTicker(expelTick)
	defer tick.Stop()
	for since := time.Now(); ; {
		left := 0
		for _, c := range s.snapshot(nil) {
			if !c.expel(t) {
				continue
			}
			left++
			if time.Since(since) > expelTimeout {
				c.abandon()
			}
		}
		if left == 0 {
			return nil
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// expelTimeout is how long peers may take to close, and expelTick how often Expel
// checks.
const (
	expelTimeout = 2 * time.Second
	expelTick    = 20 * time.Millisecond
)

// expel reports whether the connection is one of the tenant.
func (c *conn) expel(t *Tenant) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.tenant != t {
		return false
	}
	c.endLocked(wire.CloseRevoked, wire.NewError(wire.DeviceRevoked, "the credential was revoked"))
	return true
}
