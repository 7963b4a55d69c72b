package coordinator

import (
	"context"
	"fmt"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/rccs-io/rccs/internal/layout"
	"github.com/rccs-io/rccs/subjects"
)

// A scheduled message stays in StreamLater after it was due and StreamInbox has
// taken it in. It would stay for ever, and could be delivered a second time: a
// starting server learns from the last such message in the inbox stream where to
// go on, and begins anew if retention has removed that message.

const (
	tidyEvery = time.Minute
	// tidyAge is how long ago a message must have been due. The inbox stream
	// takes it in within moments, but its report of how far it has come may be
	// that old.
	tidyAge = 5 * time.Minute
	// tidyQuiet bounds how long ago the inbox stream may last have heard of
	// StreamLater.
	tidyQuiet = time.Minute
)

// tidyDue removes messages that were due longer ago than age and that were taken
// in.
func (c *Coordinator) tidyDue(ctx context.Context, age time.Duration) error {
	cut := time.Now().Add(-age)
	later, err := c.js.Stream(ctx, subjects.StreamLater)
	if err != nil {
		return fmt.Errorf("coordinator: stream %s: %w", subjects.StreamLater, err)
	}
	inbox, err := c.js.Stream(ctx, layout.StreamInbox)
	if err != nil {
		return fmt.Errorf("coordinator: stream %s: %w", layout.StreamInbox, err)
	}
	took := false
	for _, source := range inbox.CachedInfo().Sources {
		took = took || source.Name == c.opts.Shard.Stream(subjects.StreamLater) && source.Lag == 0 && source.Active >= 0 && source.Active < tidyQuiet
	}
	if !took {
		return nil // it is behind, or not heard of: another time
	}
	next := later.CachedInfo().State.LastSeq + 1
	if age > 0 {
		seq, err := c.firstSince(ctx, subjects.StreamLater, cut)
		if err != nil {
			return err
		}
		if seq != 0 {
			next = min(next, seq)
		}
	}
	from, _ := layout.DueToInbox()
	if err := later.Purge(ctx, jetstream.WithPurgeSubject(from), jetstream.WithPurgeSequence(next)); err != nil {
		return fmt.Errorf("coordinator: remove what was due: %w", err)
	}
	return nil
}

// firstSince returns the sequence of the first message that was stored at a time
// or later; 0 if there is none. Where a copy that lags says so, too much would be
// removed: the leader is asked.
func (c *Coordinator) firstSince(ctx context.Context, stream string, at time.Time) (uint64, error) {
	first, err := c.direct.AtLeaderSince(ctx, stream, ">", at)
	if err != nil {
		return 0, fmt.Errorf("coordinator: look into %s: %w", stream, err)
	}
	if first == nil {
		return 0, nil
	}
	return first.Seq, nil
}
