package client

import (
	"errors"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	"github.com/rccs-io/rccs/wire"
)

// A client that is refused before the upgrade comes back when the edge says so.
func TestRefusedUpgrades(t *testing.T) {
	t.Parallel()
	for status, c := range map[int]struct {
		retry string
		code  wire.Code
		wait  time.Duration
	}{
		http.StatusTooManyRequests:    {"30", wire.RateLimited, 30 * time.Second},
		http.StatusServiceUnavailable: {"10", wire.Unavailable, 10 * time.Second},
		http.StatusForbidden:          {"", "", 0},
	} {
		server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Retry-After", c.retry)
			w.Header().Set("Connection", "close")
			w.WriteHeader(status)
		}))
		_, err := Dial(t.Context(), server.URL, &Options{Token: "x", NoReconnect: true})
		server.Close()
		if err == nil || c.code != "" && !errors.Is(err, c.code) {
			t.Errorf("%d: %v, want %s", status, err, c.code)
		}
		if d := pause(err, 0); d != c.wait {
			t.Errorf("%d: waits %s, want %s", status, d, c.wait)
		}
	}
}
