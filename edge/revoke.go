package edge

import "github.com/rccs-io/rccs/wire"

// Recheck ends the connections whose credential was revoked. It is called
// when the verifier has learnt of a new account JWT.
func (s *Server) Recheck() {
	for _, c := range s.snapshot(nil) {
		c.recheck()
	}
}

func (c *conn) recheck() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.tenant == nil || !c.s.opts.Verifier.Revoked(c.who, c.issued) {
		return
	}
	c.endLocked(wire.CloseRevoked, wire.NewError(wire.DeviceRevoked, "the credential was revoked"))
	if c.box != nil {
		go c.leave(false, nil) // at once, however long the peer takes to close
	}
}
