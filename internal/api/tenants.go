package api

import (
	"cmp"
	"context"
	"net/http"
	"strings"

	"github.com/rccs-io/rccs/auth"
	"github.com/rccs-io/rccs/internal/audit"
	"github.com/rccs-io/rccs/internal/ops"
)

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
