package coordinator

import (
	"context"

	"github.com/rccs-io/rccs/internal/inbox"
	"github.com/rccs-io/rccs/internal/share"
	"github.com/rccs-io/rccs/subjects"
	"github.com/rccs-io/rccs/wire"
)

// nobody is as whose a message counts that waits and has no known sender.
const nobody = "nobody known"

// admit counts a message among those that wait, and reports whether there is room
// for it. What was stored before this router began may have been within the bounds
// then, and what an edge has promised stays in any case.
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
	if !m.promised && m.stored.After(r.began) && !r.c.shares.AdmitRoute(&more) {
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

// full ends a message of a service that has too much waiting.
func (r *router) full(m *routed) (verdict, error) {
	ctx, cancel := context.WithTimeout(r.ctx, giveWithin)
	defer cancel()
	if err := r.tellService(ctx, m, &inbox.RouteEvent{Kind: subjects.EventFull, Retry: share.RetryRoute}); err != nil {
		return held, err
	}
	r.recordEnd(m, wire.QueueFull)
	r.c.metrics.routed.WithLabelValues(routedFull).Inc()
	m.given = true
	return gone, r.c.remove(ctx, r.stream, m.seq)
}
