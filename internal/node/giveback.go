package node

import (
	"cmp"
	"context"
	"slices"
	"time"

	"github.com/rccs-io/rccs/internal/roster"
)

const (
	// giveBackAfter is for how long no device of a shard that was taken up is connected
	// before the shard is given back. A device that has lost its connection may resume
	// its session, and be shown as online, for 5 min: then nothing of it waits here any
	// more. Taking a shard up again reads all of it, so it is not given back in haste.
	giveBackAfter = 6 * time.Minute
	// giveBackTimeout bounds the end of a shard. With no device there is nothing to store
	// but the removal of the lease, and a stop of the edge waits for it.
	giveBackTimeout = 5 * time.Second
)

// giveBackIdle gives back the shards that were taken up and that nobody needs here.
func (t *edgeTenant) giveBackIdle() {
	idle := cmp.Or(t.idle, giveBackAfter)
	every(t.ctx, idle/10, func() {
		for _, s := range t.served() {
			if s.taken && t.hasOwner(s) {
				t.giveBack(s, idle)
			}
		}
	})
}

// hasOwner reports whether another edge, to which devices can be sent, has the shard
// among its own. One that has taken it up, too, may give it back at the same time.
func (t *edgeTenant) hasOwner(s *edgeShard) bool {
	return slices.ContainsFunc(s.roster.Edges(), func(e roster.Edge) bool { return !e.TakenUp && t.takesDevices(&e) })
}

// giveBack ends a shard as a stop of the edge does, the lease first, if no device of it
// was connected for some time. A device that comes meanwhile is told where to go. If it
// comes back all the same, it waits, and the shard is taken up again.
func (t *edgeTenant) giveBack(s *edgeShard, idle time.Duration) {
	t.inTurn.Lock()
	defer t.inTurn.Unlock()
	t.mu.Lock()
	ended := !t.stopped && s.tenant.Retire(idle)
	if ended {
		t.shards[s.shard.N()] = nil
	}
	t.mu.Unlock()
	if !ended {
		return
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(t.ctx), giveBackTimeout)
	defer cancel()
	log := t.edge.opts.logger.With("tenant", t.label(), "shard", s.shard.N())
	if err := s.stops.Stop(ctx); err != nil {
		log.Warn("shard given back, and not all of it has ended in order", "err", err)
		return
	}
	log.Info("shard given back")
}
