package api

import (
	"context"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/rccs-io/rccs/auth"
	"github.com/rccs-io/rccs/internal/admindoor"
	"github.com/rccs-io/rccs/internal/envelope"
)

// access says who may use a row of the API.
type access int

const (
	services  access = iota // services in their own tenant, and operators
	issuers                 // services that may issue credentials, and operators
	operators               // operators alone
	anybody                 // no credential at all
)

// principal is who asks.
type principal struct {
	operator bool
	service  Service // of a service
}

// Service is who a service's token says that it is.
type Service struct {
	Tenant, Name string
	// MayIssue allows tokens and enrolment codes.
	MayIssue bool
	// IssuedTo is the token's [subjects.IssuedTo].
	IssuedTo string
}

// sender is the name of the service that sends.
func (p *principal) sender() string {
	if p.operator {
		return envelope.Operator
	}
	return p.service.Name
}

// who is the principal in records of the audit.
func (p *principal) who() string {
	if p.operator {
		return "operator"
	}
	return "service:" + p.service.Name
}

// listener says by which address a request came.
type listener int

const (
	adminListener listener = iota
	serviceListener
)

// identify finds out who asks.
func (a *API) identify(r *http.Request, at listener) (*principal, *Problem) {
	if token, ok := bearer(r); ok {
		return a.byToken(token)
	}
	if r.Header.Get("Authorization") != "" {
		return nil, unauthorized("want Authorization: Bearer TOKEN")
	}
	if at == serviceListener {
		return nil, unauthorized("this address needs a token: Authorization: Bearer TOKEN")
	}
	if a.sessions.holds(r, a.opts.OperatorToken) {
		return &principal{operator: true}, nil
	}
	if !a.opts.Loopback || a.opts.OperatorToken != nil {
		return nil, unauthorized("a token is needed: Authorization: Bearer TOKEN")
	}
	return &principal{operator: true}, nil // the door was asked before
}

// door is why a request without a token may not come in at all, whatever it asks
// for; nil where it may, or where a token decides.
func (a *API) door(r *http.Request, at listener) *Problem {
	if at != adminListener || !a.opts.Loopback || a.opts.OperatorToken != nil || r.Header.Get("Authorization") != "" {
		return nil
	}
	return ofDoor(admindoor.Check(r))
}

// byToken is who holds the token.
func (a *API) byToken(token string) (*principal, *Problem) {
	if a.opts.ServiceToken != nil && strings.Count(token, ".") == 2 {
		s, err := a.opts.ServiceToken(token)
		if err == nil {
			return &principal{service: s}, nil
		}
		a.log.Debug("service's token refused", "err", err)
	}
	if a.opts.OperatorToken != nil && a.opts.OperatorToken(token) { // it may read a file
		return &principal{operator: true}, nil
	}
	return nil, unauthorized("the token was not accepted: it is neither the operator's nor a service's, or it has expired or was revoked")
}

// ofDoor is the problem of a client that is not let in.
func ofDoor(refused *admindoor.Refusal) *Problem {
	if refused == nil {
		return nil
	}
	return problem(refused.Status, refused.Code, refused.Detail)
}

func unauthorized(detail string) *Problem {
	return problem(http.StatusUnauthorized, codeUnauthorized, detail)
}

// bearer is the token of a request.
func bearer(r *http.Request) (string, bool) {
	scheme, token, ok := strings.Cut(r.Header.Get("Authorization"), " ")
	token = strings.TrimSpace(token)
	return token, ok && strings.EqualFold(scheme, "Bearer") && token != ""
}

// sameOrigin reports whether an origin is the address that was asked.
func sameOrigin(r *http.Request, origin string) bool {
	u, err := url.Parse(origin)
	scheme := "http"
	if r.TLS != nil {
		scheme = "https"
	}
	return err == nil && u.Scheme == scheme && strings.EqualFold(u.Host, r.Host) && u.Path == "" && u.User == nil
}

// authorize reports whether the principal may use a row in the tenant that the
// request names.
func (a *API) authorize(p *principal, need access, r *http.Request) (*Tenant, *Problem) {
	if !p.operator && (need == operators || need == issuers && !p.service.MayIssue) {
		if need == issuers {
			return nil, denied("this service may not issue credentials: make its credential with 'rccs creds service " + p.service.Name + " --may-issue'")
		}
		return nil, denied("this is for operators")
	}
	name := auth.DefaultTenant
	if !p.operator {
		name = p.service.Tenant
	}
	if asked, given := r.URL.Query()["tenant"]; given {
		if !p.operator && !slices.Equal(asked, []string{name}) {
			return nil, denied("a service reaches its own tenant")
		}
		name = asked[0]
	}
	t, ok := a.opts.Tenant(name)
	if !ok {
		if p.operator && a.opts.Exists != nil && a.opts.Exists(name) || !p.operator {
			return nil, unavailable("the tenant is not served yet, try again")
		}
		return nil, notFound("there is no tenant of this name")
	}
	if !connected(r.Context(), t.Core) { // to find that out later takes longer
		return nil, unavailable("NATS does not answer, try again")
	}
	return t, nil
}

// reconnectTimeout is how long a request waits for a connection that was lost,
// such as when all credentials were revoked, to be there again.
const reconnectTimeout = time.Second

// connected reports whether NATS can be reached, or soon can.
func connected(ctx context.Context, nc *nats.Conn) bool {
	if nc.IsConnected() {
		return true
	}
	ctx, cancel := context.WithTimeout(ctx, reconnectTimeout)
	defer cancel()
	tick := time.NewTicker(reconnectTimeout / 50)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
		case <-ctx.Done():
			return false
		}
		if nc.IsConnected() {
			return true
		}
	}
}
