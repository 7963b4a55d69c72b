package node

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/http/pprof"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"
)

// adminPart serves health, metrics and profiles. It starts before anything
// that may take long, so that a slow start can be watched.
type adminPart struct {
	http   *http.Server
	addr   net.Addr
	up     atomic.Bool
	served chan error
}

func startAdmin(listen string, metrics prometheus.Gatherer, ready func() error) (*adminPart, error) {
	l, err := net.Listen("tcp", listen)
	if err != nil {
		return nil, fmt.Errorf("node: listen for admin: %w (choose another address with --admin-listen)", err)
	}
	a := &adminPart{addr: l.Addr(), served: make(chan error, 1)}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, _ *http.Request) { _, _ = fmt.Fprintln(w, "ok") })
	mux.HandleFunc("GET /readyz", func(w http.ResponseWriter, _ *http.Request) { a.readyz(w, ready) })
	mux.Handle("GET /metrics", promhttp.HandlerFor(metrics, promhttp.HandlerOpts{}))
	mux.HandleFunc("GET /debug/pprof/", pprof.Index)
	mux.HandleFunc("GET /debug/pprof/cmdline", pprof.Cmdline)
	mux.HandleFunc("GET /debug/pprof/profile", pprof.Profile)
	mux.HandleFunc("GET /debug/pprof/symbol", pprof.Symbol)
	mux.HandleFunc("GET /debug/pprof/trace", pprof.Trace)
	a.http = &http.Server{Handler: mux, ReadHeaderTimeout: 5 * time.Second}
	go func() {
		err := a.http.Serve(l)
		if errors.Is(err, http.ErrServerClosed) {
			err = nil
		}
		a.served <- err
	}()
	return a, nil
}

func (a *adminPart) readyz(w http.ResponseWriter, ready func() error) {
	if !a.up.Load() {
		http.Error(w, "starting or stopping", http.StatusServiceUnavailable)
		return
	}
	if err := ready(); err != nil {
		http.Error(w, err.Error(), http.StatusServiceUnavailable)
		return
	}
	_, _ = fmt.Fprintln(w, "ready")
}

// serving says that the node has started. A nil part has nobody to tell.
func (a *adminPart) serving() {
	if a != nil {
		a.up.Store(true)
	}
}

// stopping says that nothing new should come.
func (a *adminPart) stopping() {
	if a != nil {
		a.up.Store(false)
	}
}

func (a *adminPart) stop(context.Context) error {
	a.up.Store(false)
	return errors.Join(a.http.Close(), <-a.served)
}
