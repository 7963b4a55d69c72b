package api

import (
	"context"
	"net/http"

	"github.com/rccs-io/rccs/internal/audit"
	"github.com/rccs-io/rccs/internal/ops"
)

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
