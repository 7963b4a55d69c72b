package node

import (
	"errors"
	"log/slog"
	"strings"
	"testing"

	"github.com/rccs-io/rccs/internal/testkit"
)

// What is wrong with one tenant, whose parts can delete what it has, takes the
// devices of no other away: the process is ready, and its log says what is wrong.
func TestAProcessIsReadyWhateverIsWrongWithATenantBesideTheFirst(t *testing.T) {
	t.Parallel()
	var log testkit.Log
	var first, acme error
	r := readiness{log: slog.New(slog.NewTextHandler(&log, nil)), check: func() (h health) {
		h.add("acme", false, acme)
		h.add("default", true, first)
		h.add("bob", false, nil)
		return h
	}}
	if err := r.now(); err != nil || log.String() != "" {
		t.Errorf("nothing is wrong: %v, %s", err, log.String())
	}
	acme = errors.New("its stream is gone")
	for range 2 {
		if err := r.now(); err != nil {
			t.Errorf("not ready for the other tenant: %v", err)
		}
	}
	if said := log.String(); strings.Count(said, "\n") != 1 || !strings.Contains(said, "a tenant cannot be served") || !strings.Contains(said, "tenant acme: its stream is gone") {
		t.Errorf("said %q", said)
	}
	first = errors.New("cut off")
	if err := r.now(); !errors.Is(err, first) {
		t.Errorf("ready, although the first tenant is %v: %v", first, err)
	}
	first, acme = nil, nil
	if err := r.now(); err != nil || !strings.Contains(log.String(), "all tenants are served again") || !strings.Contains(log.String(), "ready again") {
		t.Errorf("all is well: %v, %s", err, log.String())
	}
}
