package api

import (
	"context"
	"errors"
	"net/http"

	"github.com/rccs-io/rccs/internal/audit"
	"github.com/rccs-io/rccs/internal/ops"
)

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

// edge finds the edge that a drain names, by its name or id.
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
