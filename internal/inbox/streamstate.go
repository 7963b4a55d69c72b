package inbox

import (
	"context"
	"errors"
	"time"
)

// watchStream refreshes the state of the stream and what is damaged, until the
// hub stops.
func (h *Hub) watchStream() {
	tick := time.NewTicker(refreshEvery)
	defer tick.Stop()
	for {
		select {
		case <-h.closing.Done():
			return
		case <-tick.C:
		case <-h.repaired:
		}
		ctx, cancel := context.WithTimeout(h.closing, fullTimeout)
		_, err := h.refreshState(ctx)
		err = errors.Join(err, h.LearnDamage(ctx))
		cancel()
		if err != nil && h.closing.Err() == nil {
			h.opts.Logger.Warn("the stream does not say where it begins and what is damaged", "err", err)
		}
	}
}

// refreshEvery is how often watchStream asks the stream. An attachment asks anew.
const refreshEvery = time.Minute
