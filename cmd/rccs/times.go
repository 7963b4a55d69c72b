package main

import (
	"errors"
	"time"

	"github.com/spf13/pflag"

	"github.com/rccs-io/rccs/internal/timespec"
)

// duration is a flag that [timespec.Duration] reads, of a second or more; 0 is
// its absence.
type duration time.Duration

// String implements pflag.Value: 720h, and nothing for no duration.
func (d *duration) String() string {
	if *d == 0 {
		return ""
	}
	return timespec.Format(time.Duration(*d))
}

// Type implements pflag.Value.
func (*duration) Type() string { return "duration" }

// Set implements pflag.Value.
func (d *duration) Set(s string) error {
	v, err := timespec.Duration(s)
	if err != nil {
		return err
	}
	if v < time.Second {
		return errors.New("want a duration of at least a second")
	}
	*d = duration(v)
	return nil
}

// since is a flag that says from when on: see [timespec.SinceWords].
type since struct {
	text string
	at   time.Time // zero when it was not given
}

// String implements pflag.Value.
func (s *since) String() string { return s.text }

// Type implements pflag.Value.
func (*since) Type() string { return "time" }

// Set implements pflag.Value.
func (s *since) Set(text string) error {
	at, err := timespec.SinceWords(text, time.Now())
	if err != nil {
		return err
	}
	s.text, s.at = text, at
	return nil
}

// add adds the flag --since; value is its default, "" for none.
func (s *since) add(flags *pflag.FlagSet, value, usage string) {
	if value != "" {
		_ = s.Set(value) // a constant of the caller
	}
	flags.Var(s, "since", usage+": "+sinceHint)
}

// sinceHint is what every --since says of its value.
const sinceHint = "1h, 30d, yesterday or 2025-01-31T12:00:00Z"
