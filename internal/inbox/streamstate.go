package inbox

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"time"

	"github.com/rccs-io/rccs/internal/epoch"
	"github.com/rccs-io/rccs/internal/layout"
	"github.com/rccs-io/rccs/internal/leader"
)

// streamState is what a hub knows of its stream.
type streamState struct {
	first       atomic.Uint64 // where it begins
	perLane     atomic.Int64  // how many messages it keeps of one subject; 0 or less: all
	maxAge      atomic.Int64  // how long it keeps a message, in nanoseconds; 0: for ever
	dedupWindow atomic.Int64  // in nanoseconds
	replicas    atomic.Int64
	epoch       atomic.Pointer[string]
	// redeliverUpTo: messages up to it may have been sent before, whatever the
	// cursor says.
	redeliverUpTo atomic.Uint64
}

// refreshState reads where the stream begins and ends, how much of a lane it
// keeps, and its other settings. It uses the Fetch connection, because the Read
// connection is busy with the stream's messages.
//
// A server that does not have what some edge has read is not believed: it may have
// been paused, and devices may have been sent what it lacks.
func (h *Hub) refreshState(ctx context.Context) (last uint64, err error) {
	read := h.head.Load()
	if h.replicas.Load() > 1 {
		found, err := h.cursors.last.Get(ctx, []string{layout.Watermark})
		if err != nil {
			return 0, fmt.Errorf("inbox: how far the stream was read: %w", err)
		}
		if found[0] != nil {
			mark, err := parseWatermark(found[0].Data)
			if err != nil {
				return 0, err
			}
			read = max(read, mark)
		}
	}
	info, err := leader.InfoSince(ctx, h.js, layout.StreamInbox, read)
	if err != nil {
		return 0, fmt.Errorf("inbox: %w", err)
	}
	h.first.Store(info.State.FirstSeq)
	h.perLane.Store(info.Config.MaxMsgsPerSubject)
	word := epoch.Of(info)
	h.epoch.Store(&word)
	h.redeliverUpTo.Store(epoch.RedeliverUpTo(info))
	h.maxAge.Store(int64(info.Config.MaxAge))
	h.dedupWindow.Store(int64(info.Config.Duplicates))
	h.replicas.Store(int64(info.Config.Replicas))
	return info.State.LastSeq, nil
}

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
