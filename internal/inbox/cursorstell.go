package inbox

import (
	"context"
	"slices"
	"time"

	"github.com/rccs-io/rccs/internal/envelope"
	"github.com/rccs-io/rccs/subjects"
	"github.com/rccs-io/rccs/wire"
)

// Tell stores the outcome of messages, as of now, for senders that asked. Call it
// before the cursor says that the messages are finalized.
func (s *Cursors) Tell(ctx context.Context, status wire.Status, msgs ...*envelope.Message) error {
	var ended []outcome
	for _, m := range msgs {
		if a := requesterOf(m); a != nil {
			ended = append(ended, outcome{key: m.Key, lane: m.Lane, seq: m.Seq, requester: a, status: status, stored: m.Stored, at: time.Now().UnixNano()})
		}
	}
	return s.tell(ctx, ended)
}

// TellGone is Tell of a message that the device acknowledges after it is gone from the
// store. Its deadline says who asked.
func (s *Cursors) TellGone(ctx context.Context, k subjects.Key, lane subjects.Lane, seq uint64) error {
	ended, _, err := lostOutcomes(ctx, s.fetch, k, loss{lane: lane, from: seq, to: seq, count: 1}, "")
	if err != nil {
		return err
	}
	for i := range ended {
		ended[i].status = wire.StatusDelivered
	}
	return s.tell(ctx, ended)
}

// Keep stores that a message is kept as rejected, and tells a sender that asked. Call
// it before the cursor says that the message is finalized.
func (s *Cursors) Keep(ctx context.Context, m *envelope.Message, status wire.Status, reason string) error {
	now, a := time.Now(), requesterOf(m)
	if msg := rejection(m, status, reason, now); msg != nil {
		if err := s.publish.wait(ctx, msg); err != nil || a == nil || a.from == "" { // a service hears that event
			return err
		}
	}
	return s.tell(ctx, []outcome{{
		key: m.Key, lane: m.Lane, seq: m.Seq, requester: a,
		status: status, reason: reason, stored: m.Stored, at: now.UnixNano(),
	}})
}

// tell stores outcomes, unless one of the message was stored before: at its deadline, or
// when the device acknowledged it and its cursor was not stored.
func (s *Cursors) tell(ctx context.Context, ended []outcome) error {
	if len(ended) == 0 {
		return nil
	}
	config, err := s.inbox.get(ctx)
	if err != nil {
		return err
	}
	old := slices.DeleteFunc(slices.Clone(ended), func(o outcome) bool { return o.at-o.stored < int64(config.Duplicates) })
	return storeOutcomes(ctx, s.publish, ended, told(ctx, s.fetch, s.publish.Proof, old))
}
