package coordinator

import (
	"context"
	"errors"
	"slices"
	"sync"

	"github.com/rccs-io/rccs/internal/inbox"
	"github.com/rccs-io/rccs/internal/share"
	"github.com/rccs-io/rccs/subjects"
	"github.com/rccs-io/rccs/wire"
)

// nobody is as whose a message counts that waits and has no known sender.
const nobody = "nobody known"

// admit counts a message among those that wait, and reports whether there is room
// for it. What was stored before this router began may have been within the bounds
// then, and what an edge has acceptedByEdge stays in any case.
func (r *router) admit(m *routed) bool {
	if m.waiter != "" {
		return true
	}
	waiter := m.sender
	if waiter == unknown {
		waiter = nobody
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	more := share.ServiceRoute{Size: m.size, Own: r.wait[waiter]}
	for _, bytes := range r.wait {
		more.All += bytes
	}
	if !m.acceptedByEdge && m.stored.After(r.began) && !r.c.shares.AdmitRoute(&more) {
		return false
	}
	m.waiter = waiter
	r.wait[waiter] += more.Bytes()
	return true
}

// left is called for a message that is gone.
func (r *router) left(m *routed) {
	if m.waiter == "" {
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	gone := share.ServiceRoute{Size: m.size}
	if r.wait[m.waiter] -= gone.Bytes(); r.wait[m.waiter] <= 0 {
		delete(r.wait, m.waiter)
	}
}

// endFull ends messages of services that have too much waiting, and returns those
// that it has to be called for again. It ends several at a time: a service that floods
// keeps the store busy, which then takes long to answer about each.
func (r *router) endFull(all []*routed) (left []*routed) {
	for some := range slices.Chunk(all, passFresh) {
		errs := make([]error, len(some))
		var wg sync.WaitGroup
		for n, m := range some {
			wg.Go(func() {
				errs[n] = errPanicked
				r.c.contained("route", func() { errs[n] = r.full(m) })
			})
		}
		wg.Wait()
		for n, m := range some {
			if errs[n] != nil {
				left = append(left, m)
			}
		}
		if err := errors.Join(errs...); err != nil && r.ctx.Err() == nil {
			r.log.Warn("messages past a service's part are not removed yet, trying again", "err", err)
		}
	}
	return left
}

// full ends a message of a service that has too much waiting.
func (r *router) full(m *routed) error {
	ctx, cancel := context.WithTimeout(r.ctx, routeTimeout)
	defer cancel()
	if !m.finished {
		if err := r.tellService(ctx, m, &inbox.RouteEvent{Kind: subjects.EventFull, Retry: share.RetryRoute}); err != nil {
			return err
		}
		r.recordEnd(m, wire.QueueFull)
		r.c.metrics.routed.WithLabelValues(routedFull).Inc()
		m.finished = true
	}
	return r.c.remove(ctx, r.stream, m.seq)
}
