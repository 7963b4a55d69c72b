package api

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"math"
	"net/http"
	"strings"
	"time"

	"github.com/rccs-io/rccs/auth"
	"github.com/rccs-io/rccs/internal/audit"
	"github.com/rccs-io/rccs/internal/ops"
)

// Installation is what operators do beside a tenant's messages. tenant is a
// tenant's name, by the record of what is done.
type Installation interface {
	Doctor(ctx context.Context, t *ops.Tenant) ([]ops.Finding, error)
	Revocations(tenant string) ([]auth.Revocation, error)
	// Revoke reports whether a credential that it ends is known.
	Revoke(ctx context.Context, tenant string, r auth.Revocation, by audit.Record) (known bool, err error)
	Unrevoke(ctx context.Context, tenant string, r auth.Revocation, by audit.Record) error
	Tenants(ctx context.Context) ([]ops.TenantInfo, error)
	AddTenant(ctx context.Context, name string, shards int, limits auth.Limits, by audit.Record) error
	RemoveTenant(ctx context.Context, name string, by audit.Record) error
	// Edges is the tenant whose operators may drain edges.
	Edges() (*ops.Tenant, bool)
}

// statusInterval is how long streams are watched to tell their rates.
const statusInterval = 250 * time.Millisecond

// statusBehind is how many inboxes that fall behind a status names.
const statusBehind = 5

// EdgeInput names an edge.
type EdgeInput struct {
	InTenant
	Edge string `path:"edge" maxLength:"512" doc:"The edge's name or id, percent-encoded once" example:"edge-1"`
}

type drainInput struct {
	EdgeInput
	Body *struct {
		Force bool `json:"force,omitempty" doc:"Also when no other edge takes devices"`
		Rate  int  `json:"rate,omitempty" minimum:"0" maximum:"1000000" doc:"How many connections a second are closed; 0: as many as when the edge stops"`
	}
}

// Drained is an edge that drains.
type Drained struct {
	Edge        string `json:"edge"`
	ID          string `json:"id"`
	Connections int    `json:"connections" doc:"How many it has now"`
}

type drainOutput struct {
	Body Drained
}

type statusOutput struct {
	Body *ops.Status
}

type tenantOnly struct{ InTenant }

func (a *API) registerInstallation() {
	register(a, row{
		method: http.MethodGet, path: "/v1/status", id: "status", tag: "Installation", who: operators, summary: "The tenant at a glance",
		description: "As `rccs status --json`.",
	}, func(ctx context.Context, c *call, _ *tenantOnly) (*statusOutput, error) {
		s, err := c.tenant.Ops.Status(ctx, ops.StatusOptions{Interval: statusInterval, Behind: statusBehind})
		return &statusOutput{Body: s}, err
	})
	register(a, row{
		method: http.MethodGet, path: "/v1/doctor", id: "doctor", tag: "Installation", who: operators, summary: "What is wrong, and what to do",
		description: "As `rccs doctor --json`.",
	}, func(ctx context.Context, c *call, _ *tenantOnly) (*listOutput[ops.Finding], error) {
		if a.opts.Installation == nil {
			return nil, errNoKeys()
		}
		found, err := a.opts.Installation.Doctor(ctx, c.tenant.Ops)
		return page(found, false, nil), err
	})
	a.registerEdges()
	a.registerRevocations()
	a.registerAudit()
	a.registerTenants()
}

func errNoKeys() *Problem { return unavailable("the keys of the installation are not here") }

func (a *API) registerEdges() {
	register(a, row{
		method: http.MethodGet, path: "/v1/edges", id: "listEdges", tag: "Installation", who: operators, summary: "List the edges that live",
		description: "As `rccs edges ls --json`.",
	}, a.listEdges)
	register(a, row{
		method: http.MethodPost, path: "/v1/edges/{edge}/drain", id: "drainEdge", tag: "Installation", who: operators,
		status: http.StatusAccepted, optional: true, summary: "Send the devices of an edge elsewhere",
		description: "The only edge that takes devices needs `force`, otherwise 409.",
	}, a.drainEdge)
	register(a, row{
		method: http.MethodDelete, path: "/v1/edges/{edge}/drain", id: "resumeEdge", tag: "Installation", who: operators,
		status: http.StatusNoContent, summary: "Let an edge take devices again",
		description: "404 if it does not drain.",
	}, a.resumeEdge)
}

// wholeList is asked for a page of a list that is made whole each time.
type wholeList struct {
	InTenant
	Paged
}

func (*API) listEdges(ctx context.Context, c *call, in *wholeList) (*listOutput[ops.Edge], error) {
	all, err := c.tenant.Ops.Edges(ctx)
	if err != nil {
		return nil, err
	}
	return pageOf(all, &in.Paged, func(e ops.Edge) string { return e.Name + "\x00" + e.ID })
}

func (a *API) drainEdge(ctx context.Context, c *call, in *drainInput) (*drainOutput, error) {
	force, rate := false, 0
	if in.Body != nil {
		force, rate = in.Body.Force, in.Body.Rate
	}
	t, e, err := a.edge(ctx, in.Edge)
	if err != nil {
		return nil, err
	}
	if !force {
		err := t.OnlyEdge(ctx, &e)
		if errors.Is(err, ops.ErrOnlyEdge) {
			return nil, conflict(err.Error() + `; {"force":true} drains it all the same`)
		}
		if err != nil {
			return nil, err
		}
	}
	out := &drainOutput{Body: Drained{Edge: e.Name, ID: e.ID}}
	return out, t.Act(ctx, c.record(audit.ActionDrain, e.Name, "drain"), func() (err error) {
		out.Body.Connections, err = t.AskEdge(ctx, e.ID, ops.EdgeDrain, rate)
		return err
	})
}

func (a *API) resumeEdge(ctx context.Context, c *call, in *EdgeInput) (*struct{}, error) {
	t, e, err := a.edge(ctx, in.Edge)
	if err != nil {
		return nil, err
	}
	err = t.Act(ctx, c.record(audit.ActionDrain, e.Name, "undo"), func() error { return t.ResumeEdge(ctx, e.ID) })
	if errors.Is(err, ops.ErrNotDraining) {
		return nil, notFound(e.Name + " does not drain: it takes devices")
	}
	return nil, err
}

// edge finds an edge that is to drain.
func (a *API) edge(ctx context.Context, name string) (*ops.Tenant, ops.Edge, error) {
	if a.opts.Installation == nil {
		return nil, ops.Edge{}, errNoKeys()
	}
	t, ok := a.opts.Installation.Edges()
	if !ok {
		return nil, ops.Edge{}, unavailable("the default tenant is not served yet")
	}
	all, err := t.Edges(ctx)
	if err != nil {
		return nil, ops.Edge{}, err
	}
	for _, e := range all {
		if e.Name == name || e.ID == name {
			return t, e, nil
		}
	}
	return nil, ops.Edge{}, notFound("no edge is called " + name)
}

// Revocation is an end of credentials.
type Revocation = auth.Revocation

type revokeInput struct {
	InTenant
	Body struct {
		Kind    string `json:"kind" enum:"device,user,service,all"`
		Name    string `json:"name,omitempty" maxLength:"257" doc:"A device's is USER/DEVICE; none for all"`
		Confirm bool   `json:"confirm,omitempty" doc:"Needed for all: it ends every credential of the tenant"`
	}
}

type revokedOutput struct {
	Body struct {
		Known bool `json:"known" doc:"Whether a credential is known that this ends"`
	}
}

type unrevokeInput struct {
	InTenant
	Kind string `path:"kind" enum:"device,user,service"`
	Name string `path:"name" maxLength:"257" doc:"Percent-encoded once; a device's is USER/DEVICE" example:"alice/phone"`
}

func (a *API) registerRevocations() {
	register(a, row{
		method: http.MethodGet, path: "/v1/revocations", id: "listRevocations", tag: "Revocations", who: operators,
		summary: "List what is revoked", description: "The latest first.",
	}, a.listRevocations)
	register(a, row{
		method: http.MethodPost, path: "/v1/revocations", id: "revoke", tag: "Revocations", who: operators, status: http.StatusCreated,
		summary: "End credentials that were issued until now", description: "Of a device, a user, a service, or with `confirm` of all.",
	}, a.revoke)
	register(a, row{
		method: http.MethodDelete, path: "/v1/revocations/{kind}/{name}", id: "unrevoke", tag: "Revocations", who: operators,
		status: http.StatusNoContent, summary: "Take a revocation back",
	}, func(ctx context.Context, c *call, in *unrevokeInput) (*struct{}, error) {
		return nil, a.unrevoke(ctx, c, auth.Revocation{Kind: auth.RevocationKind(in.Kind), Name: in.Name})
	})
	register(a, row{
		method: http.MethodDelete, path: "/v1/revocations/all", id: "unrevokeAll", tag: "Revocations", who: operators,
		status: http.StatusNoContent, summary: "Take the revocation of all back",
	}, func(ctx context.Context, c *call, _ *tenantOnly) (*struct{}, error) {
		return nil, a.unrevoke(ctx, c, auth.Revocation{Kind: auth.RevokedAll})
	})
}

func (a *API) listRevocations(_ context.Context, c *call, in *wholeList) (*listOutput[Revocation], error) {
	if a.opts.Installation == nil {
		return nil, errNoKeys()
	}
	all, err := a.opts.Installation.Revocations(c.tenant.Name)
	if err != nil {
		return nil, err
	}
	return pageOf(all, &in.Paged, func(r Revocation) string {
		return fmt.Sprintf("%019d %s %s", math.MaxInt64-r.At.Unix(), r.Kind, r.Name) // the latest first
	})
}

func (a *API) revoke(ctx context.Context, c *call, in *revokeInput) (*revokedOutput, error) {
	r := auth.Revocation{Kind: auth.RevocationKind(in.Body.Kind), Name: in.Body.Name, At: a.opts.Now()}
	if r.Kind == auth.RevokedAll && !in.Body.Confirm {
		return nil, badRequest(`this ends every credential of the tenant: {"kind":"all","confirm":true}`)
	}
	if err := checkRevocation(r); err != nil {
		return nil, badRequest("name: " + err.Error())
	}
	if a.opts.Installation == nil {
		return nil, errNoKeys()
	}
	out := &revokedOutput{}
	var err error
	out.Body.Known, err = a.opts.Installation.Revoke(ctx, c.tenant.Name, r, c.record(audit.ActionRevoke, r.Name, string(r.Kind)))
	return out, err
}

// checkRevocation reports whether the name can be one of its kind. Whether it is
// one the keys know: names that are not issued any more can be revoked.
func checkRevocation(r auth.Revocation) error {
	user, device, slash := strings.Cut(r.Name, "/")
	switch {
	case r.Kind == auth.RevokedAll && r.Name != "":
		return errors.New("all has none")
	case r.Kind == auth.RevokedDevice && (user == "" || device == ""):
		return errors.New("want USER/DEVICE")
	case (r.Kind == auth.RevokedUser || r.Kind == auth.RevokedService) && (r.Name == "" || slash):
		return errors.New("want the name of a " + string(r.Kind))
	}
	return nil
}

func (a *API) unrevoke(ctx context.Context, c *call, r auth.Revocation) error {
	if err := checkRevocation(r); err != nil {
		return badRequest("name: " + err.Error())
	}
	if a.opts.Installation == nil {
		return errNoKeys()
	}
	all, err := a.opts.Installation.Revocations(c.tenant.Name)
	if err != nil {
		return err
	}
	for _, known := range all {
		if known.Kind == r.Kind && known.Name == r.Name {
			return a.opts.Installation.Unrevoke(ctx, c.tenant.Name, r, c.record(audit.ActionUnrevoke, r.Name, string(r.Kind)))
		}
	}
	return notFound("nothing of this kind and name is revoked")
}

type auditInput struct {
	InTenant
	Paged
	Since  string `query:"since" maxLength:"64" doc:"How far to look back: a duration such as 1h or 30d, or a time of RFC 3339; without it, to the beginning"`
	Action string `query:"action" enum:"revoke,unrevoke,replay,read,purge,forget,drain,backup,enroll,request,tenant" doc:"Only this action"`
}

func (a *API) registerAudit() {
	register(a, row{
		method: http.MethodGet, path: "/v1/audit", id: "listAudit", tag: "Installation", who: operators, summary: "List what was done",
		description: "The newest first; records as `rccs audit --json` has them.",
	}, func(ctx context.Context, c *call, in *auditInput) (*listOutput[audit.Record], error) {
		below, bad := in.sequence()
		if bad != nil {
			return nil, bad
		}
		q := ops.AuditQuery{Action: in.Action, Limit: in.limit()}
		if q.Since, bad = a.since(in.Since); bad != nil {
			return nil, bad
		}
		list, more, err := c.tenant.Ops.LastAudits(ctx, q, below)
		if err != nil {
			return nil, err
		}
		return page(list, more, func(r audit.Record) string { return seqString(r.Seq) }), nil
	})
}

type addTenantInput struct {
	InTenant
	Body struct {
		Name   string      `json:"name" maxLength:"64" doc:"The tenant's name"`
		Shards int         `json:"shards,omitzero" minimum:"1" maximum:"64" doc:"In how many shards its users are divided: 1 by default; it cannot be changed later"`
		Limits auth.Limits `json:"limits,omitzero" doc:"What it may use; what is not given has no limit"`
	}
}

type addTenantOutput struct {
	Body struct {
		Name   string      `json:"name"`
		Shards int         `json:"shards,omitzero" doc:"If it has several"`
		Limits auth.Limits `json:"limits"`
	}
}

type removeTenantInput struct {
	InTenant
	Name    string `path:"name" maxLength:"64"`
	Confirm string `query:"confirm" maxLength:"64" doc:"The tenant's name again: its messages and credentials go for good"`
}

func (a *API) registerTenants() {
	register(a, row{
		method: http.MethodGet, path: "/v1/tenants", id: "listTenants", tag: "Tenants", who: operators, summary: "List the tenants",
		description: "As `rccs tenants ls --json`.",
	}, a.listTenants)
	register(a, row{
		method: http.MethodPost, path: "/v1/tenants", id: "addTenant", tag: "Tenants", who: operators, status: http.StatusCreated,
		summary: "Add a tenant", description: "Answered when it is served.",
	}, a.addTenant)
	register(a, row{
		method: http.MethodDelete, path: "/v1/tenants/{name}", id: "removeTenant", tag: "Tenants", who: operators,
		status: http.StatusNoContent, summary: "Remove a tenant with all that is its", description: "Needs `?confirm=NAME`.",
	}, a.removeTenant)
}

func (a *API) listTenants(ctx context.Context, _ *call, in *wholeList) (*listOutput[ops.TenantInfo], error) {
	if a.opts.Installation == nil {
		return nil, errNoKeys()
	}
	all, err := a.opts.Installation.Tenants(ctx)
	if err != nil {
		return nil, err
	}
	return pageOf(all, &in.Paged, func(t ops.TenantInfo) string { return t.Name })
}

func (a *API) addTenant(ctx context.Context, c *call, in *addTenantInput) (*addTenantOutput, error) {
	b := &in.Body
	if err := auth.CheckTenant(b.Name); err != nil {
		return nil, badRequest("name: " + err.Error())
	}
	if b.Limits.Devices < 0 || b.Limits.StorageBytes < 0 || b.Limits.Consumers < 0 {
		return nil, badRequest("limits: a limit is negative: 0 is none")
	}
	if a.opts.Installation == nil {
		return nil, errNoKeys()
	}
	if a.opts.Exists != nil && a.opts.Exists(b.Name) {
		return nil, conflict("there is a tenant of this name")
	}
	out := &addTenantOutput{}
	out.Body.Name, out.Body.Limits = b.Name, b.Limits
	if b.Shards > 1 {
		out.Body.Shards = b.Shards
	}
	return out, a.opts.Installation.AddTenant(ctx, b.Name, max(b.Shards, 1), b.Limits, c.record(audit.ActionTenant, b.Name, "add"))
}

func (a *API) removeTenant(ctx context.Context, c *call, in *removeTenantInput) (*struct{}, error) {
	if err := auth.CheckTenant(in.Name); err != nil {
		return nil, badRequest("name: " + err.Error())
	}
	if a.opts.Installation == nil {
		return nil, errNoKeys()
	}
	if a.opts.Exists == nil || !a.opts.Exists(in.Name) {
		return nil, notFound("there is no tenant of this name")
	}
	if in.Name == auth.DefaultTenant {
		return nil, conflict("the tenant " + auth.DefaultTenant + " cannot be removed: every installation has it")
	}
	if in.Confirm != in.Name {
		return nil, badRequest("this removes all messages and credentials of the tenant: ?confirm=" + cmp.Or(strings.TrimSpace(in.Name), "NAME"))
	}
	return nil, a.opts.Installation.RemoveTenant(ctx, in.Name, c.record(audit.ActionTenant, in.Name, "rm"))
}
