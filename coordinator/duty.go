package coordinator

import (
	"context"
	"errors"
	"fmt"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/rccs-io/rccs/internal/layout"
	"github.com/rccs-io/rccs/internal/leader"
	"github.com/rccs-io/rccs/internal/roster"
	"github.com/rccs-io/rccs/internal/stops"
	"github.com/rccs-io/rccs/subjects"
)

// duty is the work on what a shard has stored. One coordinator is enough for it:
// see members. If two do it all the same, ids of messages and revisions of entries
// make only the first one count.
type duty struct {
	router     *router
	unfinished *unfinished
	janitor    *janitor
	deadlines  *deadlines
	schedules  *schedules
	stops      stops.Stack
}

// takeShard begins the work on the shard. It returns when everything stored has been
// read.
func (c *Coordinator) takeShard(ctx context.Context) (err error) {
	d := &duty{}
	defer func() {
		if err != nil {
			c.duty.Store(nil)
			ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), dropTimeout)
			defer cancel()
			err = errors.Join(err, d.stops.Stop(ctx))
		}
	}()
	var streams [3]jetstream.Stream
	for i, name := range []string{layout.StreamRoute, layout.StreamDeadline, subjects.StreamLater} {
		if streams[i], err = leader.Stream(ctx, c.js, name); err != nil {
			return fmt.Errorf("coordinator: stream %s: %w", name, err)
		}
	}
	if d.router, err = newRouter(c, c.read, streams[0]); err != nil {
		return err
	}
	if d.deadlines, err = newDeadlines(c, c.read, streams[1]); err != nil {
		return err
	}
	if d.schedules, err = newSchedules(c, c.read, streams[2]); err != nil {
		return err
	}
	if d.unfinished, err = newUnfinished(c, d.router); err != nil {
		return err
	}
	d.janitor = newJanitor(c, d)
	c.duty.Store(d) // before anything is read: from now on changes of devices are told
	d.janitor.start()
	d.stops.AddFunc(d.janitor.stop)
	d.stops.Add(d.router.stop)
	if err := d.router.start(ctx); err != nil {
		return err
	}
	d.stops.Add(d.deadlines.stop)
	if err := d.deadlines.start(ctx); err != nil {
		return err
	}
	d.stops.Add(d.schedules.stop)
	if err := d.schedules.start(ctx); err != nil {
		return err
	}
	d.stops.Add(d.unfinished.stop)
	return d.unfinished.start(ctx)
}

// dropShard ends the work on the shard. What is being done is finished, until ctx ends.
func (c *Coordinator) dropShard(ctx context.Context) error {
	d := c.duty.Swap(nil)
	if d == nil {
		return nil
	}
	return d.stops.Stop(ctx)
}

// changed is the roster's callback for a change of a device.
func (c *Coordinator) changed(change roster.Change) {
	if d := c.duty.Load(); d != nil {
		d.router.changed(change)
	}
}

// died is the roster's callback for an edge that has died.
func (c *Coordinator) died() {
	if d := c.duty.Load(); d != nil {
		d.janitor.kick.Set()
	}
}
