package node

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/http/pprof"
	"strings"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"github.com/rccs-io/rccs/internal/admindoor"
	"github.com/rccs-io/rccs/internal/api"
	"github.com/rccs-io/rccs/internal/tlsfiles"
	"github.com/rccs-io/rccs/web"
)

// adminPart serves health, metrics and profiles. It starts before anything
// that may take long, so that a slow start can be watched.
type adminPart struct {
	http   *http.Server
	addr   net.Addr
	tls    *tlsfiles.Store // nil without TLS
	up     atomic.Bool
	waits  atomic.Pointer[string] // for what, at the start; nil or empty: for nothing
	served chan error
}

type adminOptions struct {
	listen    string
	transport Transport
	registry  *prometheus.Registry
	ready     func() error
	others    func() error // which tenants beside the first are not served
	api       *api.API     // nil: it is not served here
	services  bool         // only its rows for services are served
	logger    *slog.Logger
}

func startAdmin(opts adminOptions) (*adminPart, error) {
	a := &adminPart{served: make(chan error, 1)}
	handler, err := a.handler(opts)
	if err != nil {
		return nil, err
	}
	registry := prometheus.Registerer(opts.registry)
	if opts.services {
		registry = nil // the certificate is the admin address's
	}
	a.tls, err = openTLS(opts.transport.admin(), registry, opts.logger)
	if err != nil {
		return nil, err
	}
	l, err := net.Listen("tcp", opts.listen)
	if err != nil {
		flag := "--admin-listen"
		if opts.services {
			flag = "--api-listen"
		}
		return nil, fmt.Errorf("node: listen for admin: %w (choose another address with %s)", err, flag)
	}
	a.addr = l.Addr()
	if a.tls != nil {
		a.tls.Start()
		l = tls.NewListener(l, a.tls.Config())
	} else if !loopback(opts.listen) {
		opts.logger.Warn("the admin token travels in clear: give --admin-tls-cert and --admin-tls-key, or put a proxy with TLS before it",
			"address", opts.listen)
	}
	a.http = &http.Server{
		Handler:           guarded(handler, adminPolicy),
		ReadHeaderTimeout: 5 * time.Second,
		ReadTimeout:       requestTimeout,
		IdleTimeout:       time.Minute,
		MaxHeaderBytes:    maxHeader,
		ErrorLog:          slog.NewLogLogger(opts.logger.Handler(), slog.LevelDebug),
	}
	go func() {
		err := a.http.Serve(l)
		if errors.Is(err, http.ErrServerClosed) {
			err = nil
		}
		a.served <- err
	}()
	return a, nil
}

// handler is what is served. Whether the process lives and serves is no secret,
// and those that ask, load balancers and supervisors, hold none.
func (a *adminPart) handler(opts adminOptions) (http.Handler, error) {
	if opts.services {
		return opts.api.Services(), nil
	}
	mux := http.NewServeMux()
	mux.Handle("GET /metrics", promhttp.HandlerFor(opts.registry, promhttp.HandlerOpts{EnableOpenMetrics: true}))
	mux.HandleFunc("GET /debug/pprof/", pprof.Index)
	mux.HandleFunc("GET /debug/pprof/cmdline", pprof.Cmdline)
	mux.HandleFunc("GET /debug/pprof/profile", pprof.Profile)
	mux.HandleFunc("GET /debug/pprof/symbol", pprof.Symbol)
	mux.HandleFunc("GET /debug/pprof/trace", pprof.Trace)
	closed := admindoor.Guard(mux)
	operators := func(r *http.Request) bool { return admindoor.Check(r) == nil }
	if opts.transport.AdminTokenFile != "" {
		token, err := openToken(opts.transport.AdminTokenFile, opts.logger)
		if err != nil {
			return nil, err
		}
		closed, operators = token.protect(mux), token.allows
	}
	open := http.NewServeMux()
	open.HandleFunc("GET /healthz", func(w http.ResponseWriter, _ *http.Request) { _, _ = fmt.Fprintln(w, "ok") })
	open.HandleFunc("GET /readyz", func(w http.ResponseWriter, r *http.Request) { a.readyz(w, opts, operators(r)) })
	open.Handle("/", closed)
	if opts.api == nil {
		return open, nil
	}
	console, err := web.Handler()
	if err != nil {
		return nil, err
	}
	if opts.transport.AdminTokenFile == "" {
		console = admindoor.Guard(console)
	}
	// Not by the mux: it would clean paths, in which names are percent-encoded.
	served := opts.api.Admin()
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch path := r.URL.Path; {
		case path == "/v1" || strings.HasPrefix(path, "/v1/"):
			served.ServeHTTP(w, r)
		case path == "/" || path == "/console" || strings.HasPrefix(path, web.Prefix):
			console.ServeHTTP(w, r)
		default:
			open.ServeHTTP(w, r)
		}
	}), nil
}

// readyz answers whether the process can serve. Which tenants there are is the
// operators' business.
func (a *adminPart) readyz(w http.ResponseWriter, opts adminOptions, operator bool) {
	if !a.up.Load() {
		text := "starting or stopping"
		if what := a.waits.Load(); what != nil && *what != "" {
			text = "starting, and waiting: " + *what
		}
		http.Error(w, text, http.StatusServiceUnavailable)
		return
	}
	if err := opts.ready(); err != nil {
		http.Error(w, err.Error(), http.StatusServiceUnavailable)
		return
	}
	_, _ = fmt.Fprintln(w, "ready")
	if err := opts.others(); err != nil && operator {
		w.Header().Set("Content-Type", "text/plain; charset=utf-8")
		_, _ = fmt.Fprintf(w, "not served: %s\n", oneLine(err))
	}
}

// waitsFor says what a start waits for; empty: for nothing any more. A nil part
// has nobody to tell.
func (a *adminPart) waitsFor(what string) {
	if a != nil {
		a.waits.Store(&what)
	}
}

// isUp reports whether the node has started and does not stop yet. A nil part does not
// know, and nobody looks at it.
func (a *adminPart) isUp() bool { return a != nil && a.up.Load() }

// serving notes that the node has started. A nil part does nothing.
func (a *adminPart) serving() {
	if a != nil {
		a.up.Store(true)
	}
}

// stopping notes that nothing new should come. A nil part does nothing.
func (a *adminPart) stopping() {
	if a != nil {
		a.up.Store(false)
	}
}

func (a *adminPart) stop(ctx context.Context) error {
	a.up.Store(false)
	errs := []error{a.http.Close(), <-a.served}
	if a.tls != nil {
		errs = append(errs, a.tls.Stop(ctx))
	}
	return errors.Join(errs...)
}

// openDoors listens for operators and for services that use HTTP.
func (n *Node) openDoors() (err error) {
	if n.opts.AdminListen == "" && n.opts.APIListen == "" {
		return nil
	}
	if err := n.openAPI(); err != nil {
		return err
	}
	n.stops.AddFunc(n.stopAPI) // also when the node does not get as far as to serve
	opts := adminOptions{transport: n.opts.Transport, registry: n.registry, api: n.api, logger: n.opts.Logger}
	if opts.listen = n.opts.APIListen; opts.listen != "" {
		opts.services = true
		if n.apiDoor, err = startAdmin(opts); err != nil {
			return err
		}
		n.stops.Add(n.apiDoor.stop)
	}
	if opts.listen = n.opts.AdminListen; opts.listen != "" {
		opts.services, opts.ready, opts.others = false, n.ready.now, n.ready.unserved
		if n.admin, err = startAdmin(opts); err != nil {
			return err
		}
		n.stops.Add(n.admin.stop)
	}
	return nil
}
