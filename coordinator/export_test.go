package coordinator

import (
	"context"
	"time"

	"github.com/rccs-io/rccs/internal/inbox"
)

// MoveQuiet is for how long no message of a task must have come before its device is
// final.
const MoveQuiet = moveQuiet

// TidyDue is what the janitor does now and then.
func (c *Coordinator) TidyDue(ctx context.Context, age time.Duration) error {
	return c.tidyDue(ctx, age)
}

// KnowsRoutes reports whether the coordinator has read the first n messages of the
// route stream, and knows the sender of each.
func (c *Coordinator) KnowsRoutes(n uint64) bool {
	for seq := uint64(1); seq <= n; seq++ {
		if c.duty.Load().router.reader.Last() < n || c.duty.Load().router.sent.of(seq) == unknown {
			return false
		}
	}
	return true
}

// Settle ends the mark of a cancelled message, as happens some time after it was
// stored.
func (c *Coordinator) Settle(w *inbox.Waiting, mark uint64) { c.duty.Load().schedules.settle(w, mark) }

// BeatEvery sets how often the coordinator tells others that it is there. It is for
// before Start.
func (c *Coordinator) BeatEvery(d time.Duration) { c.beatEvery = d }

// ID is what others know it by.
func (c *Coordinator) ID() string { return c.id }

// Works are the numbers of the shards in this process that it works.
func (c *Coordinator) Works() []int { return c.members.own().Shards }

// WorkAlone has the coordinator work its shard whatever others do, as one does that
// neither hears of them nor is heard.
func (c *Coordinator) WorkAlone(ctx context.Context) error {
	c.members.quit()
	c.members.wg.Wait()
	if err := c.members.sub.Unsubscribe(); err != nil || c.duty.Load() != nil {
		return err
	}
	return c.takeShard(ctx)
}
