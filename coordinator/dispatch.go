package coordinator

import (
	"context"

	"github.com/rccs-io/rccs/internal/inbox"
	"github.com/rccs-io/rccs/internal/send"
	"github.com/rccs-io/rccs/subjects"
)

// newIntake makes the intake for messages of devices on plain NATS.
func (c *Coordinator) newIntake() (*send.Intake, error) {
	rates := c.opts.Rates
	rates.Limited = func(scope string) { c.metrics.limited.WithLabelValues(scope).Inc() }
	return send.New(send.Options{
		Roster: c.roster, Inbox: &storedInboxes{c.cursors, c.opts.InboxLimit}, Publisher: c.pub, Core: c.core, JetStream: c.js,
		Tasks: c.tasks, Proof: c.pub.Proof, Shares: c.shares, MaxDelay: c.opts.MaxDelay, Limiter: send.NewLimiter(rates),
		Tracer: c.opts.Tracer, Protocol: "nats", Logger: c.log,
	})
}

// storedInboxes are the inboxes as the store has them. It does what an edge's hub
// does there.
type storedInboxes struct {
	*inbox.Cursors
	limit int
}

// Admit implements [send.Inbox].
func (s *storedInboxes) Admit(ctx context.Context, k subjects.Key, n int) error {
	cursor, _, err := s.Load(ctx, k)
	if err != nil {
		return err
	}
	unacked, err := s.Unacked(ctx, k, &cursor)
	if err == nil && unacked+n > s.limit {
		err = inbox.ErrFull
	}
	return err
}

// Intake returns the intake for messages to the tenant's devices. It may be used
// from Start to Stop.
func (c *Coordinator) Intake() *send.Intake { return c.intake }
