package edge

// Parked is how many connections have no read loop.
func (s *Server) Parked() int {
	n := 0
	for _, c := range s.snapshot(nil) {
		c.mu.Lock()
		if c.parked {
			n++
		}
		c.mu.Unlock()
	}
	return n
}
