package inbox

import (
	"context"

	"github.com/rccs-io/rccs/internal/envelope"
	"github.com/rccs-io/rccs/subjects"
)

// Lane is the state of one lane of a device, as a fetch reads it.
type Lane struct {
	Key  subjects.Key
	Lane subjects.Lane
	// Sent and Waiting are those of the cursor, and Waiting is how many messages were
	// counted up to UpTo.
	Sent, Waiting, UpTo uint64
	// Unacked are the sequences that were sent and not acknowledged, and not read yet.
	Unacked []uint64
}

// Read reads up to limit messages of a lane, and about maxBytes, from the first that
// is not acknowledged; left is about how many follow. If the copy that answers lacks
// something, others are read: what is not in the answer is gone.
func (s *Cursors) Read(ctx context.Context, l *Lane, limit, maxBytes int) (msgs []*envelope.Message, left int, err error) {
	from := l.Sent + 1
	if len(l.Unacked) > 0 {
		from = l.Unacked[0]
	}
	want := expected{counted: int64(l.Waiting), floor: l.Sent, known: l.UpTo, pending: l.Unacked} //nolint:gosec // a count of messages
	msgs, left, err = s.lanes.read(ctx, l.Key, l.Lane, from-1, want, batch{limit, maxBytes})
	if more := len(msgs) - limit; more > 0 { // several copies have more together
		msgs, left = msgs[:limit], left+more
	}
	return msgs, left, err
}

// Message reads one message that was sent to a device; nil if it is gone.
func (s *Cursors) Message(ctx context.Context, k subjects.Key, lane subjects.Lane, seq uint64) (*envelope.Message, error) {
	msgs, _, err := s.lanes.read(ctx, k, lane, seq-1, expected{pending: []uint64{seq}}, batch{1, laneBytes})
	if err != nil || len(msgs) == 0 || msgs[0].Seq != seq {
		return nil, err
	}
	return msgs[0], nil
}
