package node

import (
	"context"

	"github.com/rccs-io/rccs/coordinator"
)

// startCoordinator returns when the tenant's coordinator answers requests. It
// comes before the edge, whose devices may need it, and is stopped after it.
func (n *Node) startCoordinator(ctx context.Context, t *tenantPart) error {
	dial, err := n.dialer(t.keys, "coordinator")
	if err != nil {
		return err
	}
	t.enroller, err = n.startEnrolment(ctx, t, dial)
	if err != nil {
		return err
	}
	t.coord, err = coordinator.New(coordinator.Options{
		Dial: coordinator.Dial(dial), Enroller: t.enroller,
		Name: edgeName(n.opts.Listen), Version: n.opts.Version, Logger: n.opts.Logger, Metrics: n.coord,
		InboxLimit: n.opts.InboxLimit, Rates: n.opts.Limits.rates(), MaxDelay: n.opts.Limits.Delay,
		Shares: n.opts.Limits.Shares, ShareMetrics: n.shares, Revoked: t.revoked, RevocationsChanged: t.revocations,
		Tracer: tracerOf(n.tracer),
	})
	if err != nil {
		return err
	}
	if err := t.coord.Start(ctx); err != nil {
		return err
	}
	t.stops.Add(t.coord.Stop)
	return addSurvey(n.survey, t.keys.Account().Name, dial, &t.stops)
}
