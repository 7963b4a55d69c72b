package node

import (
	"cmp"
	"context"
	"errors"
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

// health is why a process cannot serve, and which of its tenants it cannot serve
// although it serves. Only the first tenant, whose operators run the process,
// counts for all: any part of a tenant can delete that tenant's streams, and what
// is not ready gets no device of anybody.
type health struct{ own, others error }

// add adds how a tenant is.
func (h *health) add(tenant string, first bool, err error) {
	switch {
	case err == nil:
	case first:
		h.own = cmp.Or(h.own, ofTenant(tenant, err))
	default:
		h.others = errors.Join(h.others, ofTenant(tenant, err))
	}
}

// readiness is whether a process that has started can serve. /readyz, the metric,
// the edge's lease and the log all have it from here, and a change is in the log
// before anybody else is told.
type readiness struct {
	check func() health
	log   *slog.Logger

	mu          sync.Mutex
	own, others saying
}

// now returns why the process cannot serve.
func (r *readiness) now() error {
	r.mu.Lock()
	defer r.mu.Unlock()
	h := r.check()
	r.own.say(r.log, h.own, "not ready", "ready again")
	r.others.say(r.log, h.others, "a tenant cannot be served", "all tenants are served again")
	return h.own
}

// saying is when the log last said that something is at fault; zero: nothing is.
type saying time.Time

func (s *saying) say(log *slog.Logger, err error, fault, well string) {
	last := time.Time(*s)
	switch {
	case err == nil && !last.IsZero():
		log.Info(well, "after", time.Since(last).Round(time.Millisecond))
		*s = saying{}
	case err != nil && (last.IsZero() || time.Since(last) > sayEvery):
		log.Warn(fault, "err", err)
		*s = saying(time.Now())
	}
}

// watch looks until ctx ends, also when nobody asks.
func (r *readiness) watch(ctx context.Context) {
	every(ctx, readyEvery, func() { _ = r.now() }) // the log has it
}
