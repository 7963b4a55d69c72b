package inbox

import (
	"context"
	"fmt"

	"github.com/rccs-io/rccs/internal/envelope"
	"github.com/rccs-io/rccs/internal/layout"
	"github.com/rccs-io/rccs/internal/leader"
	"github.com/rccs-io/rccs/subjects"
	"github.com/rccs-io/rccs/wire"
)

// Missed adds a gap to the cursor for messages of a lane that were counted, when the
// answer of a Read shows that fewer are stored. So the gap is told before the messages
// behind it, however many fetches those take. It reports whether any are gone. Where
// there are several copies, which may lag, only Lost tells.
func (s *Cursors) Missed(ctx context.Context, k subjects.Key, lane subjects.Lane, c *Cursor, msgs []*envelope.Message, left int) (bool, error) {
	found, from, to := uint64(left), c.Sent[lane]+1, c.UpTo //nolint:gosec // not negative
	for _, m := range msgs {
		if m.Seq >= from {
			if found++; found == uint64(left)+1 && m.Seq > from { //nolint:gosec // not negative
				to = m.Seq - 1 // the oldest messages are the first to go
			}
		}
	}
	if found >= c.Waiting[lane] || left == 0 { // at the end of the lane Lost knows more
		return false, nil
	}
	if copies, err := s.inbox.replicas(ctx); err != nil || copies > 1 {
		return false, err
	}
	l := loss{lane: lane, from: from, to: max(from, to), count: c.Waiting[lane] - found}
	c.Waiting[lane] = found
	return true, s.noteLost(ctx, k, l, c)
}

// Lost adds a gap to the cursor for messages of a lane that were counted and
// never found, and tells the senders that asked. Call it when everything that is
// stored of the lane was sent, from the message after began on. It reports whether
// any are gone.
func (s *Cursors) Lost(ctx context.Context, k subjects.Key, lane subjects.Lane, c *Cursor, began uint64) (bool, error) {
	if c.Waiting[lane] == 0 {
		return false, nil
	}
	// A lagging copy may not have shown everything. The leader knows.
	more, err := s.fetch.Holds(ctx, layout.StreamInbox, subjects.Inbox(k, lane), c.Sent[lane]+1)
	if more || err != nil {
		return false, err
	}
	end, err := leader.Info(ctx, s.inbox.js, layout.StreamInbox)
	if err != nil {
		return false, fmt.Errorf("inbox: end of the inboxes: %w", err)
	}
	// What the stream's lost end held lies behind what was counted.
	l := loss{lane: lane, from: began + 1, to: max(began+1, c.UpTo), count: c.Waiting[lane]}
	c.Sent[lane], c.Waiting[lane] = max(c.Sent[lane], min(c.UpTo, end.State.LastSeq)), 0
	return true, s.noteLost(ctx, k, l, c)
}

// noteLost adds a gap for messages that are gone to the cursor, and tells the senders
// that asked.
func (s *Cursors) noteLost(ctx context.Context, k subjects.Key, l loss, c *Cursor) error {
	reason, l, err := s.why(ctx, k, l)
	if err != nil {
		return err
	}
	if reason == wire.ReasonPurged {
		l.to = max(l.to, c.UpTo) // those need not be the oldest
	}
	c.AddGap(Gap{Lane: l.lane, From: l.from, To: l.to, Count: l.count, Reason: reason})
	return s.tellLost(ctx, k, l, reason)
}

// Left reports whether messages are stored for a device, up to a sequence, that its
// cursor does not say were sent; 0: up to any. The leader is asked: a lagging copy would
// say that there are none.
func (s *Cursors) Left(ctx context.Context, k subjects.Key, c *Cursor, upTo uint64) (bool, error) {
	for lane := range c.Sent {
		m, err := s.fetch.AtLeader(ctx, layout.StreamInbox, subjects.Inbox(k, subjects.Lane(lane)), c.Sent[lane]+1)
		if err != nil || m != nil && (upTo == 0 || m.Seq <= upTo) {
			return true, err
		}
	}
	return false, nil
}

// Explain finds the reason for those of the cursor's gaps that have none yet, and
// tells the senders that asked.
func (s *Cursors) Explain(ctx context.Context, k subjects.Key, c *Cursor) error {
	for i := range c.Gaps {
		g := &c.Gaps[i]
		if g.Reason != "" {
			continue
		}
		reason, l, err := s.why(ctx, k, loss{lane: g.Lane, from: g.From, to: g.To, count: g.Count})
		if err != nil {
			return err
		}
		if err := s.tellLost(ctx, k, l, reason); err != nil {
			return err
		}
		g.From, g.To, g.Reason = l.from, l.to, reason
	}
	return nil
}

// why returns the reason for a loss, as a gap gives it, and where the loss was.
func (s *Cursors) why(ctx context.Context, k subjects.Key, l loss) (string, loss, error) {
	if reason, l, err := written(ctx, s.last, k, l); reason != "" || err != nil {
		return reason, l, err
	}
	first, err := s.fetch.Run(ctx, layout.StreamInbox, 1, 1)
	if err != nil {
		return "", l, err
	}
	if len(first) == 0 || l.from < first[0].Seq {
		return wire.ReasonRetention, l, nil
	}
	damaged, err := s.fetch.Unreadable(ctx, layout.StreamInbox, subjects.Inbox(k, l.lane), l.from, l.to)
	if damaged {
		return wire.ReasonDamaged, l, err
	}
	return wire.ReasonPurged, l, err
}

// tellLost tells the senders that asked what became of lost messages.
func (s *Cursors) tellLost(ctx context.Context, k subjects.Key, l loss, reason string) error {
	_, err := tellLost(ctx, s.fetch, s.publish, k, l, reason)
	return err
}
