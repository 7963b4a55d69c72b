// Package stops ends the parts of a process in order: what was started last ends
// first. A part still handles the messages that are on their way to it; see [Drain].
package stops

import (
	"context"
	"errors"
	"sync"
	"time"
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

// Together calls all functions at once, and returns when each has returned. One
// that takes all the time it has takes none of the others'; a quarter of the time
// is left for what ends behind them.
func Together(ctx context.Context, each ...func(context.Context) error) error {
	if end, ok := ctx.Deadline(); ok {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, time.Until(end)*3/4)
		defer cancel()
	}
	errs := make([]error, len(each))
	var all sync.WaitGroup
	for i, stop := range each {
		all.Go(func() { errs[i] = stop(ctx) })
	}
	all.Wait()
	return errors.Join(errs...)
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
