package api

import (
	"context"
	"net/http"
	"time"

	"github.com/rccs-io/rccs/auth"
	"github.com/rccs-io/rccs/internal/audit"
	"github.com/rccs-io/rccs/internal/ops"
)

// Installation is what operators do beside a tenant's messages. tenant is the name of a
// tenant, and by is the record of what is done.
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

// wholeList is the input for a page of a list that is read as a whole each time.
type wholeList struct {
	InTenant
	Paged
}
