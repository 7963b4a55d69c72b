package edge

import (
	"math"
	"net"
	"net/http"
	"net/netip"
	"strconv"
	"time"
)

// Reasons for which a request is not upgraded.
const (
	refusedOrigin          = "origin"
	refusedDraining        = "draining"
	refusedAttempts        = "attempts"
	refusedAddress         = "address"
	refusedTotal           = "total"
	refusedUnauthenticated = "unauthenticated"
)

// How long a client is asked to wait when there are too many.
const (
	fullWait    = 10 * time.Second
	addressWait = 30 * time.Second
)

// refusal is the answer to a request that is not upgraded.
type refusal struct {
	reason string // of the metric
	status int
	wait   time.Duration // Retry-After; 0: trying again is of no use
	text   string
}

// refuse answers a request that is not upgraded.
func (s *Server) refuse(w http.ResponseWriter, r *refusal) {
	s.metrics.refused.WithLabelValues(r.reason).Inc()
	if r.wait > 0 {
		w.Header().Set("Retry-After", strconv.Itoa(int(math.Ceil(r.wait.Seconds()))))
	}
	http.Error(w, r.text, r.status)
}

// admit returns why a request may not be upgraded, or nil. It then has a slot
// until [Server.releaseSlot].
func (s *Server) admit(r *http.Request, from netip.Addr) *refusal {
	if !s.AllowsOrigin(r) {
		return &refusal{refusedOrigin, http.StatusForbidden, 0, refusedPage(r)}
	}
	if s.Draining() {
		return &refusal{refusedDraining, http.StatusServiceUnavailable, time.Second, "this edge is draining, connect again"}
	}
	if from.IsValid() {
		if wait := s.limiter.attempts.Take(from, 1, time.Now()); wait > 0 {
			return &refusal{refusedAttempts, http.StatusTooManyRequests, wait, "too many connections are tried from your address, come back later"}
		}
	}
	l := &s.opts.Limits
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case reached(s.open, l.Connections):
		return &refusal{refusedTotal, http.StatusServiceUnavailable, fullWait, "this edge has as many connections as it may, come back later"}
	case from.IsValid() && reached(s.addresses[from], l.AddressConnections):
		return &refusal{refusedAddress, http.StatusTooManyRequests, addressWait, "too many connections are open from your address, close some"}
	case reached(s.unauthenticated, l.Unauthenticated):
		return &refusal{refusedUnauthenticated, http.StatusServiceUnavailable, fullWait, "too many connections wait to be authenticated, come back later"}
	}
	s.open++
	s.unauthenticated++
	if from.IsValid() {
		s.addresses[from]++
	}
	return nil
}

func reached(n, limit int) bool { return limit > 0 && n >= limit }

// releaseSlot gives the slot of a connection back.
func (s *Server) releaseSlot(from netip.Addr, authenticated bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.open--
	if !authenticated {
		s.unauthenticated--
	}
	decrement(s.addresses, from)
}

// countAuthenticated counts a connection as authenticated from now on.
func (s *Server) countAuthenticated() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.unauthenticated--
}

func (s *Server) unauthenticatedNow() float64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	return float64(s.unauthenticated + len(s.arriving))
}

func decrement(counts map[netip.Addr]int, a netip.Addr) {
	if n := counts[a]; n > 1 {
		counts[a] = n - 1
	} else {
		delete(counts, a)
	}
}

// Watch is for [http.Server.ConnState]. It closes a new socket that is over the
// limits. The peer has sent nothing yet, so there is no way to tell it why.
func (s *Server) Watch(nc net.Conn, state http.ConnState) {
	switch state {
	case http.StateNew:
		if !s.arrive(nc) {
			s.metrics.refused.WithLabelValues(refusedUnauthenticated).Inc()
			_ = nc.Close()
		}
	case http.StateHijacked, http.StateClosed:
		s.mu.Lock()
		defer s.mu.Unlock()
		if from, ok := s.arriving[nc]; ok {
			delete(s.arriving, nc)
			decrement(s.arrivals, from)
		}
	case http.StateActive, http.StateIdle:
	}
}

// arrive counts a new socket, and reports whether it is within the limits.
func (s *Server) arrive(nc net.Conn) bool {
	from := s.untrusted(nc.RemoteAddr().String())
	l := &s.opts.Limits
	s.mu.Lock()
	defer s.mu.Unlock()
	if reached(len(s.arriving), l.Unauthenticated) || from.IsValid() && reached(s.arrivals[from], l.AddressConnections) {
		return false
	}
	s.arriving[nc] = from
	if from.IsValid() {
		s.arrivals[from]++
	}
	return true
}
