package coordinator

import (
	"context"
	"fmt"
	"strings"

	"github.com/nats-io/nats.go"

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

// unreachable describes a message of a stream that names no device, or one that
// does not exist. Its names are the first tokens after rccs.KIND.
func unreachable(stream, subject string, seq uint64, header nats.Header, reason string) *inbox.Unreachable {
	u := &inbox.Unreachable{Stream: stream, Subject: subject, Seq: seq, Header: header, Reason: reason}
	tokens := strings.Split(subject, ".")
	if len(tokens) > 2 {
		u.User = tokens[2]
	}
	if len(tokens) > 3 && stream != layout.StreamRoute { // there it is a selector
		u.Device = tokens[3]
	}
	return u
}

// unroutable describes a message of the route stream that reaches nobody.
func (m *routed) unroutable(reason string) *inbox.Unreachable {
	return unreachable(layout.StreamRoute, m.subject, m.seq, m.header, reason)
}

// dropUnreadable ends a message of the route stream that names no route.
func (r *router) dropUnreadable(e reader.Entry) {
	ctx, cancel := context.WithTimeout(r.ctx, giveWithin)
	defer cancel()
	err := r.c.tellUnreachable(ctx, unreachable(layout.StreamRoute, e.Subject, e.Seq, e.Header, inbox.BadSubject))
	if err == nil {
		err = r.c.remove(ctx, r.stream, e.Seq)
	}
	if err != nil && r.ctx.Err() == nil {
		r.log.Warn("message that names no route is not dropped yet, trying again", "seq", e.Seq, "err", err)
		r.later(retryPause, func() { r.dropUnreadable(e) })
	}
}
