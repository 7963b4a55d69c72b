package wsconn

import (
	"net"
	"syscall"
)

// PeerGone reports whether the peer has closed the socket. It does not read, so it
// can be asked while the handler keeps the read loop waiting. Where that cannot be
// known, it is false.
func (c *Conn) PeerGone() bool {
	nc := c.nc.Conn
	if secure, ok := nc.(interface{ NetConn() net.Conn }); ok { // TLS
		nc = secure.NetConn()
	}
	plain, ok := nc.(syscall.Conn)
	if !ok {
		return false
	}
	raw, err := plain.SyscallConn()
	if err != nil {
		return false
	}
	gone := false
	if err := raw.Control(func(fd uintptr) { gone = hungUp(fd) }); err != nil {
		return true // it is closed here
	}
	return gone
}
