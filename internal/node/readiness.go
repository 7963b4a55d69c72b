package node

import (
	"context"
	"log/slog"
	"sync"
	"time"
)

// readyEvery is how often a process looks whether it can serve, and sayEvery how
// often the log repeats that it cannot.
const (
	readyEvery = 500 * time.Millisecond
	sayEvery   = time.Minute
)

// readiness is whether a process that has started can serve. /readyz, the metric,
// the edge's lease and the log all have it from here, and a change is in the log
// before anybody else is told.
type readiness struct {
	check func() error
	log   *slog.Logger

	mu   sync.Mutex
	said time.Time // when the log last said that it cannot; zero: it can
}

// now returns why the process cannot serve.
func (r *readiness) now() error {
	r.mu.Lock()
	defer r.mu.Unlock()
	err := r.check()
	switch {
	case err == nil && !r.said.IsZero():
		r.log.Info("ready again", "after", time.Since(r.said).Round(time.Millisecond))
		r.said = time.Time{}
	case err != nil && (r.said.IsZero() || time.Since(r.said) > sayEvery):
		r.log.Warn("not ready", "err", err)
		r.said = time.Now()
	}
	return err
}

// watch looks until ctx ends, also when nobody asks.
func (r *readiness) watch(ctx context.Context) {
	every(ctx, readyEvery, func() { _ = r.now() }) // the log has it
}
