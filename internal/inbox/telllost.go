package inbox

import (
	"context"
	"math"

	"github.com/rccs-io/rccs/internal/direct"
	"github.com/rccs-io/rccs/internal/layout"
	"github.com/rccs-io/rccs/internal/reader"
	"github.com/rccs-io/rccs/subjects"
)

// tellLost tells the senders that asked what became of messages that are gone,
// and drops their deadlines.
func (h *Hub) tellLost(ctx context.Context, k subjects.Key, l loss, reason string) error {
	over, err := tellLost(ctx, h.fetch, h.opts.Publish, k, l, reason)
	if err != nil {
		return err
	}
	return h.dropDeadlines(ctx, over)
}

// tellLost stores the outcomes of messages that are gone, and returns the
// sequences of their deadlines. A message that the device acknowledged long ago may be
// among them: its sender has heard another outcome.
func tellLost(ctx context.Context, fetch *direct.Client, publish *Publisher, k subjects.Key, l loss, reason string) (over []uint64, err error) {
	lost, over, err := lostOutcomes(ctx, fetch, k, l, reason)
	if err != nil {
		return nil, err
	}
	return over, storeOutcomes(ctx, publish, lost, told(ctx, fetch, publish.Proof, lost))
}

// lostOutcomes returns the outcomes of messages that are gone. The deadlines say
// who asked, since they outlive the messages; over are their sequences. Messages
// between from and to of a loss that are still stored are left out.
func lostOutcomes(ctx context.Context, fetch *direct.Client, k subjects.Key, l loss, reason string) (lost []outcome, over []uint64, err error) {
	stored := storedAmong{fetch: fetch, subject: subjects.Inbox(k, l.lane)}
	for from := uint64(1); ; {
		got, left, err := fetch.Next(ctx, layout.StreamDeadline, layout.Deadline(k), from, laneMessages, laneBytes)
		if err != nil {
			return nil, nil, err
		}
		for _, s := range got {
			from = s.Seq + 1
			o, ok := expiredBy(reader.Entry(s), k, l, reason)
			if !ok {
				continue
			}
			switch there, err := stored.has(ctx, o.seq); {
			case err != nil:
				return nil, nil, err
			case !there:
				lost, over = append(lost, o), append(over, s.Seq)
			}
		}
		if left == 0 || len(got) == 0 {
			return lost, over, nil
		}
	}
}

// storedAmong finds out whether messages of a lane are still stored. It remembers
// where it has found nothing, so that a purge costs one request.
type storedAmong struct {
	fetch    *direct.Client
	subject  string
	from, to uint64 // nothing is stored at from <= seq < to
}

func (a *storedAmong) has(ctx context.Context, seq uint64) (bool, error) {
	if a.from <= seq && seq < a.to {
		return false, nil
	}
	next, err := a.fetch.AtLeader(ctx, layout.StreamInbox, a.subject, seq)
	if err != nil { // such as a damaged block, which Direct Get skips
		msgs, _, err := a.fetch.Next(ctx, layout.StreamInbox, a.subject, seq, 1, laneBytes)
		if err != nil {
			return false, err
		}
		if next = nil; len(msgs) > 0 {
			next = &msgs[0]
		}
	}
	a.from, a.to = seq, math.MaxUint64
	if next != nil {
		a.to = next.Seq
	}
	return a.to == seq, nil
}
