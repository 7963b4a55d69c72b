package inbox

import (
	"cmp"
	"context"
	"slices"

	"github.com/rccs-io/rccs/internal/envelope"
	"github.com/rccs-io/rccs/internal/layout"
	"github.com/rccs-io/rccs/subjects"
)

// History reads up to limit messages of a device's inbox from the sequence
// from on, acknowledged or not, over all lanes in the order of storage, and
// about maxBytes of payload. next is where to go on; 0 when there is no more.
// No cursor is touched.
func (h *Hub) History(ctx context.Context, k subjects.Key, from uint64, limit, maxBytes int) (msgs []*envelope.Message, next uint64, err error) {
	// Of a lane that has more, what comes after the last message read of it
	// is not known, so the answer must end there.
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
