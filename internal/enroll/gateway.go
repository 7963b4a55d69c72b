package enroll

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"strconv"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/micro"

	"github.com/rccs-io/rccs/auth"
	"github.com/rccs-io/rccs/internal/layout"
	"github.com/rccs-io/rccs/internal/limit"
	"github.com/rccs-io/rccs/wire"
)

// Paths of a [Gateway].
const (
	PathEnroll = "/v1/enroll"
	PathRenew  = "/v1/renew"
)

// HeaderFrom carries the requester's address to the coordinator.
const HeaderFrom = "Rccs-Remote"

// Endpoints of the coordinator.
const (
	EndpointEnroll = "enroll"
	EndpointRenew  = "renew"
	EndpointCode   = "enroll-code"
)

const (
	gatewayTimeout = 8 * time.Second // less than the edge's own bound of a request
	// gatewayMost is how many requests are under way; more are sent away.
	gatewayMost = 256
)

// Gateway is an http.Handler that passes requests on to a coordinator of the
// tenant that each names, over a connection of a part of RCCS.
type Gateway struct {
	find func(tenant string) (*nats.Conn, bool)
	door Door
	log  *slog.Logger
	busy chan struct{}
	// throttle bounds the refused requests of one address: wrong claims, wrong
	// renewals, bad signatures. Too many right renewals of one key count as well. It
	// comes before all other checks, so that a tenant that does not exist looks
	// like any other.
	throttle *throttle
	// renewals are the right renewals of each key that do not count there yet. A
	// device renews once in hours; each renewal costs a signature and a write.
	renewals *limit.Table[string]
}

// So many right renewals of a key do not count at once, and one more each period.
const (
	renewalBurst = 3
	renewalEvery = time.Minute
)

// Door knows where requests come from; an edge's server is one.
type Door interface {
	AllowsOrigin(r *http.Request) bool // whether the web page may ask
	From(r *http.Request) string       // the address to count for; empty: none
}

// NewGateway passes on over the connection that find has for a tenant, which
// stays the caller's. A nil log discards.
func NewGateway(find func(tenant string) (*nats.Conn, bool), door Door, log *slog.Logger) *Gateway {
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	return &Gateway{
		find: find, door: door, log: log, busy: make(chan struct{}, gatewayMost), throttle: newThrottle(time.Now),
		renewals: limit.New[string](1/renewalEvery.Seconds(), renewalBurst, maxAddresses),
	}
}

// ServeHTTP implements [http.Handler].
func (g *Gateway) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	w.Header().Add("Vary", "Origin")
	if !g.door.AllowsOrigin(r) {
		refuse(w, http.StatusForbidden, wire.NewError(wire.PermissionDenied,
			"web pages of this origin may not connect: the operator of the edge can allow it with --allow-origin"))
		return
	}
	if origin := r.Header.Get("Origin"); origin != "" {
		w.Header().Set("Access-Control-Allow-Origin", origin)
	}
	endpoint := EndpointEnroll
	switch {
	case r.URL.Path == PathRenew:
		endpoint = EndpointRenew
	case r.URL.Path != PathEnroll:
		http.NotFound(w, r)
		return
	}
	switch r.Method {
	case http.MethodPost:
		g.pass(w, r, endpoint)
	case http.MethodOptions:
		w.Header().Set("Access-Control-Allow-Methods", http.MethodPost)
		w.Header().Set("Access-Control-Allow-Headers", "Content-Type")
		w.Header().Set("Access-Control-Max-Age", "86400")
		w.WriteHeader(http.StatusNoContent)
	default:
		w.Header().Set("Allow", "POST, OPTIONS")
		refuse(w, http.StatusMethodNotAllowed, wire.NewError(wire.BadMessage, "POST a signed request here"))
	}
}

// pass answers with what the coordinator says.
func (g *Gateway) pass(w http.ResponseWriter, r *http.Request, endpoint string) {
	from := g.door.From(r)
	giveBack, werr := g.throttle.allow(from)
	if werr != nil {
		refuse(w, http.StatusTooManyRequests, werr)
		return
	}
	counted := &answered{ResponseWriter: w}
	var body []byte
	defer func() {
		if renewal := endpoint == EndpointRenew; counted.wrong || renewal && !g.mayRenewAgain(body) {
			g.throttle.counts(from, renewal && !counted.wrong)
			return
		}
		giveBack()
	}()
	w = counted
	ctx, cancel := context.WithTimeout(r.Context(), gatewayTimeout)
	defer cancel()
	// A body that comes too slowly must not hold its place for ever.
	_ = http.NewResponseController(w).SetReadDeadline(time.Now().Add(gatewayTimeout))
	var err error
	body, err = io.ReadAll(http.MaxBytesReader(w, r.Body, wire.MaxEnrollment))
	if tooLarge := (*http.MaxBytesError)(nil); errors.As(err, &tooLarge) {
		refuse(w, http.StatusRequestEntityTooLarge, wire.Errorf(wire.MessageTooLarge, "at most %d bytes are taken", tooLarge.Limit))
		return
	} else if err != nil {
		refuse(w, http.StatusBadRequest, wire.NewError(wire.BadMessage, "the body did not come"))
		return
	}
	// Only now, so that a client that sends its body slowly takes no place from others.
	select {
	case g.busy <- struct{}{}:
		defer func() { <-g.busy }()
	default:
		werr := wire.NewError(wire.Unavailable, "too many requests are under way, try again")
		werr.RetryAfter = time.Second
		refuse(w, http.StatusServiceUnavailable, werr)
		return
	}
	g.ask(ctx, w, &nats.Msg{
		Subject: layout.PartEndpoint(endpoint), Data: body, Header: nats.Header{HeaderFrom: {from}},
	})
}

// mayRenewAgain reports whether a right renewal is none too many of its key.
func (g *Gateway) mayRenewAgain(body []byte) bool {
	e, _, err := wire.DecodeEnrollment(body)
	return err != nil || g.renewals.Take(e.PublicKey, 1, time.Now()) == 0
}

func (g *Gateway) ask(ctx context.Context, w http.ResponseWriter, m *nats.Msg) {
	answer, err := g.request(ctx, m)
	switch {
	case errors.Is(err, nats.ErrNoResponders):
		refuse(w, http.StatusServiceUnavailable, wire.NewError(wire.Unavailable, "nobody who has the installation's keys runs: start 'rccs serve'"))
		return
	case errors.Is(err, context.DeadlineExceeded):
		refuse(w, http.StatusGatewayTimeout, wire.NewError(wire.Timeout, ""))
		return
	case err != nil:
		g.log.Warn("request not passed on", "err", err)
		refuse(w, http.StatusServiceUnavailable, wire.NewError(wire.Unavailable, ""))
		return
	}
	status, err := strconv.Atoi(answer.Header.Get(micro.ErrorCodeHeader))
	if err != nil || status < 400 || status > 599 {
		status = http.StatusOK
	}
	if wait := answer.Header.Get(HeaderRetryAfter); wait != "" {
		w.Header().Set(HeaderRetryAfter, wait)
	}
	writeJSON(w, status, answer.Data)
}

// request asks the tenant that the body names. What names one that does not exist
// goes to the default one, which refuses it as it does a wrong code: nobody is
// told which tenants there are.
func (g *Gateway) request(ctx context.Context, m *nats.Msg) (*nats.Msg, error) {
	tenant := auth.DefaultTenant
	if e, _, err := wire.DecodeEnrollment(m.Data); err == nil && e.Tenant != "" {
		tenant = e.Tenant
	}
	nc, ok := g.find(tenant)
	if !ok {
		nc, ok = g.find(auth.DefaultTenant)
	}
	if !ok {
		return nil, nats.ErrNoResponders
	}
	return nc.RequestMsgWithContext(ctx, m)
}

// answered notes whether a request was one that is bounded: it asked for what it
// may not have.
type answered struct {
	http.ResponseWriter
	wrong bool
}

func (a *answered) WriteHeader(status int) {
	a.wrong = status == http.StatusUnauthorized || status == http.StatusForbidden || status == http.StatusBadRequest
	a.ResponseWriter.WriteHeader(status)
}

// Unwrap is for [http.ResponseController].
func (a *answered) Unwrap() http.ResponseWriter { return a.ResponseWriter }

// HeaderRetryAfter is in seconds, as in HTTP.
const HeaderRetryAfter = "Retry-After"

func refuse(w http.ResponseWriter, status int, werr *wire.Error) {
	if werr.RetryAfter > 0 {
		w.Header().Set(HeaderRetryAfter, RetrySeconds(werr))
	}
	writeJSON(w, status, werr.AppendPayload(nil))
}

// RetrySeconds is an error's RetryAfter in whole seconds, rounded up.
func RetrySeconds(werr *wire.Error) string {
	return strconv.FormatInt(int64((werr.RetryAfter+time.Second-1)/time.Second), 10)
}

func writeJSON(w http.ResponseWriter, status int, body []byte) {
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Cache-Control", "no-store")
	w.Header().Set("X-Content-Type-Options", "nosniff")
	w.WriteHeader(status)
	_, _ = w.Write(append(body, '\n')) //nolint:gosec // JSON, and said to be nothing else: no page
}
