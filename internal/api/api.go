package api

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"runtime/debug"
	"sync"
	"time"

	"github.com/danielgtaylor/huma/v2"
	"github.com/danielgtaylor/huma/v2/adapters/humago"

	"github.com/rccs-io/rccs/auth"
	"github.com/rccs-io/rccs/internal/limit"
	"github.com/rccs-io/rccs/internal/trace"
	"github.com/rccs-io/rccs/wire"
)

// maxBody is the largest body of a request, in bytes.
const maxBody = 32 << 20

// Options configure an [API].
type Options struct {
	// Ready reports whether requests can be answered; nil: always.
	Ready func() bool
	// Tenant finds one that is served, by name. Needed.
	Tenant func(name string) (*Tenant, bool)
	// Exists reports whether there is a tenant of the name, served or not. May
	// be nil.
	Exists func(name string) bool
	// Installation is what operators do to all tenants; nil: nothing of it
	// (503).
	Installation Installation
	// OperatorToken reports, in constant time, whether a token is the
	// operator's; nil: there is none.
	OperatorToken func(token string) bool
	// ServiceToken says whose token it is; nil: no service gets in.
	ServiceToken func(token string) (Service, error)
	// Loopback says that the admin address can be reached from this machine
	// only: without an OperatorToken, whoever asks there is an operator.
	Loopback bool
	// Stats are what the process has counted; nil: none.
	Stats func() Counters
	// Unacknowledged is how many messages of a tenant wait to be acknowledged;
	// nil: it is not known.
	Unacknowledged func(tenant string) uint64
	// MaxMessageBytes is the largest message. Default 1 MiB.
	MaxMessageBytes int
	// Tracer records the way of single requests and of what is published to topics;
	// nil: none is recorded.
	Tracer trace.Tracer
	// Version of the program.
	Version string
	// Logger; nil discards.
	Logger *slog.Logger
	// Now is the clock; nil: the system's.
	Now func() time.Time
}

func (o *Options) validate() error {
	if o.Tenant == nil {
		return errors.New("api: Tenant is needed")
	}
	if o.MaxMessageBytes <= 0 {
		o.MaxMessageBytes = 1 << 20
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	return nil
}

// API is the HTTP API. Make one with [New].
type API struct {
	opts     Options
	log      *slog.Logger
	sessions *sessions
	huma     huma.API
	admin    router // all rows
	service  router // those of services
	document []byte
	ctx      context.Context // ends with the API: streams end with it
	cancel   context.CancelFunc
	live     *live
	bounds   bounds
	refusals *limit.Table[struct{}]
}

// Refusals of services are recorded: so many a second, and in a burst. The record
// cannot be emptied, and nobody may fill it.
const (
	refusalsRate  = 1
	refusalsBurst = 60
)

// strict makes huma hold the members of a body to their letter case. That is a
// variable of its package, which nothing else of this program uses.
var strict = sync.OnceFunc(func() { huma.ValidateStrictCasing = true })

// New makes an API. Stop ends its streams.
func New(opts Options) (*API, error) {
	if err := opts.validate(); err != nil {
		return nil, err
	}
	strict()
	a := &API{opts: opts, log: opts.Logger, sessions: newSessions(opts.Now), bounds: newBounds(), refusals: limit.New[struct{}](refusalsRate, refusalsBurst, 1)}
	a.ctx, a.cancel = context.WithCancel(context.Background())
	a.live = newLive(a)
	a.huma = humago.New(&a.admin, config(opts.Version))
	a.registerMessages()
	a.registerDevices()
	a.registerRequests()
	a.registerTopics()
	a.registerStreams()
	a.registerEnrolment()
	a.registerInboxes()
	a.registerInstallation()
	a.registerSessions()
	var err error
	if a.document, err = json.Marshal(a.huma.OpenAPI()); err != nil {
		return nil, fmt.Errorf("api: the OpenAPI document: %w", err)
	}
	for _, rt := range []*router{&a.admin, &a.service} {
		rt.HandleFunc("GET "+documentPath, a.serveDocument)
	}
	a.live.of(auth.DefaultTenant) // the last hour is there for the first that looks
	return a, nil
}

// Stop ends all streams. It is idempotent.
func (a *API) Stop() {
	a.cancel()
	a.live.wait()
}

// Admin serves all of the API, under /v1.
func (a *API) Admin() http.Handler { return a.handler(&a.admin, adminListener) }

// Services serves what services may use, to clients with a token.
func (a *API) Services() http.Handler { return a.handler(&a.service, serviceListener) }

type listenerKey struct{}

// handler contains a panic to the request in which it happens.
func (a *API) handler(rt *router, at listener) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		started := &tracker{ResponseWriter: w}
		defer func() {
			v := recover()
			if v == nil {
				return
			}
			a.log.Error("request ended by a fault", "path", r.URL.Path, "fault", v, "stack", string(debug.Stack()))
			if started.wrote { // the client must not take what it got for all of it
				panic(http.ErrAbortHandler) //nolint:forbidigo // net/http's way to cut an answer short
			}
			problem(http.StatusInternalServerError, string(wire.Internal), "a fault of the server; its log says more").write(w)
		}()
		h := w.Header()
		h.Set("X-Content-Type-Options", "nosniff")
		h.Set("Cache-Control", "no-store")
		h.Set("Content-Security-Policy", "default-src 'none'; frame-ancestors 'none'")
		if p := a.door(r, at); p != nil {
			p.write(w)
			return
		}
		if a.opts.Ready != nil && !a.opts.Ready() && r.URL.Path != documentPath {
			unavailable("the server is starting or stopping, try again").write(w)
			return
		}
		rt.ServeHTTP(started, r.WithContext(context.WithValue(r.Context(), listenerKey{}, at)))
	})
}

// tracker knows whether an answer has begun.
type tracker struct {
	http.ResponseWriter
	wrote bool
}

func (t *tracker) WriteHeader(status int) {
	t.wrote = true
	t.ResponseWriter.WriteHeader(status)
}

func (t *tracker) Write(b []byte) (int, error) {
	t.wrote = true
	return t.ResponseWriter.Write(b)
}

// Unwrap is for [http.ResponseController].
func (t *tracker) Unwrap() http.ResponseWriter { return t.ResponseWriter }
