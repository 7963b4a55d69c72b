package edge

import (
	"net/http"
	"net/netip"
	"slices"
	"strings"
	"time"
)

// unreadable is the address for which requests count whose forwarded address
// cannot be read: they share one limit. No other address here has a zone.
var unreadable = netip.IPv6Unspecified().WithZone("unreadable")

// From returns the address for which a request counts, behind trusted proxies;
// for IPv6 its /64 network. It is empty for a proxy's own requests.
func (s *Server) From(r *http.Request) string {
	if from := s.address(r); from.IsValid() {
		return from.String()
	}
	return ""
}

// address returns the address for which a request counts. Behind a proxy it is
// the last one that is not a proxy's. A proxy's request that names no other
// counts for none.
func (s *Server) address(r *http.Request) netip.Addr {
	peer, err := netip.ParseAddrPort(r.RemoteAddr)
	if err != nil {
		return netip.Addr{}
	}
	said := r.Header.Values("X-Forwarded-For")
	if !s.isProxy(peer.Addr()) {
		if len(said) > 0 {
			s.logForwarded(peer.Addr())
		}
		return network(peer.Addr())
	}
	hops := strings.Split(strings.Join(said, ","), ",")
	for _, hop := range slices.Backward(hops) {
		if hop = strings.Trim(hop, " \t"); hop == "" {
			continue
		}
		a, ok := parseHop(hop)
		if !ok {
			s.metrics.forwardedUnreadable.Inc()
			return unreadable
		}
		if !s.isProxy(a) {
			return network(a)
		}
	}
	return netip.Addr{}
}

// parseHop reads an entry of X-Forwarded-For: an address, which proxies also
// write with a port, in brackets, or quoted.
func parseHop(hop string) (netip.Addr, bool) {
	if len(hop) > 1 && hop[0] == '"' && hop[len(hop)-1] == '"' {
		hop = hop[1 : len(hop)-1]
	}
	if at, err := netip.ParseAddrPort(hop); err == nil {
		return at.Addr(), true
	}
	if len(hop) > 1 && hop[0] == '[' && hop[len(hop)-1] == ']' {
		a, err := netip.ParseAddr(hop[1 : len(hop)-1])
		return a, err == nil && a.Is6()
	}
	a, err := netip.ParseAddr(hop)
	return a, err == nil
}

// logForwarded logs that a peer is not believed, once a minute for each peer.
func (s *Server) logForwarded(peer netip.Addr) {
	from := network(peer)
	if s.limiter.forwardedLog.Take(from, 1, time.Now()) == 0 {
		s.opts.Logger.Warn("X-Forwarded-For ignored: the peer is not a trusted proxy", "peer", from.String(),
			"why", "if it is a proxy of yours, start with --trusted-proxy "+peer.Unmap().WithZone("").String())
	}
}

// untrusted returns the address for which a peer counts; none if it is a proxy.
func (s *Server) untrusted(hostport string) netip.Addr {
	at, err := netip.ParseAddrPort(hostport)
	if err != nil || s.isProxy(at.Addr()) {
		return netip.Addr{}
	}
	return network(at.Addr())
}

// isProxy reports whether a peer is trusted to say for whom it speaks.
func (s *Server) isProxy(a netip.Addr) bool {
	a = a.Unmap().WithZone("")
	for _, p := range s.opts.Limits.Proxies {
		if p.Contains(a) {
			return true
		}
	}
	return false
}

// network returns the part of an address that is counted as one: for IPv6 its
// /64.
func network(a netip.Addr) netip.Addr {
	a = a.Unmap().WithZone("")
	if a.Is6() {
		if p, err := a.Prefix(64); err == nil {
			return p.Addr()
		}
	}
	return a
}
