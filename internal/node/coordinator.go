package node

import (
	"context"
	"errors"
	"slices"

	"github.com/rccs-io/rccs/coordinator"
	"github.com/rccs-io/rccs/internal/roster"
	"github.com/rccs-io/rccs/internal/send"
	"github.com/rccs-io/rccs/internal/shard"
)

// coordinators are those of a tenant's shards. The first one answers requests for
// all.
type coordinators []*coordinator.Coordinator

// startCoordinators returns when requests are answered. On an error none is left
// running.
func startCoordinators(ctx context.Context, opts coordinator.Options, shards int) (all coordinators, err error) {
	defer func() {
		if err != nil {
			err = errors.Join(err, all.Stop(context.WithoutCancel(ctx)))
		}
	}()
	start := func(opts coordinator.Options) error {
		c, err := coordinator.New(opts)
		if err == nil {
			err = c.Start(ctx)
		}
		if err == nil {
			all = append(all, c)
		}
		return err
	}
	for n := 1; n < shards; n++ {
		quiet := opts
		quiet.Shard, quiet.Quiet, quiet.Enroller, quiet.RevocationsChanged = shard.At(n, shards), true, nil, nil
		if err := start(quiet); err != nil {
			return nil, err
		}
	}
	opts.Shard, opts.Others = shard.At(0, shards), slices.Clone(all)
	if err := start(opts); err != nil {
		return nil, err
	}
	slices.Reverse(all)
	slices.Reverse(all[1:]) // by their shards
	return all, nil
}

// Stop ends all, the one that answers requests first.
func (all coordinators) Stop(ctx context.Context) error {
	var errs []error
	for _, c := range all {
		errs = append(errs, c.Stop(ctx))
	}
	return errors.Join(errs...)
}

// Healthy returns why one of them cannot do its work, or nil.
func (all coordinators) Healthy() error {
	for _, c := range all {
		if err := c.Healthy(); err != nil {
			return err
		}
	}
	return nil
}

func (all coordinators) of(s shard.Shard) (*roster.Roster, *send.Intake) {
	return all[s.N()].Roster(), all[s.N()].Intake()
}

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
	t.coord, err = startCoordinators(ctx, coordinator.Options{
		Dial: coordinator.Dial(dial), Enroller: t.enroller,
		Name: edgeName(n.opts.Listen), Version: n.opts.Version, Logger: n.opts.Logger, Metrics: n.coord,
		InboxLimit: n.opts.InboxLimit, MaxDeliveries: n.opts.Limits.Deliveries, Rates: n.opts.Limits.rates(), MaxDelay: n.opts.Limits.Delay,
		Shares: n.opts.Limits.Shares, ShareMetrics: n.shares, Revoked: t.revoked, RevocationsChanged: t.revocations,
		Tracer: tracerOf(n.tracer),
	}, t.keys.Shards())
	if err != nil {
		return err
	}
	t.stops.Add(t.coord.Stop)
	t.streams, err = addSurvey(n.survey, t.keys.Account().Name, t.keys.Shards(), dial, &t.stops)
	return err
}
