package coordinator

import (
	"context"
	"time"

	"github.com/rccs-io/rccs/internal/envelope"
	"github.com/rccs-io/rccs/internal/epoch"
	"github.com/rccs-io/rccs/internal/inbox"
	"github.com/rccs-io/rccs/internal/layout"
	"github.com/rccs-io/rccs/internal/leader"
	"github.com/rccs-io/rccs/subjects"
	"github.com/rccs-io/rccs/wire"
)

// fetchBatch is the answer to one fetch.
type fetchBatch struct {
	c     *Coordinator
	to    subjects.Address
	limit int
	room  int    // for body, in bytes
	sent  uint64 // the highest sequence that the device was sent before

	body     []byte // the array, without its end
	count    int
	full     bool
	changed  bool // the cursor has to be stored
	expired  []*envelope.Message
	replaced []*envelope.Message
	rejected []*envelope.Message // they were given out too often
	tooLarge []*envelope.Message // no answer can hold any of them
	recorded []envelope.Delivery // that may be recorded
	newest   *inbox.Newest

	asked         bool   // redeliverUpTo is known, and of which epoch newest is
	redeliverUpTo uint64 // a message up to it may have been sent, whatever the cursor says
}

// fill adds unacknowledged messages, higher lanes first, and records in the cursor that
// they were sent.
func (p *fetchBatch) fill(ctx context.Context, cursor *inbox.Cursor) error {
	for lane := subjects.Critical; ; lane-- {
		if err := p.fillLane(ctx, cursor, lane); err != nil || p.full {
			return err
		}
		if lane == subjects.Low {
			return p.finalize(ctx, cursor)
		}
	}
}

// finalize closes the cursor's session when no message is left that an edge may have
// sent.
func (p *fetchBatch) finalize(ctx context.Context, cursor *inbox.Cursor) error {
	if !cursor.Open {
		return nil
	}
	left, err := p.c.cursors.Left(ctx, p.to.Key(), cursor, p.redeliverUpTo)
	if err != nil || left {
		return err
	}
	p.changed, cursor.Open = true, false
	return nil
}

// fillLane is fill for one lane.
func (p *fetchBatch) fillLane(ctx context.Context, cursor *inbox.Cursor, lane subjects.Lane) error {
	unacked, kept := cursor.Unacked[lane], []uint64(nil)
	sent := cursor.Sent[lane]
	began := sent
	defer func() { cursor.Sent[lane], cursor.Unacked[lane] = sent, append(kept, unacked...) }()
	for !p.full {
		msgs, left, err := p.c.cursors.Read(ctx, &inbox.Lane{
			Key: p.to.Key(), Lane: lane, Sent: sent, Waiting: cursor.Waiting[lane], UpTo: cursor.UpTo, Unacked: unacked,
		}, p.limit-p.count, p.room)
		if err != nil {
			return err
		}
		cursor.Sent[lane] = sent
		some, err := p.c.cursors.Missed(ctx, p.to.Key(), lane, cursor, msgs, left)
		if p.changed = p.changed || some; err != nil {
			return err
		}
		for _, m := range msgs {
			seq := m.Seq
			unacked = p.missing(cursor, lane, unacked, seq)
			redelivered := len(unacked) > 0 && unacked[0] == seq
			if !redelivered && seq <= sent {
				continue // acknowledged, between others that are not
			}
			before, err := p.mayHaveBeenSent(ctx, cursor, redelivered, seq)
			if err != nil {
				return err
			}
			stale := false
			if !before {
				if stale, err = p.c.cursors.Replaced(ctx, m, p.newest); err != nil {
					return err
				}
			}
			keep := p.add(cursor, m, before, stale)
			if p.full && !keep {
				return nil // its turn is next time
			}
			if redelivered {
				unacked = unacked[1:]
			} else {
				p.changed, sent = true, seq
				cursor.Advance(lane, seq)
			}
			if keep {
				kept = append(kept, seq)
			}
		}
		if left == 0 || len(msgs) == 0 {
			unacked = p.missing(cursor, lane, unacked, 1<<63)
			cursor.Sent[lane] = sent
			some, err := p.c.cursors.Lost(ctx, p.to.Key(), lane, cursor, began)
			p.changed = p.changed || some
			sent = cursor.Sent[lane]
			return err
		}
	}
	return nil
}

// mayHaveBeenSent reports whether a message may have been sent to the device
// before. Either the cursor says so, or the cursor may be older than what was
// sent, or the edge that held the device last did not store how far it came.
func (p *fetchBatch) mayHaveBeenSent(ctx context.Context, cursor *inbox.Cursor, unacked bool, seq uint64) (bool, error) {
	if unacked {
		return true, nil
	}
	if !p.asked {
		info, err := leader.InfoSince(ctx, p.c.js, layout.StreamInbox, max(seq, cursor.UpTo))
		if err != nil {
			return false, err
		}
		p.asked, p.redeliverUpTo = true, epoch.RedeliverUpTo(info)
		if now := epoch.Of(info); p.newest.Epoch != now { // sequences may be others'
			*p.newest = inbox.Newest{Epoch: now}
		}
		if cursor.Open {
			p.redeliverUpTo = info.State.LastSeq
		}
	}
	return seq <= p.redeliverUpTo, nil
}

// add adds a message to the answer, unless the message ends here or there is no room.
// keep reports whether the cursor keeps it as sent. before says that it may have been
// sent before, stale that a newer message replaces it.
func (p *fetchBatch) add(cursor *inbox.Cursor, m *envelope.Message, before, stale bool) (keep bool) {
	end := func(of *[]*envelope.Message) bool {
		*of = append(*of, m)
		p.changed = true
		return false
	}
	at, most := m.Expires(), p.c.opts.MaxDeliveries
	switch {
	case at != 0 && at <= time.Now().UnixNano():
		return end(&p.expired)
	case stale:
		return end(&p.replaced)
	case most > 0 && cursor.Deliveries(m.Lane, m.Seq) >= most:
		return end(&p.rejected)
	}
	d := envelope.Delivery{Message: m, Redelivered: before}
	one := envelope.Append(nil, &d, p.to)
	switch {
	case len(one)+2 > p.room:
		cursor.AddGap(inbox.Gap{Lane: m.Lane, From: m.Seq, To: m.Seq, Count: 1, Reason: wire.ReasonTooLarge})
		return end(&p.tooLarge)
	case len(p.body)+len(one)+2 > p.room:
		p.full = true
		return false
	}
	p.append(one)
	if most > 0 {
		cursor.CountDelivery(m.Lane, m.Seq)
		p.changed = true
	}
	cursor.NoteRequester(m)
	if p.c.opts.Tracer != nil && m.Traceparent() != "" {
		p.recorded = append(p.recorded, d)
	}
	p.count++
	p.full = p.count >= p.limit
	return true
}

func (p *fetchBatch) append(envelope []byte) {
	if len(p.body) == 0 {
		p.body = append(p.body, '[')
	} else {
		p.body = append(p.body, ',')
	}
	p.body = append(p.body, envelope...)
}

// missing drops from unacked the sequences lower than below, whose messages no copy of
// the store has. The cursor gets a gap, by which the device and the senders are told.
func (p *fetchBatch) missing(cursor *inbox.Cursor, lane subjects.Lane, unacked []uint64, below uint64) []uint64 {
	g := inbox.Gap{Lane: lane}
	for len(unacked) > 0 && unacked[0] < below {
		if g.Count == 0 {
			g.From = unacked[0]
		}
		g.To = unacked[0]
		g.Count++
		unacked = unacked[1:]
	}
	if g.Count > 0 {
		cursor.AddGap(g)
		p.changed = true
	}
	return unacked
}

// tellGaps puts the gaps that this fetch and edges have found before the messages. They
// are told again with each fetch that brings something, until the device acknowledges a
// later message.
func (p *fetchBatch) tellGaps(ctx context.Context, cursor *inbox.Cursor) error {
	if err := p.c.cursors.Explain(ctx, p.to.Key(), cursor); err != nil {
		return err
	}
	messages := p.body
	p.body = nil
	for i := range cursor.Gaps {
		g := &cursor.Gaps[i]
		if g.Told && len(messages) == 0 {
			continue
		}
		told := g.Wire()
		if one := told.Append(nil); len(p.body)+len(one)+len(messages) <= p.room+fetchRoom/2 {
			p.append(one)
			if !g.Told {
				p.changed, g.Told, g.After = true, true, p.sent
			}
		}
	}
	if len(messages) > 0 {
		p.append(messages[1:])
	}
	return nil
}

// store stores the cursor, which knows what was given out. First it tells the senders
// of messages that ended otherwise.
func (p *fetchBatch) store(ctx context.Context, cursor *inbox.Cursor, revision uint64) error {
	if !p.changed {
		return nil
	}
	if err := p.c.cursors.Tell(ctx, wire.StatusExpired, p.expired...); err != nil {
		return err
	}
	if err := p.c.cursors.Tell(ctx, wire.StatusReplaced, p.replaced...); err != nil {
		return err
	}
	for _, m := range p.rejected {
		if err := p.c.cursors.Keep(ctx, m, wire.StatusRejected, wire.ReasonMaxDeliveries); err != nil {
			return err
		}
	}
	for _, m := range p.tooLarge {
		if err := p.c.cursors.Keep(ctx, m, wire.StatusUndeliverable, wire.ReasonTooLarge); err != nil {
			return err
		}
	}
	if err := p.c.cursors.Store(ctx, p.to.Key(), *cursor, revision); err != nil {
		return err
	}
	p.c.metrics.rejected.WithLabelValues(inbox.RejectedMaxDeliveries).Add(float64(len(p.rejected)))
	p.c.metrics.rejected.WithLabelValues(inbox.RejectedTooLarge).Add(float64(len(p.tooLarge)))
	return nil
}
