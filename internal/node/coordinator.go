package node

import (
	"context"

	"github.com/nats-io/nats.go"

	"github.com/rccs-io/rccs/coordinator"
)

// startCoordinator returns when the coordinator answers requests. It comes
// before the edge, whose devices may need it, and is stopped after it.
func (n *Node) startCoordinator(ctx context.Context) error {
	cred, err := n.keys.PartOption("coordinator")
	if err != nil {
		return err
	}
	dial := func(name string, opts ...nats.Option) (*nats.Conn, error) {
		return connect("", append([]nats.Option{n.server.InProcess(), cred, nats.Name("rccs coordinator " + name)}, opts...)...)
	}
	enroller, err := n.startEnrolment(ctx, dial)
	if err != nil {
		return err
	}
	n.coord, err = coordinator.New(coordinator.Options{
		Dial: dial, Enroller: enroller,
		Name: edgeName(n.opts.Listen), Version: n.opts.Version, Logger: n.opts.Logger, Metrics: n.registry,
	})
	if err != nil {
		return err
	}
	if err := n.coord.Start(ctx); err != nil {
		return err
	}
	n.stops = append(n.stops, n.coord.Stop)
	return nil
}
