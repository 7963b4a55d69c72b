package api

import (
	"context"
	"net/http"
	"time"

	"github.com/rccs-io/rccs/auth"
	"github.com/rccs-io/rccs/internal/audit"
	"github.com/rccs-io/rccs/internal/enroll"
	"github.com/rccs-io/rccs/wire"
)

// How long a device's token lasts that a backend asks for.
const (
	tokenLife    = time.Hour
	maxTokenLife = 24 * time.Hour
)

type tokenInput struct {
	OfDevice
	Body *struct {
		Type           string `json:"type,omitempty" maxLength:"128" doc:"The device's type; it wins over what the device says"`
		ExpiresSeconds int    `json:"expiresSeconds,omitempty" minimum:"1" maximum:"86400" doc:"How long it lasts: an hour by default, a day at most"`
	}
}

// Token is a device's credential.
type Token struct {
	Token     string    `json:"token" doc:"A bearer token: whoever has it is the device"`
	ExpiresAt time.Time `json:"expiresAt"`
}

type tokenOutput struct {
	Body Token
}

type codeInput struct {
	OfUser
	Body *struct {
		Device         string `json:"device,omitempty" maxLength:"128" doc:"The name that the device must take; it chooses if there is none"`
		ExpiresSeconds int    `json:"expiresSeconds,omitempty" minimum:"1" maximum:"86400" doc:"How long the code is good: ten minutes by default, a day at most"`
	}
}

// Code is a one-time code of enrolment.
type Code struct {
	Code      string    `json:"code"`
	ExpiresAt time.Time `json:"expiresAt"`
	URL       string    `json:"url" doc:"What the QR code says"`
}

type codeOutput struct {
	Body Code
}

func (a *API) registerEnrolment() {
	register(a, row{
		method: http.MethodPost, path: "/v1/users/{user}/devices/{device}/token", id: "issueToken", tag: "Enrolment", who: issuers,
		status: http.StatusCreated, secret: true, summary: "Make a bearer token for a device",
		description: "For a device of a user whom the backend has signed in: this is how a web app lets its pages in. A service needs the right" +
			" to do so: `rccs creds service NAME --may-issue`.",
	}, a.issueToken)
	register(a, row{
		method: http.MethodPost, path: "/v1/users/{user}/enrolment-codes", id: "makeEnrolmentCode", tag: "Enrolment", who: issuers,
		status: http.StatusCreated, secret: true, summary: "Make a one-time code that enrols a device",
		description: "A service needs the right to do so: `rccs creds service NAME --may-issue`.",
	}, a.makeCode)
}

func (a *API) issueToken(ctx context.Context, c *call, in *tokenInput) (*tokenOutput, error) {
	address, bad := in.address()
	if bad != nil {
		return nil, bad
	}
	opts := auth.DeviceOptions{Bearer: true, Expires: tokenLife}
	if b := in.Body; b != nil {
		if opts.Type = b.Type; b.ExpiresSeconds > 0 {
			opts.Expires = time.Duration(b.ExpiresSeconds) * time.Second
		}
	}
	if err := opts.Check(); err != nil {
		return nil, badRequest(err.Error())
	}
	if c.tenant.Issue == nil {
		return nil, unavailable("the keys of the installation are not here")
	}
	out := &tokenOutput{Body: Token{ExpiresAt: a.opts.Now().Add(opts.Expires).UTC().Truncate(time.Second)}}
	return out, c.tenant.Ops.Act(ctx, c.record(audit.ActionEnroll, address.String(), "token"), func() (err error) {
		out.Body.Token, err = c.tenant.Issue(address, opts)
		return err
	})
}

func (a *API) makeCode(ctx context.Context, c *call, in *codeInput) (*codeOutput, error) {
	user, bad := in.user()
	if bad != nil {
		return nil, bad
	}
	if c.tenant.Codes == nil {
		return nil, unavailable("the keys of the installation are not here")
	}
	want, target := enroll.Code{User: string(user)}, string(user)
	if b := in.Body; b != nil {
		if want.Device, want.Seconds = b.Device, b.ExpiresSeconds; b.Device != "" {
			target += "/" + b.Device
		}
	}
	out := &codeOutput{}
	return out, c.tenant.Ops.Act(ctx, c.record(audit.ActionEnroll, target, "code"), func() error {
		code, err := c.tenant.Codes(ctx, want)
		if err != nil {
			return wire.AsError(err)
		}
		out.Body = Code{Code: code.Code, ExpiresAt: code.Expires, URL: code.Link("", c.tenant.Name)}
		return nil
	})
}
