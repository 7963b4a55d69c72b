package edge

import (
	"bytes"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"runtime"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/rccs-io/rccs/auth"
	"github.com/rccs-io/rccs/wire"
)

// behind is a server that trusts the proxies of some networks.
func behind(tb testing.TB, networks ...string) *Server {
	tb.Helper()
	opts := Options{Verifier: new(auth.Verifier), Tenant: func(string) (*Tenant, bool) { return nil, false }}
	for _, n := range networks {
		opts.Limits.Proxies = append(opts.Limits.Proxies, netip.MustParsePrefix(n))
	}
	s, err := New(opts)
	if err != nil {
		tb.Fatal(err)
	}
	return s
}

// counted is the value of a counter.
func counted(tb testing.TB, c prometheus.Counter) float64 {
	tb.Helper()
	reg := prometheus.NewRegistry()
	reg.MustRegister(c)
	all, err := reg.Gather()
	if err != nil {
		tb.Fatal(err)
	}
	return all[0].GetMetric()[0].GetCounter().GetValue()
}

// forwarded is a request of a peer with X-Forwarded-For.
func forwarded(peer string, said ...string) *http.Request {
	return &http.Request{RemoteAddr: peer, Header: http.Header{"X-Forwarded-For": said}}
}

func TestAddressOfARequest(t *testing.T) {
	t.Parallel()
	s := behind(t, "10.0.0.0/8", "::1/128")
	for name, c := range map[string]struct {
		peer string
		said []string
		want string // "" for none
	}{
		"direct":                     {"192.0.2.1:5", nil, "192.0.2.1"},
		"direct, who says a lot":     {"192.0.2.1:5", []string{"198.51.100.1"}, "192.0.2.1"},
		"a proxy alone":              {"10.0.0.1:5", nil, ""},
		"through a proxy":            {"10.0.0.1:5", []string{"198.51.100.1"}, "198.51.100.1"},
		"through two":                {"10.0.0.1:5", []string{"198.51.100.1, 10.9.9.9"}, "198.51.100.1"},
		"two headers":                {"10.0.0.1:5", []string{"203.0.113.9", "198.51.100.1"}, "198.51.100.1"},
		"the sender says more":       {"10.0.0.1:5", []string{"1.2.3.4, 198.51.100.1"}, "198.51.100.1"},
		"proxies only":               {"10.0.0.1:5", []string{"10.0.0.2, 10.0.0.3"}, ""},
		"an empty header":            {"10.0.0.1:5", []string{""}, ""},
		"empty entries":              {"10.0.0.1:5", []string{"198.51.100.1, , ,"}, "198.51.100.1"},
		"with a port":                {"10.0.0.1:5", []string{"203.0.113.12:50123"}, "203.0.113.12"},
		"a proxy with a port":        {"10.0.0.1:5", []string{"203.0.113.12:50123, 10.3.2.1:9"}, "203.0.113.12"},
		"in quotes":                  {"10.0.0.1:5", []string{`"203.0.113.12"`}, "203.0.113.12"},
		"in quotes with a port":      {"10.0.0.1:5", []string{`"203.0.113.12:50123"`}, "203.0.113.12"},
		"in brackets":                {"10.0.0.1:5", []string{"[2001:db8::1]"}, "2001:db8::"},
		"in brackets with a port":    {"10.0.0.1:5", []string{"[2001:db8::1]:443"}, "2001:db8::"},
		"all of it":                  {"10.0.0.1:5", []string{`"[2001:db8::1]:443"`}, "2001:db8::"},
		"IPv6, by its network":       {"[2001:db8:1:2:3:4:5:6]:5", nil, "2001:db8:1:2::"},
		"IPv6, the same network":     {"[2001:db8:1:2:ffff::1]:5", nil, "2001:db8:1:2::"},
		"IPv4 in IPv6":               {"[::ffff:192.0.2.1]:5", nil, "192.0.2.1"},
		"a proxy, as IPv4 in IPv6":   {"[::ffff:10.0.0.1]:5", []string{"198.51.100.1"}, "198.51.100.1"},
		"a proxy on IPv6":            {"[::1]:5", []string{"2001:db8::1"}, "2001:db8::"},
		"a peer that is no address":  {"pipe", []string{"198.51.100.1"}, ""},
		"link-local, with its place": {"[fe80::1%eth0]:5", nil, "fe80::"},
	} {
		got := s.address(forwarded(c.peer, c.said...))
		if c.want == "" && got.IsValid() || c.want != "" && got != netip.MustParseAddr(c.want) {
			t.Errorf("%s: %s, want %q", name, got, c.want)
		}
	}
}

// Addresses that cannot be read do not switch the bounds of addresses off: they
// share one.
func TestUnreadableForwardedAddressesShareOneBound(t *testing.T) {
	t.Parallel()
	s := behind(t, "10.0.0.0/8")
	for n, said := range []string{"unknown", "_hidden", "203.0.113.12:", "[203.0.113.12]", "[2001:db8::1", `"203.0.113.12`, "203.0.113.12:99999", "a.example.com"} {
		if got := s.address(forwarded("10.0.0.1:5", said)); got != unreadable {
			t.Errorf("%q counts for %s", said, got)
		}
		if got := counted(t, s.metrics.forwardedUnreadable); got != float64(n+1) {
			t.Errorf("%q: %v unreadable ones are counted", said, got)
		}
	}
	if got := s.address(forwarded("10.0.0.1:5", "unknown, 198.51.100.1")); got != netip.MustParseAddr("198.51.100.1") {
		t.Errorf("counts for %s", got)
	}
}

// logged is a server's log as text.
func logged(s *Server) *bytes.Buffer {
	out := new(bytes.Buffer)
	s.opts.Logger = slog.New(slog.NewTextHandler(out, nil))
	return out
}

// A peer that is no trusted proxy is told of once a minute, with the flag that
// would make it one; many different ones do not fill the log.
func TestForwardedHeaderOfAnotherPeerIsLoggedOnceAMinute(t *testing.T) {
	t.Parallel()
	s := behind(t)
	log := logged(s)
	for range 3 {
		if got := s.address(forwarded("127.0.0.1:5", "203.0.113.12")); got != netip.MustParseAddr("127.0.0.1") {
			t.Errorf("counts for %s", got)
		}
	}
	if got := log.String(); strings.Count(got, "\n") != 1 || !strings.Contains(got, "--trusted-proxy 127.0.0.1") {
		t.Errorf("logged %q", got)
	}
	for n := range 10 * maxLogged {
		s.address(forwarded(fmt.Sprintf("10.1.%d.%d:5", n/256, n%256), "203.0.113.12"))
	}
	if got := strings.Count(log.String(), "\n"); got > maxLogged+1 {
		t.Errorf("%d lines were logged", got)
	}
}

// A web page that is refused is told of once a minute each, and both the log and
// the answer name the flag that would allow it.
func TestRefusedOriginIsToldWhichFlagAllowsIt(t *testing.T) {
	t.Parallel()
	s := behind(t)
	log := logged(s)
	for _, c := range []struct {
		origin, want string
		lines        int
	}{
		{"https://a.example", "--allow-origin https://a.example", 1},
		{"https://a.example", "--allow-origin https://a.example", 1},
		{"vscode-webview://0b1c", "--allow-origin vscode-webview://0b1c", 2},
		{"null", "--allow-origin null", 3},
		{"https://%", "it cannot be allowed", 4},
		{"https://" + strings.Repeat("a", 1000), "it cannot be allowed", 5},
	} {
		r := httptest.NewRequest(http.MethodGet, "/v1/ws", nil)
		r.Header = upgradeRequest()
		r.Header.Set("Origin", c.origin)
		w := httptest.NewRecorder()
		s.ServeHTTP(w, r)
		if w.Code != http.StatusForbidden || !strings.Contains(w.Body.String(), c.want) {
			t.Errorf("%.40s: %d %q", c.origin, w.Code, w.Body)
		}
		if got := log.String(); strings.Count(got, "\n") != c.lines || !strings.Contains(got, c.want) {
			t.Errorf("%.40s: logged %q", c.origin, got)
		}
	}
}

func upgradeRequest() http.Header {
	return http.Header{"Connection": {"Upgrade"}, "Upgrade": {"websocket"}}
}

// The device address answers probes with one word.
func TestProbesOnTheDeviceAddress(t *testing.T) {
	t.Parallel()
	ready := errors.New("starting")
	s := behind(t)
	s.opts.Ready = func() error { return ready }
	want := func(method, path string, code int, body string) {
		t.Helper()
		w := httptest.NewRecorder()
		s.ServeHTTP(w, httptest.NewRequest(method, path, nil))
		if w.Code != code || w.Body.String() != body+"\n" {
			t.Errorf("%s %s: %d %q, want %d %q", method, path, w.Code, w.Body, code, body)
		}
	}
	want(http.MethodGet, "/healthz", http.StatusOK, "ok")
	want(http.MethodGet, "/readyz", http.StatusServiceUnavailable, "unavailable")
	ready = nil
	want(http.MethodGet, "/readyz", http.StatusOK, "ready")
	s.Drain(0)
	defer s.cut()
	want(http.MethodGet, "/readyz", http.StatusServiceUnavailable, "unavailable")
	want(http.MethodGet, "/healthz", http.StatusOK, "ok")
	want(http.MethodPost, "/healthz", http.StatusMethodNotAllowed, "GET only")
}

// A web page offers its token as a subprotocol; a program's header goes first.
func TestBearerTokenOfARequest(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		authorization string
		protocols     []string
		want          string
	}{
		"none":             {"", nil, ""},
		"a header":         {"Bearer a.b.c", nil, "a.b.c"},
		"in lower case":    {"bearer a.b.c", nil, "a.b.c"},
		"another scheme":   {"Basic a.b.c", nil, ""},
		"a subprotocol":    {"", []string{"rccs.v1, rccs.token.a.b-_c"}, "a.b-_c"},
		"it alone":         {"", []string{"rccs.token.a.b.c"}, "a.b.c"},
		"no token in it":   {"", []string{"rccs.v1, rccs.token."}, ""},
		"another":          {"", []string{"rccs.v1, rccs.tokens.a"}, ""},
		"a header and one": {"Bearer a.b.c", []string{"rccs.token.d.e.f"}, "a.b.c"},
	} {
		r := &http.Request{Header: http.Header{"Sec-Websocket-Protocol": c.protocols}}
		if c.authorization != "" {
			r.Header.Set("Authorization", c.authorization)
		}
		if got := bearer(r); got != c.want {
			t.Errorf("%s: %q, want %q", name, got, c.want)
		}
	}
}

func FuzzForwardedFor(f *testing.F) {
	for _, s := range []string{"", "1.2.3.4", "a, b", ",", "::1, 10.0.0.1", "fe80::1%x", `"[::1]:5"`, "1.2.3.4:5", "::%unreadable"} {
		f.Add(s)
	}
	s := behind(f, "10.0.0.0/8")
	f.Fuzz(func(t *testing.T, said string) {
		if got := s.address(forwarded("10.0.0.1:1", said)); got.IsValid() && got != unreadable && (s.isProxy(got) || got.Zone() != "") {
			t.Errorf("%q counts for %s", said, got)
		}
	})
}

// unauthenticatedBytes is what a frame of someone without a credential may make the
// decoder allocate, beside the frame itself; docs/limits.md states it.
const unauthenticatedBytes = 1 << 20

func TestUnauthenticatedFrameAllocatesLittle(t *testing.T) { //nolint:paralleltest // what is allocated is counted for the whole process
	const size = 64 << 10
	fill := func(open, part, end string) string {
		return open + strings.Repeat(part, (size-len(open)-len(end))/len(part)) + end
	}
	payload := func(p string) string { return `{"type":"device_register","id":"r","payload":` + p + `}` }
	for name, frame := range map[string]string{
		"empty objects":      fill("[{}", ",{}", "]"),
		"small objects":      fill(`[{"id":"a"}`, `,{"id":"a"}`, "]"),
		"many fields":        fill(`{"id":"a"`, `,"id":"a"`, "}"),
		"many unknown":       fill(`{"id":"a"`, `,"x":1`, "}"),
		"deep":               fill("", "[", ""),
		"deep in the middle": payload(fill("", "[", "")),
		"capabilities":       payload(fill(`{"capabilities":{"a":[`, `"a",`, `"a"]}}`)),
		"many capabilities":  payload(fill(`{"capabilities":{"a":1`, `,"a":1`, `}}`)),
		"a long token":       payload(fill(`{"authToken":"`, "a", `"}`)),
		"a token of escapes": payload(fill(`{"authToken":"`, `\u00e9`, `"}`)),
	} {
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		items, err := wire.DecodeFew(nil, []byte(frame), maxUnauthenticatedEnvelopes)
		if err == nil && len(items) > 0 && items[0].Err == nil {
			_, _ = wire.DecodeRegister(items[0].Payload)
		}
		runtime.ReadMemStats(&after)
		if got := after.TotalAlloc - before.TotalAlloc; got > unauthenticatedBytes+size {
			t.Errorf("%s: %d bytes were allocated, want %d at most", name, got, unauthenticatedBytes+size)
		}
	}
}
