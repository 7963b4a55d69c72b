package coordinator

import (
	"context"
	"fmt"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/rccs-io/rccs/internal/direct"
	"github.com/rccs-io/rccs/internal/layout"
	"github.com/rccs-io/rccs/subjects"
)

// What was due stays in StreamLater after StreamInbox has taken it in. It would
// grow there for ever, and could come a second time: a server that starts finds
// out where to go on from the last such message in the inbox stream, and begins
// anew when retention has taken that.

const (
	tidyEvery = time.Minute
	// tidyAge is how long ago a message must have been due. The inbox stream
	// takes it in within moments; what it says of how far it is may be that old.
	tidyAge = 5 * time.Minute
	// tidyQuiet is how long ago the inbox stream may have heard of StreamLater.
	tidyQuiet = time.Minute
)

// tidyDue removes what was due longer ago than age and taken in.
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
		took = took || source.Name == subjects.StreamLater && source.Lag == 0 && source.Active >= 0 && source.Active < tidyQuiet
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

// firstSince is the sequence of the first message that was stored at a time or
// later; 0 when there is none.
func (c *Coordinator) firstSince(ctx context.Context, stream string, at time.Time) (uint64, error) {
	at = at.UTC()
	msgs, _, err := c.direct.Get(ctx, stream, &direct.Request{StartTime: &at, Batch: 1})
	if err != nil {
		return 0, fmt.Errorf("coordinator: look into %s: %w", stream, err)
	}
	if len(msgs) == 0 {
		return 0, nil
	}
	return msgs[0].Seq, nil
}
