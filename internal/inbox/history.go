package inbox

import (
	"cmp"
	"context"
	"slices"

	"github.com/rccs-io/rccs/internal/envelope"
	"github.com/rccs-io/rccs/internal/layout"
	"github.com/rccs-io/rccs/subjects"
)

// History reads up to limit messages of a device's inbox, from the sequence from
// on, and about maxBytes of payload. They are of all lanes, in the order of
// storage, acknowledged or not. next is the sequence to go on from; 0 when there
// are no more. No cursor changes.
func (h *Hub) History(ctx context.Context, k subjects.Key, from uint64, limit, maxBytes int) (msgs []*envelope.Message, next uint64, err error) {
	// If a lane has more, nobody knows what follows the last message read of it.
	// So the answer must end there.
	end := uint64(0)
	for n := range subjects.Lane(subjects.Lanes) {
		got, left, err := h.fetch.Next(ctx, layout.StreamInbox, subjects.Inbox(k, n), from, limit, maxBytes)
		if err != nil {
			return nil, 0, err
		}
		for _, s := range got {
			if m, ok := envelope.Parse(h.opts.Publish.Proof, envelope.Stored(s)); ok {
				msgs = append(msgs, m)
			}
		}
		if last := len(got) - 1; left > 0 && last >= 0 && (end == 0 || got[last].Seq < end) {
			end = got[last].Seq
		}
	}
	slices.SortFunc(msgs, func(a, b *envelope.Message) int { return cmp.Compare(a.Seq, b.Seq) })
	bytes := 0
	for i, m := range msgs {
		if end != 0 && m.Seq > end {
			return msgs[:i], end + 1, nil // not m: one that was not read may be before it
		}
		bytes += m.Cost()
		if i == limit || i > 0 && bytes > maxBytes {
			return msgs[:i], m.Seq, nil
		}
	}
	if end != 0 {
		next = end + 1
	}
	return msgs, next, nil
}
