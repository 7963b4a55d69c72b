package edge

import (
	"net/http"
	"net/netip"
	"runtime"
	"strings"
	"testing"

	"github.com/rccs-io/rccs/wire"
)

func TestOriginOfARequest(t *testing.T) {
	t.Parallel()
	s := &Server{opts: Options{Limits: Limits{Proxies: []netip.Prefix{
		netip.MustParsePrefix("10.0.0.0/8"), netip.MustParsePrefix("::1/128"),
	}}}}
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
		"no address":                 {"10.0.0.1:5", []string{"unknown"}, ""},
		"IPv6, by its network":       {"[2001:db8:1:2:3:4:5:6]:5", nil, "2001:db8:1:2::"},
		"IPv6, the same network":     {"[2001:db8:1:2:ffff::1]:5", nil, "2001:db8:1:2::"},
		"IPv4 in IPv6":               {"[::ffff:192.0.2.1]:5", nil, "192.0.2.1"},
		"a proxy, as IPv4 in IPv6":   {"[::ffff:10.0.0.1]:5", []string{"198.51.100.1"}, "198.51.100.1"},
		"a proxy on IPv6":            {"[::1]:5", []string{"2001:db8::1"}, "2001:db8::"},
		"a peer that is no address":  {"pipe", []string{"198.51.100.1"}, ""},
		"link-local, with its place": {"[fe80::1%eth0]:5", nil, "fe80::"},
	} {
		got := s.origin(&http.Request{RemoteAddr: c.peer, Header: http.Header{"X-Forwarded-For": c.said}})
		if c.want == "" && got.IsValid() || c.want != "" && got != netip.MustParseAddr(c.want) {
			t.Errorf("%s: %s, want %q", name, got, c.want)
		}
	}
}

func FuzzForwardedFor(f *testing.F) {
	for _, s := range []string{"", "1.2.3.4", "a, b", ",", "::1, 10.0.0.1", "fe80::1%x"} {
		f.Add(s)
	}
	s := &Server{opts: Options{Limits: Limits{Proxies: []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8")}}}}
	f.Fuzz(func(t *testing.T, said string) {
		r := &http.Request{RemoteAddr: "10.0.0.1:1", Header: http.Header{"X-Forwarded-For": {said}}}
		if got := s.origin(r); got.IsValid() && (s.proxy(got) || got.Zone() != "") {
			t.Errorf("%q counts for %s", said, got)
		}
	})
}

// strangerBytes is what a frame of someone without a credential may make the
// decoder allocate, beside the frame itself; docs/limits.md states it.
const strangerBytes = 1 << 20

func TestStrangersMakeLittleOfAFrame(t *testing.T) { //nolint:paralleltest // what is allocated is counted for the whole process
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
		items, err := wire.DecodeFew(nil, []byte(frame), maxStrangerEnvelopes)
		if err == nil && len(items) > 0 && items[0].Err == nil {
			_, _ = wire.DecodeRegister(items[0].Payload)
		}
		runtime.ReadMemStats(&after)
		if got := after.TotalAlloc - before.TotalAlloc; got > strangerBytes+size {
			t.Errorf("%s: %d bytes were allocated, want %d at most", name, got, strangerBytes+size)
		}
	}
}
