package node

import (
	"cmp"
	"context"
	"errors"
	"log/slog"
	"sync"
	"time"

	"github.com/rccs-io/rccs/auth"
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
	if fault, after := r.own.look(h.own); fault {
		r.log.Warn("not ready", "err", h.own)
	} else if after > 0 {
		r.log.Info("ready again", "after", after)
	}
	if fault, after := r.others.look(h.others); fault {
		r.log.Warn("a tenant cannot be served", "err", h.others)
	} else if after > 0 {
		r.log.Info("all tenants are served again", "after", after)
	}
	return h.own
}

// unserved returns which tenants beside the first the process cannot serve, and why.
func (r *readiness) unserved() error {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.check().others
}

// saying is when the log last said that something is at fault; zero: nothing is.
type saying time.Time

// look reports whether a fault is to be told now, or how long there was one that is
// over.
func (s *saying) look(err error) (fault bool, after time.Duration) {
	last := time.Time(*s)
	switch {
	case err == nil && !last.IsZero():
		*s = saying{}
		return false, max(time.Since(last).Round(time.Millisecond), time.Millisecond)
	case err != nil && (last.IsZero() || time.Since(last) > sayEvery):
		*s = saying(time.Now())
		return true, 0
	}
	return false, 0
}

// watch looks until ctx ends, also when nobody asks.
func (r *readiness) watch(ctx context.Context) {
	every(ctx, readyEvery, func() { _ = r.now() }) // the log has it
}

// isReady reports whether a message could be accepted now.
func (n *Node) isReady() bool { return n.serving.Load() && n.admin.isUp() && n.ready.now() == nil }

// check returns why a message could not be accepted now.
func (n *Node) check() (h health) {
	h.own = n.server.Healthy()
	for _, t := range n.running() {
		name := t.keys.Account().Name
		h.add(name, name == auth.DefaultTenant, cmp.Or(t.streams.healthy(everyStream), t.coord.Healthy()))
	}
	if n.edge != nil {
		at := n.edge.healthy()
		h.own, h.others = cmp.Or(h.own, at.own), errors.Join(h.others, at.others)
	}
	n.missing.addTo(&h)
	return h
}
