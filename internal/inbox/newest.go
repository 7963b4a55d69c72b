package inbox

import (
	"context"

	"github.com/rccs-io/rccs/internal/envelope"
	"github.com/rccs-io/rccs/subjects"
)

// Newest knows the newest message of each collapse key of a device, as far as it was
// read. Where [Mailbox] keeps that as long as it is attached, it is kept from one fetch
// of a device on plain NATS to the next. It is of one epoch of the inbox stream, and
// not safe for concurrent use.
type Newest struct {
	Epoch string

	seqs map[string]uint64
	// What is stored above after and up to upTo was read. read: upTo was the end,
	// in this fetch.
	after, upTo uint64
	read        bool
}

// Again is called before another fetch: more may be stored.
func (n *Newest) Again() { n.read = false }

// Len returns how many keys are known.
func (n *Newest) Len() int { return len(n.seqs) }

// Replaced reports whether a newer message with the collapse key of m is stored, in
// whatever lane. It reads what is stored behind m once.
func (s *Cursors) Replaced(ctx context.Context, m *envelope.Message, n *Newest) (bool, error) {
	key := m.CollapseKey()
	if key == "" {
		return false, nil
	}
	if n.seqs == nil {
		n.seqs = make(map[string]uint64)
		n.after, n.upTo = m.Seq, m.Seq
	}
	if m.Seq < n.after {
		if _, err := s.readKeys(ctx, m.Key, n, m.Seq, n.after); err != nil {
			return false, err
		}
		n.after = m.Seq
	}
	if !n.read {
		end, err := s.readKeys(ctx, m.Key, n, n.upTo, 1<<63)
		if err != nil {
			return false, err
		}
		n.upTo, n.read = end, true
	}
	return n.seqs[key] > m.Seq, nil
}

// readKeys notes the keys of what is stored for a device above after and up to upTo. It
// returns the sequence of the last message, or after.
func (s *Cursors) readKeys(ctx context.Context, k subjects.Key, n *Newest, after, upTo uint64) (uint64, error) {
	a, err := k.Address()
	if err != nil {
		return after, err
	}
	for {
		msgs, left, err := s.lanes.messages(ctx, subjects.Scope(a).Inboxes(), after+1, laneBatch)
		if err != nil {
			return after, err
		}
		for _, m := range msgs {
			if m.Seq > upTo {
				return after, nil
			}
			after = m.Seq
			if key := m.CollapseKey(); key != "" {
				n.seqs[key] = max(n.seqs[key], m.Seq)
			}
		}
		if left == 0 || len(msgs) == 0 {
			return after, nil
		}
	}
}
