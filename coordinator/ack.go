package coordinator

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/rccs-io/rccs/internal/envelope"
	"github.com/rccs-io/rccs/internal/inbox"
	"github.com/rccs-io/rccs/internal/layout"
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
	got, there, err := c.stored(ctx, layout.StreamInbox, seq)
	if err != nil || !there {
		return nil, err
	}
	m, ok := envelope.Parse(c.pub.Proof, envelope.Stored(got))
	if !ok || m.Key != k || m.Lane != lane {
		return nil, nil // a damaged cursor named it
	}
	if seq == reject.Seq {
		if err := c.cursors.Reject(ctx, m, reject.Reason); err != nil {
			return nil, err
		}
		c.metrics.rejected.WithLabelValues(inbox.RejectedByDevice).Inc()
		return m, nil
	}
	return m, c.cursors.Tell(ctx, m, wire.StatusDelivered)
}

// errLagging means that a replica does not have what is known to exist yet.
var errLagging = errors.New("coordinator: the replica that answers lags behind")

// isGone asks the stream's leader whether a message of the inbox stream is gone.
// A replica that does not have the message yet would say so too.
func (c *Coordinator) isGone(ctx context.Context, seq uint64) (bool, error) {
	answer, err := c.core.RequestWithContext(ctx, "$JS.API.STREAM.MSG.GET."+layout.StreamInbox, fmt.Appendf(nil, `{"seq":%d}`, seq))
	if err != nil {
		return false, fmt.Errorf("coordinator: look for message %d: %w", seq, err)
	}
	var got struct {
		Error *jetstream.APIError `json:"error"`
	}
	if err := json.Unmarshal(answer.Data, &got); err != nil {
		return false, fmt.Errorf("coordinator: look for message %d: %w", seq, err)
	}
	switch {
	case got.Error == nil:
		return false, nil
	case got.Error.ErrorCode == jetstream.JSErrCodeMessageNotFound:
		return true, nil
	}
	return false, got.Error
}
