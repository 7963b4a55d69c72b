package inbox

import (
	"context"
	"slices"
	"time"

	"github.com/rccs-io/rccs/internal/envelope"
	"github.com/rccs-io/rccs/internal/layout"
	"github.com/rccs-io/rccs/internal/reader"
	"github.com/rccs-io/rccs/subjects"
)

// A replica that lags, or whose block is damaged, answers without the messages
// that it lacks. The count of a lane says that they were stored, and the cursor
// which were sent and not acknowledged, so they are looked for in other copies
// before anybody is told that they are gone.

const (
	// copyTries bounds how many copies are read. A consumer reads one server's
	// copy, and each new one may be another server's.
	copyTries = 8
	// copyTimeout bounds the reading of one.
	copyTimeout = 5 * time.Second
)

// expected is what a lane must hold behind a position.
type expected struct {
	counted int64    // messages that were never sent
	pending []uint64 // the sequences of those sent and not acknowledged
}

// in reports whether an answer of the store, behind which left more are, has all
// of it.
func (e *expected) in(msgs []*envelope.Message, left int) bool {
	if int64(len(msgs)+left) < e.counted {
		return false
	}
	for _, seq := range e.pending {
		if left > 0 && (len(msgs) == 0 || seq > msgs[len(msgs)-1].Seq) {
			break // it may be among those
		}
		if !slices.ContainsFunc(msgs, func(m *envelope.Message) bool { return m.Seq == seq }) {
			return false
		}
	}
	return true
}

// readCopies reads a lane from behind pos until all that is expected is found,
// and returns the fullest answer.
func (h *Hub) readCopies(
	ctx context.Context, k subjects.Key, n subjects.Lane, pos uint64, want *expected, best []*envelope.Message, left int,
) ([]*envelope.Message, int, error) {
	for try := range copyTries {
		if want.in(best, left) {
			if try > 0 {
				h.opts.Logger.Warn("messages were read from another copy of the stream",
					"device", string(k), "lane", n.String(), "after", pos, "messages", len(best))
			}
			break
		}
		msgs, more, err := h.readCopy(ctx, k, n, pos)
		if err != nil {
			if ctx.Err() != nil {
				return nil, 0, err
			}
			continue // the server that held this consumer went
		}
		if len(msgs)+more > len(best)+left {
			best, left = msgs, more
		}
	}
	return best, left, nil
}

// readCopy reads a batch of a lane by a consumer of its own, and counts what is
// behind it.
func (h *Hub) readCopy(ctx context.Context, k subjects.Key, n subjects.Lane, pos uint64) (msgs []*envelope.Message, left int, err error) {
	ctx, cancel := context.WithTimeout(ctx, copyTimeout)
	defer cancel()
	bytes := 0
	r, err := reader.New(reader.Options{
		Conn: h.opts.Fetch, Stream: layout.StreamInbox, FromStart: true, After: pos, Logger: h.opts.Logger,
		Filter: []string{subjects.Inbox(k, n)}, Batch: laneMessages,
		Handle: func(e reader.Entry) {
			m, ok := envelope.Parse(h.opts.Publish.Proof, envelope.Stored(e))
			switch {
			case !ok:
			case len(msgs) < laneMessages && bytes < laneBytes && left == 0:
				msgs = append(msgs, m)
				bytes += m.Cost()
			default:
				left++
			}
		},
	})
	if err != nil {
		return nil, 0, err
	}
	if err := r.Start(ctx); err != nil {
		return nil, 0, err
	}
	return msgs, left, r.Stop(ctx)
}
