package coordinator

import (
	"context"
	"time"
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
