package api

import (
	"context"
	"errors"
	"fmt"
	"math"
	"net/http"
	"strings"

	"github.com/rccs-io/rccs/auth"
	"github.com/rccs-io/rccs/internal/audit"
)

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

// checkRevocation returns an error if the name cannot be one of its kind. The keys need
// not know it: a name that is not issued any more can be revoked.
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
