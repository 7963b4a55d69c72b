package edge

import (
	"cmp"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"
)

// AnyOrigin in [Options.Origins] lets every web page connect.
const AnyOrigin = "*"

// errOrigin is the error for an origin that cannot be used.
var errOrigin = errors.New("want an origin such as https://app.example.com or http://localhost:3000, " +
	"https://*.example.com for its subdomains, vscode-webview://* for a scheme, null, file://, or * for all")

// origins are the web pages that may open a connection. Only browsers send an
// Origin, and a page cannot forge it. Requests without an Origin are from other
// programs, and are allowed.
type origins struct {
	any     bool
	exact   map[string]bool // canonical origins, "null" and "file://"
	schemes map[string]bool // of "scheme://*"
	below   []originSuffix  // of "scheme://*.host"
}

// originSuffix allows the hosts of a scheme that end in a suffix.
type originSuffix struct{ scheme, suffix string } // ".example.com:8443"

// CheckOrigin returns what is wrong with an element of [Options.Origins].
func CheckOrigin(s string) error {
	var o origins
	return o.add(s)
}

func newOrigins(list []string) (*origins, error) {
	o := new(origins)
	for _, s := range list {
		if err := o.add(s); err != nil {
			return nil, fmt.Errorf("edge: origin %q: %w", s, err)
		}
	}
	return o, nil
}

// add allows the origins that an element of [Options.Origins] names.
func (o *origins) add(s string) error {
	if o.exact == nil {
		o.exact, o.schemes = make(map[string]bool), make(map[string]bool)
	}
	scheme, rest, _ := strings.Cut(s, "://")
	scheme = strings.ToLower(scheme)
	switch {
	case s == AnyOrigin:
		o.any = true
	case s == "null" || s == "file://":
		o.exact[s] = true
	case rest == "*" && isScheme(scheme):
		o.schemes[scheme] = true
	case strings.HasPrefix(rest, "*."):
		_, host, ok := parseOrigin(scheme + "://" + rest[len("*."):])
		if !ok || strings.Contains(host, "*") || strings.HasPrefix(host, "[") {
			return errOrigin
		}
		o.below = append(o.below, originSuffix{scheme, "." + host})
	default:
		scheme, host, ok := parseOrigin(s)
		if !ok || strings.Contains(host, "*") {
			return errOrigin
		}
		o.exact[scheme+"://"+host] = true
	}
	return nil
}

// isScheme reports whether s is a URL's scheme, in lower case.
func isScheme(s string) bool {
	u, err := url.Parse(s + "://host")
	return err == nil && u.Scheme == s && s != ""
}

// allow reports whether the request may be upgraded: it comes from no web page,
// from one that this host served, or from one that is allowed.
func (o *origins) allow(r *http.Request) bool {
	values := r.Header.Values("Origin")
	if len(values) == 0 || o.any {
		return true
	}
	if len(values) > 1 {
		return false
	}
	if o.exact[values[0]] {
		return true
	}
	scheme, host, ok := parseOrigin(values[0])
	if !ok {
		return values[0] == "file://" && o.schemes["file"]
	}
	if o.exact[scheme+"://"+host] || o.schemes[scheme] || o.isBelow(scheme, host) {
		return true
	}
	// The scheme is not compared: a proxy in front of the edge may terminate TLS.
	return host == canonicalHost(scheme, r.Host)
}

// isBelow reports whether host is an allowed suffix with one or more labels
// before it.
func (o *origins) isBelow(scheme, host string) bool {
	for _, b := range o.below {
		labels, ok := strings.CutSuffix(host, b.suffix)
		if ok && b.scheme == scheme && !strings.HasPrefix(labels, "[") && !strings.Contains("."+labels+".", "..") {
			return true
		}
	}
	return false
}

// parseOrigin returns the parts of an origin in the form in which they are
// compared: in lower case, without the scheme's default port.
func parseOrigin(s string) (scheme, host string, ok bool) {
	u, err := url.Parse(s)
	if err != nil || u.Scheme == "" || u.Hostname() == "" || strings.HasSuffix(u.Host, ":") || !strings.EqualFold(s, u.Scheme+"://"+u.Host) {
		return "", "", false
	}
	if _, err := strconv.ParseUint(cmp.Or(u.Port(), "0"), 10, 16); err != nil {
		return "", "", false
	}
	return u.Scheme, canonicalHost(u.Scheme, u.Host), true
}

// canonicalHost returns host in lower case and without the scheme's default port.
func canonicalHost(scheme, host string) string {
	host = strings.ToLower(host)
	name, port, err := net.SplitHostPort(host)
	if err != nil {
		return host
	}
	if scheme == "https" && port == "443" || scheme == "http" && port == "80" {
		if strings.Contains(name, ":") {
			return "[" + name + "]"
		}
		return name
	}
	return host
}

// maxNamed bounds an origin that is written to the log or into an answer.
const maxNamed = 256

// refusedPage tells a refused web page how its origin could be allowed.
func refusedPage(r *http.Request) string {
	const text = "web pages of this origin may not connect"
	values := r.Header.Values("Origin")
	if len(values) != 1 || CheckOrigin(values[0]) != nil || len(values[0]) > maxNamed || strings.Contains(values[0], "*") {
		return text + ": it cannot be allowed"
	}
	return text + ": the operator of the edge can allow it with --allow-origin " + values[0]
}

// AllowsOrigin reports whether a request comes from no web page, or from one
// that may use this edge. One that may not is logged.
func (s *Server) AllowsOrigin(r *http.Request) bool {
	if s.origins.allow(r) {
		return true
	}
	origin := r.Header.Get("Origin")
	if len(origin) > maxNamed {
		origin = origin[:maxNamed]
	}
	if s.limiter.originLog.Take(origin, 1, time.Now()) == 0 {
		s.opts.Logger.Warn("web page refused", "origin", origin, "remote", r.RemoteAddr, "why", refusedPage(r))
	}
	return false
}
