package edge

import (
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"strings"
)

// AnyOrigin in [Options.Origins] lets every web page connect.
const AnyOrigin = "*"

// origins says which web pages may open a connection. Only browsers say where
// a page is from, and what they say cannot be forged by the page; other
// programs send no Origin, and pass.
type origins struct {
	any   bool
	named map[string]bool
}

// CheckOrigin says what is wrong with an element of [Options.Origins].
func CheckOrigin(s string) error {
	if s == AnyOrigin || s == "null" {
		return nil
	}
	u, err := url.Parse(s)
	if err != nil || u.Scheme == "" || u.Hostname() == "" || u.User != nil || strings.TrimSuffix(u.Path, "/") != "" || u.RawQuery != "" || u.Fragment != "" {
		return errors.New("want an origin such as https://app.example.com or http://localhost:3000, or * for all")
	}
	return nil
}

func newOrigins(list []string) (*origins, error) {
	o := &origins{named: make(map[string]bool, len(list))}
	for _, s := range list {
		if err := CheckOrigin(s); err != nil {
			return nil, fmt.Errorf("edge: origin %q: %w", s, err)
		}
		if s == AnyOrigin {
			o.any = true
		}
		o.named[canonicalOrigin(s)] = true
	}
	return o, nil
}

// allow says whether the request may be upgraded: it is of no web page, of one
// that this host served, or of one that is named.
func (o *origins) allow(r *http.Request) bool {
	values := r.Header.Values("Origin")
	if len(values) == 0 || o.any {
		return true
	}
	if len(values) > 1 {
		return false
	}
	if o.named[canonicalOrigin(values[0])] {
		return true
	}
	u, err := url.Parse(values[0])
	if err != nil || u.Hostname() == "" {
		return false
	}
	// The scheme is not compared: a proxy before the edge may speak TLS for it.
	return canonicalHost(u.Scheme, u.Host) == canonicalHost(u.Scheme, r.Host)
}

// canonicalOrigin is the form in which origins are compared.
func canonicalOrigin(s string) string {
	u, err := url.Parse(s)
	if err != nil || u.Host == "" {
		return strings.ToLower(s)
	}
	scheme := strings.ToLower(u.Scheme)
	return scheme + "://" + canonicalHost(scheme, u.Host)
}

// canonicalHost is without the port that the scheme has anyway.
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
