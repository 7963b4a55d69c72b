package web_test

import (
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/rccs-io/rccs/web"
)

func get(t *testing.T, method, path string) *httptest.ResponseRecorder {
	t.Helper()
	h, err := web.Handler()
	if err != nil {
		t.Fatal(err)
	}
	w := httptest.NewRecorder()
	h.ServeHTTP(w, httptest.NewRequest(method, path, nil))
	return w
}

func TestConsoleIsServedOrSaysHowToHaveIt(t *testing.T) {
	t.Parallel()
	for _, path := range []string{"/console/", "/console/devices", "/console/devices/alice/my%2Fphone"} {
		r := get(t, http.MethodGet, path)
		if r.Code != http.StatusOK || !strings.HasPrefix(r.Header().Get("Content-Type"), "text/html") {
			t.Errorf("%s: %d %s", path, r.Code, r.Header().Get("Content-Type"))
		}
		policy := r.Header().Get("Content-Security-Policy")
		if strings.Contains(policy, "unsafe") || !strings.Contains(policy, "frame-ancestors 'none'") || r.Header().Get("X-Content-Type-Options") != "nosniff" {
			t.Errorf("%s: headers %v", path, r.Header())
		}
	}
	if r := get(t, http.MethodGet, "/console/assets/none.js"); r.Code != http.StatusNotFound {
		t.Errorf("a file that does not exist: %d", r.Code)
	}
	if r := get(t, http.MethodPost, "/console/"); r.Code != http.StatusMethodNotAllowed || r.Header().Get("Allow") == "" {
		t.Errorf("POST: %d", r.Code)
	}
}

// A proxy may serve the console below a path of its own.
func TestRedirectsToTheConsoleAreRelative(t *testing.T) {
	t.Parallel()
	for _, path := range []string{"/", "/console"} {
		if r := get(t, http.MethodGet, path); r.Code != http.StatusFound || r.Header().Get("Location") != "console/" {
			t.Errorf("%s: %d to %q", path, r.Code, r.Header().Get("Location"))
		}
	}
}
