package localcluster

import (
	"context"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
)

// A cluster that is started twice would take the first one's answers for its own.
func TestAClusterIsNotReadyBecauseAnotherOneIs(t *testing.T) {
	t.Parallel()
	another := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}))
	defer another.Close()
	at := another.Listener.Addr().String()
	all := []Process{{Name: "server-1", Admin: at}}
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	err := Run(ctx, "/bin/true", all, io.Discard, func() {
		t.Error("it says that it is ready")
		cancel()
	})
	if err == nil || !strings.Contains(err.Error(), at) {
		t.Errorf("%v: want who is in the way", err)
	}
}
