package coordinator

import (
	"context"
	"fmt"

	"github.com/rccs-io/rccs/internal/inbox"
	"github.com/rccs-io/rccs/internal/layout"
	"github.com/rccs-io/rccs/internal/reader"
)

// tellUnreachable stores the event of a message that reaches nobody. It is called
// before the message is removed, so that no message ends in silence.
func (c *Coordinator) tellUnreachable(ctx context.Context, u *inbox.Unreachable) error {
	msg, err := u.Event(c.pub.Proof)
	if err != nil {
		return fmt.Errorf("coordinator: event: %w", err)
	}
	r, err := c.store(ctx, msg)
	if err != nil {
		return fmt.Errorf("coordinator: event: %w", err)
	}
	if !r.Duplicate {
		c.metrics.undeliverable.WithLabelValues(u.Reason).Inc()
		c.log.Warn("message that reaches nobody dropped", "subject", u.Subject, "seq", u.Seq, "reason", u.Reason)
	}
	return nil
}

// unroutable describes a message of the route stream that reaches nobody.
func (m *routed) unroutable(reason string) *inbox.Unreachable {
	return inbox.NewUnreachable(layout.StreamRoute, m.subject, m.seq, m.header, reason)
}

// dropUnreadable ends a message of the route stream that names no route.
func (r *router) dropUnreadable(e reader.Entry) {
	ctx, cancel := context.WithTimeout(r.ctx, routeTimeout)
	defer cancel()
	err := r.c.tellUnreachable(ctx, inbox.NewUnreachable(layout.StreamRoute, e.Subject, e.Seq, e.Header, inbox.BadSubject))
	if err == nil {
		err = r.c.remove(ctx, r.stream, e.Seq)
	}
	if err != nil && r.ctx.Err() == nil {
		r.log.Warn("message that names no route is not dropped yet, trying again", "seq", e.Seq, "err", err)
		r.later(retryPause, func() { r.dropUnreadable(e) })
	}
}
