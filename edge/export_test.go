package edge

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
