// Package stops ends the parts of a process in order: what was started last ends
// first.
package stops

import (
	"context"
	"errors"
)

// Stack is what is to be stopped. The zero value is empty and ready. It is not
// safe for concurrent use: who starts a part also stops it.
type Stack struct{ stops []func(context.Context) error }

// Add has stop called before all that was added earlier.
func (s *Stack) Add(stop func(context.Context) error) { s.stops = append(s.stops, stop) }

// AddFunc is [Stack.Add] for what takes no time and cannot fail.
func (s *Stack) AddFunc(stop func()) {
	s.Add(func(context.Context) error { stop(); return nil })
}

// Stop calls each function once, the last first, also after one that failed. It
// is idempotent.
func (s *Stack) Stop(ctx context.Context) error {
	var errs []error
	for len(s.stops) > 0 {
		last := len(s.stops) - 1
		stop := s.stops[last]
		s.stops = s.stops[:last]
		errs = append(errs, stop(ctx))
	}
	return errors.Join(errs...)
}
