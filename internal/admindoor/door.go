package admindoor

import (
	"encoding/json"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"strings"
)

// Refusal is why a request is not let in.
type Refusal struct {
	Status int    // 401, 403 or 421
	Code   string // UNAUTHORIZED, PERMISSION_DENIED or MISDIRECTED
	Detail string // for people
}

// Check reports why a request without a token, to a loopback address that asks
// for none, is not the operator's; nil when it is.
//
// A page of another site can have a browser send requests here, also under a
// name of its own that it lets point to this machine. So the Host must be one of
// this machine, and the browser must say that no other site is behind the
// request; a person may still follow a link to the console. What a proxy passes
// on comes from anywhere, and needs a token.
func Check(r *http.Request) *Refusal {
	switch {
	case !local(r.Host):
		return &Refusal{
			http.StatusMisdirectedRequest, "MISDIRECTED",
			"the admin address without a token is for localhost, 127.0.0.0/8 and [::1], and not for another Host: start with --admin-token-file",
		}
	case proxied(r):
		return &Refusal{http.StatusUnauthorized, "UNAUTHORIZED", "a request that came through a proxy needs a token: start with --admin-token-file"}
	case !sameSite(r) && !navigates(r), !sameOrigin(r):
		return &Refusal{http.StatusForbidden, "PERMISSION_DENIED", "a page of another site asked for this"}
	}
	return nil
}

// proxied reports whether a header says that a proxy passed the request on. One
// that is empty counts too: a proxy may add its own behind what the client sent.
func proxied(r *http.Request) bool {
	for name := range r.Header {
		switch {
		case strings.HasPrefix(name, "X-Forwarded-"):
			return true
		case name == "Forwarded", name == "Via", name == "X-Real-Ip", name == "X-Original-Forwarded-For":
			return true
		}
	}
	return false
}

// Guard is next for those whom Check lets in. The others get a problem document
// (RFC 9457).
func Guard(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if refused := Check(r); refused != nil {
			refused.Write(w)
			return
		}
		next.ServeHTTP(w, r)
	})
}

// Write answers with the refusal.
func (f *Refusal) Write(w http.ResponseWriter) {
	if f.Status == http.StatusUnauthorized {
		w.Header().Set("WWW-Authenticate", `Bearer realm="rccs admin"`)
	}
	w.Header().Set("Content-Type", "application/problem+json")
	w.Header().Set("Cache-Control", "no-store")
	w.WriteHeader(f.Status)
	_ = json.NewEncoder(w).Encode(map[string]any{ // the peer is gone, or has it
		"type": "about:blank", "title": http.StatusText(f.Status), "status": f.Status, "code": f.Code, "detail": f.Detail,
	})
}

// local reports whether a Host names this machine.
func local(host string) bool {
	name, port, err := net.SplitHostPort(host)
	if err != nil {
		name, port = strings.TrimSuffix(strings.TrimPrefix(host, "["), "]"), ""
	}
	if strings.ContainsFunc(port, func(r rune) bool { return r < '0' || r > '9' }) {
		return false
	}
	if strings.EqualFold(strings.TrimSuffix(name, "."), "localhost") {
		return true
	}
	a, err := netip.ParseAddr(name)
	return err == nil && a.Zone() == "" && a.Unmap().IsLoopback()
}

// sameSite reports whether no other site is behind the request. Programs that
// are no browsers do not say.
func sameSite(r *http.Request) bool {
	for _, site := range r.Header.Values("Sec-Fetch-Site") {
		if site != "same-origin" && site != "none" {
			return false
		}
	}
	return true
}

// navigates reports whether a person follows a link to the console.
func navigates(r *http.Request) bool {
	console := r.URL.Path == "/console" || strings.HasPrefix(r.URL.Path, "/console/")
	return console && (r.Method == http.MethodGet || r.Method == http.MethodHead) &&
		r.Header.Get("Sec-Fetch-Mode") == "navigate" && r.Header.Get("Sec-Fetch-Dest") == "document"
}

// sameOrigin reports whether an Origin, if there is any, is this address.
func sameOrigin(r *http.Request) bool {
	for _, origin := range r.Header.Values("Origin") {
		scheme := "http"
		if r.TLS != nil {
			scheme = "https"
		}
		u, err := url.Parse(origin)
		if err != nil || u.Scheme != scheme || !strings.EqualFold(u.Host, r.Host) || origin != u.Scheme+"://"+u.Host {
			return false
		}
	}
	return true
}
