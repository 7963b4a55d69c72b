package coordinator

import (
	"context"
	"time"

	"github.com/rccs-io/rccs/internal/inbox"
)

// TidyDue is what the janitor does now and then.
func (c *Coordinator) TidyDue(ctx context.Context, age time.Duration) error {
	return c.tidyDue(ctx, age)
}

// KnowsRoutes reports whether the coordinator has read the first n messages of the
// route stream, and knows the sender of each.
func (c *Coordinator) KnowsRoutes(n uint64) bool {
	for seq := uint64(1); seq <= n; seq++ {
		if c.router.reader.Last() < n || c.router.sent.of(seq) == unknown {
			return false
		}
	}
	return true
}

// Settle ends the mark of a cancelled message, as happens some time after it was
// stored.
func (c *Coordinator) Settle(w *inbox.Waiting, mark uint64) { c.schedules.settle(w, mark) }
