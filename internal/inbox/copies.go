package inbox

import (
	"cmp"
	"context"
	"fmt"
	"log/slog"
	"math"
	"slices"
	"time"

	"github.com/rccs-io/rccs/internal/direct"
	"github.com/rccs-io/rccs/internal/envelope"
	"github.com/rccs-io/rccs/internal/layout"
	"github.com/rccs-io/rccs/internal/proof"
	"github.com/rccs-io/rccs/internal/reader"
	"github.com/rccs-io/rccs/subjects"
)

// A replica that lags, or that has a damaged block, answers without the messages
// it lacks, be it the leader or not. But the lane's count says how many were stored,
// the cursor lists those that were sent and not acknowledged, and the replica counts
// what it cannot read. So missing messages are looked for in the other copies of the
// stream before anybody is told that they are gone.

// laneReader reads lanes of inboxes from the store. Edges and coordinators, which
// read for devices on plain NATS, share it.
type laneReader struct {
	fetch *direct.Client
	proof *proof.Key // says who has sent a message
	log   *slog.Logger
	// replicas returns how many copies the stream has.
	replicas func(context.Context) (int64, error)
}

// batch bounds one answer.
type batch struct {
	messages, bytes int
}

// laneBatch is what a mailbox reads at a time.
var laneBatch = batch{laneMessages, laneBytes}

// askAgain is how often whichever copy answers is asked before copies are looked
// for. A copy that is a moment behind is the common case under traffic, and asking
// again after a pause costs little.
const askAgain = 2

// expected is what the store must hold of a lane after a position.
type expected struct {
	// counted is how many messages were counted and never sent. They are above
	// floor, and not above known.
	counted      int64
	floor, known uint64
	pending      []uint64 // the sequences of those sent and not acknowledged
	// An answer said that there are at least so many messages up to a sequence.
	within int
	upTo   uint64
}

// in reports whether an answer of the store has everything that is expected. left
// is how many more messages follow the answer.
func (e *expected) in(msgs []*envelope.Message, left int) bool {
	last, counted, within := uint64(math.MaxUint64), int64(0), 0
	if left > 0 {
		last = 0
		if len(msgs) > 0 {
			last = msgs[len(msgs)-1].Seq
		}
	}
	for _, m := range msgs {
		if m.Seq > e.floor && m.Seq <= e.known {
			counted++
		}
		if m.Seq <= e.upTo {
			within++
		}
	}
	if last < e.known {
		counted += int64(left)
	}
	if counted < e.counted || within < e.within {
		return false
	}
	for _, seq := range e.pending {
		if seq > last {
			break // it may be among those left
		}
		if !slices.ContainsFunc(msgs, func(m *envelope.Message) bool { return m.Seq == seq }) {
			return false
		}
	}
	return true
}

// read reads a batch of a lane after pos. If the answer lacks something that is
// known to be stored, read looks for it in the other copies. left is about how many
// messages follow.
func (r *laneReader) read(ctx context.Context, k subjects.Key, n subjects.Lane, pos uint64, want expected, size batch) (msgs []*envelope.Message, left int, err error) {
	msgs, left, err = r.messages(ctx, subjects.Inbox(k, n), pos+1, size)
	if err != nil || left == 0 && want.in(msgs, left) {
		return msgs, left, err
	}
	if copies, err := r.replicas(ctx); err != nil || copies <= 1 {
		return msgs, left, err
	}
	if left > 0 {
		unread, err := r.unreadable(ctx, subjects.Inbox(k, n), msgs, left)
		if err != nil {
			return nil, 0, err
		}
		if unread > 0 {
			want.within, want.upTo = len(msgs)+unread, msgs[len(msgs)-1].Seq
		}
	}
	if want.in(msgs, left) {
		return msgs, left, nil
	}
	return r.readCopies(ctx, k, n, pos, &want, gathered{msgs: msgs, total: len(msgs) + left, end: endOf(msgs, left)}, size)
}

// unreadable returns how many messages an answer has passed over that the replica
// has and cannot read. It counts them among those that follow an answer, and not
// among those that follow its last message.
func (r *laneReader) unreadable(ctx context.Context, subject string, msgs []*envelope.Message, left int) (int, error) {
	if len(msgs) == 0 {
		return 0, nil
	}
	next, more, err := r.messages(ctx, subject, msgs[len(msgs)-1].Seq+1, batch{1, 1})
	return max(left-len(next)-more, 0), err
}

// readCopies reads a lane after pos, from one copy after another, until
// everything expected is found. It returns all that was found.
func (r *laneReader) readCopies(
	ctx context.Context, k subjects.Key, n subjects.Lane, pos uint64, want *expected, found gathered, size batch,
) ([]*envelope.Message, int, error) {
	for try := range askAgain {
		wait(ctx, replicaPause<<(2*try))
		msgs, left, err := r.messages(ctx, subjects.Inbox(k, n), pos+1, size)
		switch {
		case ctx.Err() != nil:
			return nil, 0, ctx.Err()
		case err == nil:
			found.add(msgs, left)
		}
		if msgs, left = found.answer(want); want.in(msgs, left) {
			return msgs, left, nil
		}
	}
	err := reader.Copies(ctx, reader.CopiesOptions{
		Conn: r.fetch.Conn(), Stream: layout.StreamInbox, Shard: r.fetch.Shard(), Subject: subjects.Inbox(k, n), After: pos,
		Messages: size.messages, Bytes: size.bytes, Logger: r.log,
		Enough: func(got []reader.Entry, left int) bool {
			found.add(parseAll(r.proof, got), left)
			return want.in(found.answer(want))
		},
	})
	if err != nil {
		return nil, 0, fmt.Errorf("inbox: %w", err)
	}
	msgs, left := found.answer(want)
	if want.in(msgs, left) {
		r.log.Warn("messages were read from another copy of the stream",
			"device", string(k), "lane", n.String(), "after", pos, "messages", len(msgs))
	}
	return msgs, left, nil
}

// gathered is what several answers have of one lane after one position.
type gathered struct {
	msgs  []*envelope.Message
	total int    // of the answer that counts most, with what follows it
	end   uint64 // all answers reach so far
}

// endOf returns the sequence up to which an answer reaches.
func endOf(msgs []*envelope.Message, left int) uint64 {
	if left == 0 || len(msgs) == 0 {
		return math.MaxUint64
	}
	return msgs[len(msgs)-1].Seq
}

// add adds an answer.
func (g *gathered) add(msgs []*envelope.Message, left int) {
	g.total = max(g.total, len(msgs)+left)
	g.end = min(g.end, endOf(msgs, left))
	g.msgs = slices.Concat(g.msgs, msgs)
	slices.SortStableFunc(g.msgs, func(a, b *envelope.Message) int { return cmp.Compare(a.Seq, b.Seq) })
	g.msgs = slices.CompactFunc(g.msgs, func(a, b *envelope.Message) bool { return a.Seq == b.Seq })
}

// answer returns what all answers together have: up to where all of them reach, or
// up to where nothing is missing.
func (g *gathered) answer(want *expected) (msgs []*envelope.Message, left int) {
	end := g.end
	if upTo := g.upTo(want.upTo); upTo >= want.within {
		end = max(end, want.upTo)
	}
	n := g.upTo(end)
	return g.msgs[:n], max(g.total, len(g.msgs)) - n
}

// upTo returns how many messages lie at or below a sequence.
func (g *gathered) upTo(end uint64) int {
	n, found := slices.BinarySearchFunc(g.msgs, end, func(m *envelope.Message, seq uint64) int { return cmp.Compare(m.Seq, seq) })
	if found {
		n++
	}
	return n
}

// messages reads a batch of one lane from seq on, from whichever copy answers; left
// is about how many more it has.
func (r *laneReader) messages(ctx context.Context, subject string, seq uint64, size batch) (msgs []*envelope.Message, left int, err error) {
	got, left, err := r.fetch.Next(ctx, layout.StreamInbox, subject, seq, size.messages, size.bytes)
	if err != nil {
		return nil, 0, err
	}
	return parseAll(r.proof, got), left, nil
}

// parseAll returns the messages of stored ones that are messages of inboxes.
func parseAll[T direct.Stored | reader.Entry](k *proof.Key, stored []T) []*envelope.Message {
	msgs := make([]*envelope.Message, 0, len(stored))
	for _, s := range stored {
		if m, ok := envelope.Parse(k, envelope.Stored(s)); ok {
			msgs = append(msgs, m)
		}
	}
	return msgs
}

// wait returns after a time, or when ctx ends.
func wait(ctx context.Context, d time.Duration) {
	select {
	case <-time.After(d):
	case <-ctx.Done():
	}
}
