package coordinator

import (
	"context"
	"sync"
	"time"

	"github.com/rccs-io/rccs/internal/wake"
)

// How often the janitor looks without being woken, and how long one round may
// take.
const (
	sweepEvery   = 30 * time.Second
	sweepTimeout = 20 * time.Second
	// reviewTick is how often the messages that wait for some of the users are
	// looked at, so that all are within sweepEvery.
	reviewTick = 500 * time.Millisecond
)

// janitor ends the sessions of dead edges, and removes scheduled messages that
// were delivered. If several do so at once, each session is ended by one.
type janitor struct {
	c    *Coordinator
	d    *duty
	kick wake.Signal     // an edge has died
	ctx  context.Context // of the work
	quit context.CancelFunc
	wg   sync.WaitGroup
}

func newJanitor(c *Coordinator, d *duty) *janitor {
	j := &janitor{c: c, d: d, kick: wake.New()}
	j.ctx, j.quit = context.WithCancel(context.Background())
	return j
}

func (j *janitor) start() {
	j.kick.Set() // what died while no janitor was there
	j.wg.Go(j.run)
}

func (j *janitor) stop() {
	j.quit()
	j.wg.Wait()
}

func (j *janitor) run() {
	tick, tidy, review := time.NewTicker(sweepEvery), time.NewTicker(tidyEvery), time.NewTicker(reviewTick)
	defer tick.Stop()
	defer tidy.Stop()
	defer review.Stop()
	for part := uint64(0); ; {
		select {
		case <-j.ctx.Done():
			return
		case <-tidy.C:
			j.c.contained("tidy", j.tidy)
			continue
		case <-review.C:
			part++
			j.d.router.review(part, uint64(sweepEvery/reviewTick))
			j.d.unfinished.review()
			continue
		case <-j.kick:
		case <-tick.C:
		}
		j.c.contained("sweep", j.sweep)
	}
}

func (j *janitor) tidy() {
	ctx, cancel := context.WithTimeout(j.ctx, sweepTimeout)
	defer cancel()
	if err := j.c.tidyDue(ctx, tidyAge); err != nil && j.ctx.Err() == nil {
		j.c.log.Warn("what was due is not removed, trying again later", "err", err)
	}
}

func (j *janitor) sweep() {
	ctx, cancel := context.WithTimeout(j.ctx, sweepTimeout)
	defer cancel()
	if err := j.c.roster.Sweep(ctx); err != nil {
		if j.ctx.Err() == nil {
			j.c.log.Warn("sessions of dead edges not ended, trying again", "err", err)
			time.AfterFunc(time.Second, j.kick.Set)
		}
		return
	}
	j.c.metrics.swept.Inc()
}
