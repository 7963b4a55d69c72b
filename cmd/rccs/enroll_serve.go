package main

import (
	"errors"
	"time"

	"github.com/spf13/pflag"

	"github.com/rccs-io/rccs/internal/enroll"
	"github.com/rccs-io/rccs/internal/node"
)

// enrolFlags are those of a process that enrols devices.
type enrolFlags struct {
	life, renewFor                    duration
	issuer, audience, jwks, userClaim string
}

func (f *enrolFlags) add(flags *pflag.FlagSet) {
	f.life, f.renewFor = duration(enroll.DefaultLife), duration(enroll.DefaultRenewFor)
	flags.Var(&f.life, "enroll-life", "how long the credential of an enrolled device lasts before it has to be renewed")
	flags.Var(&f.renewFor, "enroll-renew-for", "how long an enrolled device may be away and still renew its credential")
	flags.StringVar(&f.issuer, "oidc-issuer", "", "`URL` of a third party (OpenID Connect) whose identity tokens enrol devices")
	flags.StringVar(&f.audience, "oidc-audience", "", "the `audience` that such a token must be for, often a client id")
	flags.StringVar(&f.jwks, "oidc-jwks", "", "`URL` or file of the issuer's keys (JWKS); default: where the issuer's configuration says")
	flags.StringVar(&f.userClaim, "oidc-user-claim", "sub", "the `claim` of such a token that is the user")
}

// options checks the flags.
func (f *enrolFlags) options() (node.Enrolment, error) {
	e := node.Enrolment{Life: time.Duration(f.life), RenewFor: time.Duration(f.renewFor)}
	if f.renewFor < f.life {
		return e, usageError{errors.New("--enroll-renew-for: want no less than --enroll-life")}
	}
	if f.issuer == "" && f.audience == "" && f.jwks == "" {
		return e, nil
	}
	if f.issuer == "" || f.audience == "" {
		return e, usageError{errors.New("--oidc-issuer and --oidc-audience are needed, both")}
	}
	tokens, err := enroll.NewOIDC(enroll.OIDCOptions{Issuer: f.issuer, Audience: f.audience, JWKS: f.jwks, UserClaim: f.userClaim})
	if err != nil {
		return e, err
	}
	e.Tokens = tokens
	return e, nil
}
