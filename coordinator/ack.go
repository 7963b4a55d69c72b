package coordinator

import (
	"context"
	"errors"

	"github.com/rccs-io/rccs/internal/envelope"
	"github.com/rccs-io/rccs/internal/inbox"
	"github.com/rccs-io/rccs/internal/send"
	"github.com/rccs-io/rccs/subjects"
	"github.com/rccs-io/rccs/wire"
)

// ackCursor moves a device's stored cursor by compare-and-set, and returns how
// many messages it has acknowledged, and those of them that are still stored.
// Senders that asked are told first. After a crash in between the message is sent
// again, but no second outcome is stored.
func (c *Coordinator) ackCursor(ctx context.Context, k subjects.Key, ack *wire.Ack) (acked int, found []*envelope.Message, err error) {
	last, err := c.roster.Supersede(ctx, k)
	if err != nil {
		return 0, nil, err
	}
	for range fetchTries {
		if werr := c.away(k); werr != nil {
			return 0, nil, werr
		}
		cursor, revision, err := c.cursors.Load(ctx, k)
		if err != nil {
			return 0, nil, err
		}
		cursor.Follows(last)
		done, err := c.confirm(ctx, k, &cursor, ack)
		if err != nil || done.n == 0 {
			return 0, nil, err
		}
		if err := c.cursors.Tell(ctx, wire.StatusDelivered, done.delivered...); err != nil {
			return 0, nil, err
		}
		if err := c.cursors.Store(ctx, k, cursor, revision); !errors.Is(err, inbox.ErrMoved) {
			return done.n, append(done.rejected, done.delivered...), err
		}
	}
	return 0, nil, send.Unavailable()
}

// confirmed is what a device has acknowledged or rejected: how many messages, and
// those that are still stored.
type confirmed struct {
	n                   int
	delivered, rejected []*envelope.Message
}

// confirm takes the messages that ack names out of the cursor. Messages that are
// rejected it keeps, and of those that are gone it tells.
func (c *Coordinator) confirm(ctx context.Context, k subjects.Key, cursor *inbox.Cursor, ack *wire.Ack) (done confirmed, err error) {
	for lane := range cursor.Unacked {
		var unacked []uint64
		for _, seq := range cursor.Unacked[lane] {
			if !ack.Contains(seq) && seq != ack.Reject.Seq {
				unacked = append(unacked, seq)
				continue
			}
			m, err := c.cursors.Message(ctx, k, subjects.Lane(lane), seq)
			switch {
			case err != nil:
				return done, err
			case m == nil:
				if err := c.cursors.TellGone(ctx, k, subjects.Lane(lane), seq); err != nil {
					return done, err
				}
			case seq == ack.Reject.Seq:
				if err := c.reject(ctx, m, ack.Reject.Reason); err != nil {
					return done, err
				}
				done.rejected = append(done.rejected, m)
			default:
				done.delivered = append(done.delivered, m)
			}
			done.n++
			cursor.Confirm(seq)
		}
		cursor.Unacked[lane] = unacked
	}
	return done, nil
}

// reject keeps a message that the device has rejected, and tells a sender that asked.
func (c *Coordinator) reject(ctx context.Context, m *envelope.Message, reason string) error {
	if err := c.cursors.Keep(ctx, m, wire.StatusRejected, reason); err != nil {
		return err
	}
	c.metrics.rejected.WithLabelValues(inbox.RejectedByDevice).Inc()
	return nil
}
