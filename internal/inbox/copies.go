package inbox

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/rccs-io/rccs/internal/envelope"
	"github.com/rccs-io/rccs/internal/layout"
	"github.com/rccs-io/rccs/internal/reader"
	"github.com/rccs-io/rccs/subjects"
)

// A replica that lags, or that has a damaged block, answers without the messages
// it lacks. But the lane's count says how many were stored, and the cursor lists
// those that were sent and not acknowledged. So the hub looks for missing
// messages in other copies of the stream before it reports them as gone.

const (
	// askAgain is how often whichever copy answers is asked before copies are
	// looked for.
	askAgain = 2
	// copyTries bounds how many copies are read. A consumer reads one server's
	// copy, and a new consumer may be on another server.
	copyTries = 8
	// copyPause follows a copy that could not be read.
	copyPause = 100 * time.Millisecond
	// copyTimeout bounds the reading of one copy.
	copyTimeout = 5 * time.Second
)

// expected is what the store must hold of a lane after a position.
type expected struct {
	counted int64    // messages that were never sent
	pending []uint64 // the sequences of those sent and not acknowledged
}

// in reports whether an answer of the store has everything that is expected. left
// is how many more messages follow the answer.
func (e *expected) in(msgs []*envelope.Message, left int) bool {
	if int64(len(msgs)+left) < e.counted {
		return false
	}
	for _, seq := range e.pending {
		if left > 0 && (len(msgs) == 0 || seq > msgs[len(msgs)-1].Seq) {
			break // it may be among those left
		}
		if !slices.ContainsFunc(msgs, func(m *envelope.Message) bool { return m.Seq == seq }) {
			return false
		}
	}
	return true
}

// readCopies reads a lane after pos, from one copy after another, until
// everything expected is found. It returns the fullest answer. A copy that is a
// moment behind is the common case under traffic, and asking again after a pause
// costs little: so that comes first.
//
// What is not found counts as gone. So it is an error if hardly any copy could be
// read, as while the cluster chooses leaders.
func (h *Hub) readCopies(
	ctx context.Context, k subjects.Key, n subjects.Lane, pos uint64, want *expected, best []*envelope.Message, left int,
) ([]*envelope.Message, int, error) {
	read, unread := 0, error(nil)
	for try := range askAgain + copyTries {
		if want.in(best, left) {
			if try > askAgain {
				h.opts.Logger.Warn("messages were read from another copy of the stream",
					"device", string(k), "lane", n.String(), "after", pos, "messages", len(best))
			}
			return best, left, nil
		}
		msgs, more, err := h.readOther(ctx, k, n, pos, try)
		if err != nil {
			if ctx.Err() != nil {
				return nil, 0, err
			}
			unread = err // the server that held this consumer is gone, or none is chosen
			continue
		}
		if try >= askAgain {
			read++
		}
		if len(msgs)+more > len(best)+left {
			best, left = msgs, more
		}
	}
	if read < int(h.replicas.Load()) && !want.in(best, left) {
		return nil, 0, fmt.Errorf("inbox: read other copies of %s: %w", layout.StreamInbox, unread)
	}
	return best, left, nil
}

// readOther reads a batch of a lane for the nth time.
func (h *Hub) readOther(ctx context.Context, k subjects.Key, n subjects.Lane, pos uint64, try int) ([]*envelope.Message, int, error) {
	if try < askAgain {
		return h.readAgain(ctx, k, n, pos, replicaPause<<(2*try))
	}
	msgs, left, err := h.readCopy(ctx, k, n, pos)
	if err != nil {
		wait(ctx, copyPause)
	}
	return msgs, left, err
}

// readAgain reads a batch of a lane from whichever copy answers, after a pause.
func (h *Hub) readAgain(
	ctx context.Context, k subjects.Key, n subjects.Lane, pos uint64, pause time.Duration,
) (msgs []*envelope.Message, left int, err error) {
	wait(ctx, pause)
	return h.messages(ctx, subjects.Inbox(k, n), pos+1)
}

// readCopy reads a batch of a lane with a consumer of its own. left is how many
// follow the batch, as the copy's server counts them.
func (h *Hub) readCopy(ctx context.Context, k subjects.Key, n subjects.Lane, pos uint64) (msgs []*envelope.Message, left int, err error) {
	ctx, cancel := context.WithTimeout(ctx, copyTimeout)
	defer cancel()
	reading, enough := context.WithCancel(ctx)
	defer enough()
	bytes := 0
	full := func() bool { return len(msgs) >= laneMessages || bytes >= laneBytes }
	var r *reader.Reader
	r, err = reader.New(reader.Options{
		Conn: h.opts.Fetch, Stream: layout.StreamInbox, FromStart: true, After: pos, Logger: h.opts.Logger,
		Filter: []string{subjects.Inbox(k, n)}, Batch: laneMessages,
		Handle: func(e reader.Entry) {
			m, ok := envelope.Parse(h.opts.Publish.Proof, envelope.Stored(e))
			if !ok || full() {
				return
			}
			msgs = append(msgs, m)
			if bytes += m.Cost(); full() {
				left = int(r.Behind()) //nolint:gosec // a count of messages
				enough()
			}
		},
	})
	if err != nil {
		return nil, 0, err
	}
	if err := r.Start(reading); err != nil && (reading.Err() == nil || ctx.Err() != nil) { // not because it is enough
		return nil, 0, err
	}
	err = r.Stop(ctx) // from here on msgs and left do not change
	return msgs, left, err
}

// wait returns after a time, or when ctx ends.
func wait(ctx context.Context, d time.Duration) {
	select {
	case <-time.After(d):
	case <-ctx.Done():
	}
}
