package edge

import (
	"math"
	"net"
	"net/http"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"time"
)

// Why a connection is refused before it is one.
const (
	refusedOrigin          = "origin"
	refusedDraining        = "draining"
	refusedAttempts        = "attempts"
	refusedAddress         = "address"
	refusedTotal           = "total"
	refusedUnauthenticated = "unauthenticated"
)

// How long those wait who are refused because there are too many.
const (
	fullWait    = 10 * time.Second
	addressWait = 30 * time.Second
)

// refusal is what is told instead of an upgrade.
type refusal struct {
	reason string // of the metric
	status int
	wait   time.Duration // 0: coming again is of no use
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

// admit says why a request may not be upgraded. When it may, its place is
// taken until [Server.vacate].
func (s *Server) admit(r *http.Request, from netip.Addr) *refusal {
	if !s.origins.allow(r) {
		return &refusal{
			refusedOrigin, http.StatusForbidden, 0,
			"web pages of this origin may not connect: the operator of the edge can allow it with --allow-origin",
		}
	}
	if s.Draining() {
		return &refusal{refusedDraining, http.StatusServiceUnavailable, time.Second, "this edge is draining, connect again"}
	}
	if from.IsValid() {
		if wait := s.limiter.attempts.take(party{name: from.String()}, 1, time.Now()); wait > 0 {
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
	case reached(s.strangers, l.Unauthenticated):
		return &refusal{refusedUnauthenticated, http.StatusServiceUnavailable, fullWait, "too many connections wait to be authenticated, come back later"}
	}
	s.open++
	s.strangers++
	if from.IsValid() {
		s.addresses[from]++
	}
	return nil
}

func reached(n, limit int) bool { return limit > 0 && n >= limit }

// vacate gives the place of a connection back. stranger: it has shown no
// credential.
func (s *Server) vacate(from netip.Addr, stranger bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.open--
	if stranger {
		s.strangers--
	}
	decrement(s.addresses, from)
}

// known counts a connection as authenticated from now on.
func (s *Server) known() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.strangers--
}

func (s *Server) strangersNow() float64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	return float64(s.strangers + len(s.arriving))
}

func decrement(counts map[netip.Addr]int, a netip.Addr) {
	if n := counts[a]; n > 1 {
		counts[a] = n - 1
	} else {
		delete(counts, a)
	}
}

// Watch is for [http.Server.ConnState]: it closes sockets that are too many
// before they have said anything, when there is no way to tell them why.
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

// arrive counts a socket, unless it is one too many.
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

// untrusted is the address of a peer for counting; none when it is a proxy.
func (s *Server) untrusted(hostport string) netip.Addr {
	at, err := netip.ParseAddrPort(hostport)
	if err != nil || s.proxy(at.Addr()) {
		return netip.Addr{}
	}
	return network(at.Addr())
}

// proxy says whether a peer is believed in what it says of others.
func (s *Server) proxy(a netip.Addr) bool {
	a = a.Unmap().WithZone("")
	for _, p := range s.opts.Limits.Proxies {
		if p.Contains(a) {
			return true
		}
	}
	return false
}

// network is what counts as one address.
func network(a netip.Addr) netip.Addr {
	a = a.Unmap().WithZone("")
	if a.Is6() {
		if p, err := a.Prefix(64); err == nil {
			return p.Addr()
		}
	}
	return a
}

// origin is the address that a request counts for. Behind a proxy it is the
// last that is not one itself; without any the request counts for none.
func (s *Server) origin(r *http.Request) netip.Addr {
	peer, err := netip.ParseAddrPort(r.RemoteAddr)
	if err != nil {
		return netip.Addr{}
	}
	if !s.proxy(peer.Addr()) {
		return network(peer.Addr())
	}
	hops := strings.Split(strings.Join(r.Header.Values("X-Forwarded-For"), ","), ",")
	for _, hop := range slices.Backward(hops) {
		a, err := netip.ParseAddr(strings.TrimSpace(hop))
		if err != nil {
			return netip.Addr{}
		}
		if !s.proxy(a) {
			return network(a)
		}
	}
	return netip.Addr{}
}
