package coordinator

import (
	"context"
	"fmt"
	"strconv"
	"time"

	"github.com/rccs-io/rccs/internal/envelope"
	"github.com/rccs-io/rccs/internal/inbox"
	"github.com/rccs-io/rccs/subjects"
	"github.com/rccs-io/rccs/wire"
)

// tellExpired tells the sender of a message that found no device, if it asked.
func (r *router) tellExpired(ctx context.Context, m *routed) error {
	if envelope.Value(m.header, subjects.HeaderAck) != "true" {
		return nil
	}
	reason := ""
	if !m.ends.Equal(m.expires) { // its time to live has not ended
		reason = wire.ReasonRetention
	}
	if !m.acceptedByEdge {
		return r.tellServiceExpired(ctx, m, reason)
	}
	if m.msg.From == "" {
		return nil
	}
	o := wire.Outcome{OriginalID: m.id(), Status: wire.StatusExpired, Reason: reason}
	to := subjects.Address{User: m.user, Device: m.msg.From}.Key()
	seq := strconv.FormatUint(m.seq, 10)
	msg := inbox.Notice(r.c.pub.Proof, to, m.lane, "expired-"+seq, "route/"+seq, o.AppendPayload(nil))
	msg.Header[subjects.HeaderTimestamp] = []string{wire.FormatTime(time.Now())}
	_, err := r.c.store(ctx, msg)
	return err
}

// tellServiceExpired tells services that a message of theirs found no device in
// time.
func (r *router) tellServiceExpired(ctx context.Context, m *routed, reason string) error {
	return r.tellService(ctx, m, &inbox.RouteEvent{Kind: subjects.EventExpired, Reason: reason})
}

// tellService tells services of the end of a message of theirs.
func (r *router) tellService(ctx context.Context, m *routed, e *inbox.RouteEvent) error {
	e.User, e.ID, e.Type, e.Lane, e.Seq, e.Subject = m.user, m.id(), envelope.Type(m.header), m.lane, m.seq, m.subject
	msg, err := e.Message(r.c.pub.Proof)
	if err != nil {
		return fmt.Errorf("coordinator: event: %w", err)
	}
	_, err = r.c.store(ctx, msg)
	return err
}
