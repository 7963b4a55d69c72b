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
	life, renewFor duration
}

func (f *enrolFlags) add(flags *pflag.FlagSet) {
	f.life, f.renewFor = duration(enroll.DefaultLife), duration(enroll.DefaultRenewFor)
	flags.Var(&f.life, "enroll-life", "how long the credential of an enrolled device lasts before it has to be renewed")
	flags.Var(&f.renewFor, "enroll-renew-for", "how long an enrolled device may be away and still renew its credential")
}

func (f *enrolFlags) check() error {
	if f.renewFor < f.life {
		return usageError{errors.New("--enroll-renew-for: want no less than --enroll-life")}
	}
	return nil
}

func (f *enrolFlags) options() node.Enrolment {
	return node.Enrolment{Life: time.Duration(f.life), RenewFor: time.Duration(f.renewFor)}
}
