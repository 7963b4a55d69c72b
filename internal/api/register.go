package api

import (
	"cmp"
	"context"
	"maps"
	"mime"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/danielgtaylor/huma/v2"
	"github.com/danielgtaylor/huma/v2/adapters/humago"

	"github.com/rccs-io/rccs/internal/audit"
	"github.com/rccs-io/rccs/subjects"
	"github.com/rccs-io/rccs/wire"
)

// row is one row of the API.
type row struct {
	method, path, id string
	who              access
	tag              string
	summary          string
	description      string
	status           int  // of success; 0: 200
	secret           bool // the answer, or the body, has a credential in it
	body             func(huma.Registry) *huma.Schema
	optional         bool // the body may be empty
	responses        map[string]*huma.Response
	parameters       []*huma.Param // beside those of the input
	waits            bool          // for a device, which may take long: it takes no turn
}

// call is one request of a row.
type call struct {
	*principal
	tenant *Tenant
	r      *http.Request
	w      http.ResponseWriter
	at     listener
}

type callKey struct{}

// record is one of the audit about what the caller asks for.
func (c *call) record(action, target, detail string) audit.Record {
	return audit.Record{Action: action, Target: target, Detail: detail, Who: c.who(), From: remoteHost(c.r)}
}

// bodyTimeout bounds the reading of a body.
const bodyTimeout = time.Minute

// register adds a row with its handler.
func register[I, O any](a *API, rw row, h func(context.Context, *call, *I) (*O, error)) {
	op := huma.Operation{
		Method: rw.method, Path: rw.path, OperationID: rw.id, Summary: rw.summary, Description: rw.description, Tags: []string{rw.tag},
		DefaultStatus: rw.status, MaxBodyBytes: maxBody + 1, BodyReadTimeout: bodyTimeout,
		Middlewares: huma.Middlewares{func(ctx huma.Context, next func(huma.Context)) { a.admit(ctx, rw, next) }},
		Responses:   rw.responses, Parameters: rw.parameters,
	}
	op.SkipValidateBody = rw.body != nil // it is read as it came
	describe(a.huma.OpenAPI(), &op, rw)
	huma.Register(a.huma, op, func(ctx context.Context, in *I) (*O, error) {
		c := ctx.Value(callKey{}).(*call)
		var out *O
		var err error
		if run := func() { out, err = h(ctx, c, in) }; rw.waits {
			run()
		} else if full := a.inTurn(ctx, c, run); full != nil {
			err = full
		}
		if err != nil {
			return nil, a.problemOf(err)
		}
		return out, nil
	})
	if rw.body != nil {
		a.describeBody(rw)
	}
	if rw.who == services || rw.who == issuers {
		a.service.share(&a.admin, rw.method, rw.path)
	}
}

// describeBody says in the document what the library cannot see of a body that
// is read as it came.
func (a *API) describeBody(rw row) {
	body := a.huma.OpenAPI().Paths[rw.path].Post.RequestBody
	body.Required = !rw.optional
	body.Content = map[string]*huma.MediaType{jsonType: {Schema: rw.body(a.huma.OpenAPI().Components.Schemas)}}
}

// share adds a row of another router.
func (rt *router) share(of *router, method, path string) {
	for _, r := range of.routes {
		if "/"+strings.Join(r.segments, "/") == path {
			rt.HandleFunc(method+" "+path, r.handlers[method])
		}
	}
}

// admit looks at all that is to be looked at before a request is read.
func (a *API) admit(ctx huma.Context, rw row, next func(huma.Context)) {
	r, w := humago.Unwrap(ctx)
	at, _ := r.Context().Value(listenerKey{}).(listener)
	c := &call{r: r, w: w, at: at}
	var p *Problem
	if rw.who != anybody {
		if c.principal, p = a.identify(r, at); p == nil {
			if c.tenant, p = a.authorize(c.principal, rw.who, r); p != nil {
				a.recordRefusal(c, rw, p)
			}
		}
	}
	if p == nil {
		p = cmp.Or(checkQuery(r, ctx.Operation().Parameters), checkHeaders(r, ctx.Operation().Parameters), checkBody(r))
	}
	release := func() {}
	if p == nil {
		release, p = a.takeBody(c)
	}
	if p != nil {
		p.write(w)
		return
	}
	defer release()
	next(&narrowed{humaContext: huma.WithValue(ctx, callKey{}, c)})
}

// recordRefusal records in the audit that a service asked for what it has no right
// to.
func (a *API) recordRefusal(c *call, rw row, p *Problem) {
	if p.Status != http.StatusForbidden || c.operator || a.refusals.Take(struct{}{}, 1, time.Now()) > 0 {
		return
	}
	t, ok := a.opts.Tenant(c.service.Tenant)
	if !ok {
		return
	}
	record := c.record(audit.ActionRequest, c.r.URL.Path, rw.method+" "+rw.path)
	record.Result, record.Why = audit.ResultRefused, p.Detail
	ctx, cancel := context.WithTimeout(c.r.Context(), refusalTimeout)
	defer cancel()
	if err := t.Ops.Audit(ctx, record); err != nil {
		a.log.Warn("refusal of a service not recorded", "service", c.service.Name, "err", err)
	}
}

// refusalTimeout bounds the wait for the record of a refusal.
const refusalTimeout = 2 * time.Second

// checkQuery refuses a query that can be read in two ways: one that is not
// encoded as it should be, of which the library would leave out a part, or a
// parameter that is given twice, of which it would take the first. A parameter
// that the row does not have is a mistake that would change the answer unnoticed.
// A limit or a timeout that is larger than any integer stands for the largest one.
func checkQuery(r *http.Request, of []*huma.Param) *Problem {
	if r.URL.RawQuery == "" {
		return nil
	}
	values, err := url.ParseQuery(r.URL.RawQuery)
	if err != nil {
		return badRequest("the query is not percent-encoded as it should be")
	}
	known := parametersOf(of)
	for _, name := range slices.Sorted(maps.Keys(values)) {
		if !slices.Contains(known, name) {
			return badRequest("there is no parameter " + strconv.Quote(name) + " here: want " + strings.Join(known, ", "))
		}
		if len(values[name]) > 1 {
			return badRequest("the parameter " + strconv.Quote(name) + " is given more than once")
		}
	}
	for _, name := range []string{"limit", "timeoutMs"} {
		if value := values.Get(name); len(value) >= tooLong && strings.Trim(value, "0123456789") == "" {
			values.Set(name, strings.Repeat("9", tooLong-1))
			r.URL.RawQuery = values.Encode()
		}
	}
	return nil
}

// checkHeaders refuses a header that is given twice, of which the library would take
// the first: an id is of one message. Accept is a list.
func checkHeaders(r *http.Request, of []*huma.Param) *Problem {
	for _, p := range of {
		if p.In == "header" && p.Name != "Accept" && len(r.Header.Values(p.Name)) > 1 {
			return badRequest("the header " + p.Name + " is given more than once")
		}
	}
	return nil
}

// parametersOf are the names that a row's query may have, in order. The console
// names its tenant wherever it asks.
func parametersOf(of []*huma.Param) []string {
	names := []string{"tenant"}
	for _, p := range of {
		if p.In == "query" {
			names = append(names, p.Name)
		}
	}
	slices.Sort(names)
	return slices.Compact(names)
}

// tooLong is how many digits the library takes for no integer. What has a bound
// that holds whatever is asked for may have as many.
const tooLong = 19

const jsonType = "application/json"

// checkBody refuses a body of another type, or one that says that it is too
// large, before any of it is read.
func checkBody(r *http.Request) *Problem {
	if r.ContentLength > maxBody {
		return problem(http.StatusRequestEntityTooLarge, string(wire.MessageTooLarge), "the body is larger than 32 MiB")
	}
	if r.ContentLength == 0 || r.Method == http.MethodGet || r.Method == http.MethodHead {
		return nil
	}
	kind, params, err := mime.ParseMediaType(r.Header.Get("Content-Type"))
	if charset, given := params["charset"]; err != nil || kind != jsonType || given && !strings.EqualFold(charset, "utf-8") {
		return problem(http.StatusUnsupportedMediaType, codeUnsupportedMedia, "want Content-Type: application/json")
	}
	if coding := r.Header.Get("Content-Encoding"); coding != "" && !strings.EqualFold(coding, "identity") {
		return problem(http.StatusUnsupportedMediaType, codeUnsupportedMedia, "bodies are not compressed here: leave out Content-Encoding")
	}
	return nil
}

type humaContext = huma.Context

// narrowed is a context of huma whose answers have the statuses of this API:
// what huma finds wrong with a request is 400.
type narrowed struct{ humaContext }

// SetStatus implements [huma.Context].
func (n *narrowed) SetStatus(status int) {
	switch status {
	case http.StatusUnprocessableEntity, http.StatusRequestTimeout:
		status = http.StatusBadRequest
	}
	n.humaContext.SetStatus(status)
}

// Unwrap is for [humago.Unwrap].
func (n *narrowed) Unwrap() huma.Context { return n.humaContext }

// translate turns errors of huma into problems.
func translate(_ huma.Context, _ string, v any) (any, error) {
	if m, ok := v.(*huma.ErrorModel); ok {
		return ofHuma(m), nil
	}
	return v, nil
}

// InTenant are the parameters that every row has.
type InTenant struct {
	Tenant string `query:"tenant" doc:"The tenant, for operators; a service reaches its own" example:"default"`
}

// OfUser are those of what a user has.
type OfUser struct {
	InTenant
	User string `path:"user" maxLength:"128" doc:"The user, percent-encoded once" example:"alice"`
}

// OfDevice are those of a device.
type OfDevice struct {
	OfUser
	Device string `path:"device" maxLength:"128" doc:"The device, percent-encoded once" example:"phone"`
}

func (o *OfUser) user() (subjects.UserID, *Problem) {
	a := subjects.Address{User: subjects.UserID(o.User), Device: "any"}
	if err := a.Check(); err != nil {
		return "", badRequest(err.Error())
	}
	return a.User, nil
}

func (o *OfDevice) address() (subjects.Address, *Problem) {
	a := subjects.Address{User: subjects.UserID(o.User), Device: subjects.DeviceID(o.Device)}
	if err := a.Check(); err != nil {
		return a, badRequest(err.Error())
	}
	return a, nil
}
