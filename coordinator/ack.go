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
	for range fetchTries {
		if werr := c.away(k); werr != nil {
			return 0, nil, werr
		}
		cursor, revision, err := c.cursors.Load(ctx, k)
		if err != nil {
			return 0, nil, err
		}
		acked, found = 0, found[:0]
		for lane := range cursor.Unacked {
			var unacked []uint64
			for _, seq := range cursor.Unacked[lane] {
				if !ack.Contains(seq) && seq != ack.Reject.Seq {
					unacked = append(unacked, seq)
					continue
				}
				m, err := c.tellSender(ctx, k, subjects.Lane(lane), seq, &ack.Reject)
				if err != nil {
					return 0, nil, err
				}
				if m != nil {
					found = append(found, m)
				}
				acked++
				cursor.Confirm(seq)
			}
			cursor.Unacked[lane] = unacked
		}
		if acked == 0 {
			return 0, nil, nil
		}
		if err := c.cursors.Store(ctx, k, cursor, revision); !errors.Is(err, inbox.ErrMoved) {
			return acked, found, err
		}
	}
	return 0, nil, send.Unavailable()
}

// tellSender tells the message's sender, if it asked, that the device has
// acknowledged or rejected it, and returns the message; nil if it is gone.
func (c *Coordinator) tellSender(ctx context.Context, k subjects.Key, lane subjects.Lane, seq uint64, reject *wire.Reject) (*envelope.Message, error) {
	m, err := c.cursors.Message(ctx, k, lane, seq)
	if m == nil || err != nil {
		return nil, err
	}
	if seq == reject.Seq {
		if err := c.cursors.Keep(ctx, m, wire.StatusRejected, reject.Reason); err != nil {
			return nil, err
		}
		c.metrics.rejected.WithLabelValues(inbox.RejectedByDevice).Inc()
		return m, nil
	}
	return m, c.cursors.Tell(ctx, wire.StatusDelivered, m)
}
