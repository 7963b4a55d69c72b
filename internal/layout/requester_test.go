package layout_test

import (
	"strings"
	"testing"

	"github.com/rccs-io/rccs/internal/layout"
)

// Whatever stands in the header, there is a key or none.
func FuzzRequester(f *testing.F) {
	for _, seed := range []string{`{"acc":"A","user":"UABC"}`, `{"user":1}`, `{"user":null}`, `[]`, `{`, ``} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, value string) {
		who := layout.Requester(map[string][]string{layout.HeaderRequester: {value}})
		if who != "" && !strings.Contains(value, `"`) {
			t.Errorf("%q has no text, and names %q", value, who)
		}
		if two := layout.Requester(map[string][]string{layout.HeaderRequester: {value, value}}); two != "" {
			t.Errorf("two headers name %q", two)
		}
	})
}

func TestRequesterIsTheUserThatNATSNames(t *testing.T) {
	t.Parallel()
	got := layout.Requester(map[string][]string{layout.HeaderRequester: {`{"acc":"AXY","svc":"X","user":"UABC","rtt":1}`}})
	if got != "UABC" {
		t.Errorf("%q", got)
	}
}
