package headers_test

import (
	"encoding/base64"
	"strconv"
	"strings"
	"testing"

	"github.com/nats-io/nats.go"

	"github.com/rccs-io/rccs/internal/headers"
	"github.com/rccs-io/rccs/internal/layout"
)

// Whatever stands in the header, there is a key or none.
func FuzzRequester(f *testing.F) {
	for _, seed := range []string{`{"acc":"A","user":"UABC"}`, `{"user":1}`, `{"user":null}`, `[]`, `{`, ``} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, value string) {
		m := &nats.Msg{Header: nats.Header{layout.HeaderRequester: {value}}}
		who := headers.Requester(m)
		if who != headers.Hidden && !strings.Contains(value, `"`) {
			t.Errorf("%q has no text, and names %q", value, who)
		}
		m.Reply = "_R_.x"
		_ = headers.ServiceName(m) // does not panic
		m.Header[layout.HeaderRequester] = []string{value, value}
		if two := headers.Requester(m); two != headers.Hidden {
			t.Errorf("two headers name %q", two)
		}
	})
}

// Only what NATS has vouched for, by a reply subject of its own, names a service.
func TestNobodyElseCanNameARequester(t *testing.T) {
	t.Parallel()
	claims := func(text string) string { return "eyJ9." + base64.RawURLEncoding.EncodeToString([]byte(text)) + ".x" }
	for _, one := range []struct{ reply, claims, key, name string }{
		{"_R_.abc", `{"name":"service:billing"}`, "UABC", "service:billing"},
		{"_R_.abc", `{"name":"alice/phone"}`, "UABC", ""},
		{"_R_.abc", `{"name":7}`, "UABC", ""},
		{"_R_.abc", `{`, "UABC", ""},
		{"", `{"name":"service:billing"}`, "UABC", ""},
		{"_INBOX.abc", `{"name":"service:billing"}`, "", ""},
		{"_RCCS.abc", `{"name":"service:billing"}`, "", ""},
	} {
		m := &nats.Msg{Reply: one.reply, Header: nats.Header{layout.HeaderRequester: {`{"acc":"A","user":"UABC","jwt":"` + claims(one.claims) + `"}`}}}
		if key, name := headers.Requester(m), headers.ServiceName(m); key != one.key || name != one.name {
			t.Errorf("reply %q, claims %s: key %q and name %q", one.reply, one.claims, key, name)
		}
	}
}

func TestRequesterIsTheUserThatNATSNames(t *testing.T) {
	t.Parallel()
	got := headers.Requester(&nats.Msg{Header: nats.Header{layout.HeaderRequester: {`{"acc":"AXY","svc":"X","user":"UABC","rtt":1}`}}})
	if got != "UABC" {
		t.Errorf("%q", got)
	}
}

// What was read of a header is remembered. However many there are, of whatever
// length, each is answered with what it holds itself, and only so many are kept.
func TestRequestersAreRememberedWithinABound(t *testing.T) {
	t.Parallel()
	for range 2 {
		for n := range 1100 {
			value := `{"user":"U` + strconv.Itoa(n) + `"}`
			if n%100 == 0 {
				value += strings.Repeat(" ", 16<<10) // too long to be kept
			}
			if got, want := headers.Requester(&nats.Msg{Header: nats.Header{layout.HeaderRequester: {value}}}), "U"+strconv.Itoa(n); got != want {
				t.Fatalf("%q, want %q", got, want)
			}
		}
	}
	if n := headers.Known(); n == 0 || n > 1024 {
		t.Errorf("%d are known", n)
	}
}
