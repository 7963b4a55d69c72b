package coordinator

import (
	"context"
	"time"
)

// TidyDue is what the janitor does now and then.
func (c *Coordinator) TidyDue(ctx context.Context, age time.Duration) error {
	return c.tidyDue(ctx, age)
}
