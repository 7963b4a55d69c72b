package edge

import "time"

// Suspended returns how many connections have no read loop.
func (s *Server) Suspended() int {
	n := 0
	for _, c := range s.snapshot(nil) {
		if c.sock.Suspended() {
			n++
		}
	}
	return n
}

// SuspendAfter sets how long a connection is silent before it has no read loop.
// Call it before there is a server.
func SuspendAfter(d time.Duration) { suspendAfter = d }
