package inbox

import (
	"context"
	"fmt"
	"time"

	"github.com/rccs-io/rccs/internal/envelope"
	"github.com/rccs-io/rccs/internal/layout"
	"github.com/rccs-io/rccs/internal/reader"
	"github.com/rccs-io/rccs/subjects"
)

// countMissed counts what was stored since the counted mark: a hub that was
// killed had those counts, and deadlines, in memory only. The hub's own reader
// counts what is stored from began on.
func (h *Hub) countMissed(ctx context.Context, mark, began uint64) error {
	last := began - 1
	if mark == 0 { // an older version did not count; what is gone cannot be known
		mark = max(h.first.Load(), 1) - 1
	}
	mark = min(mark, last)
	h.mu.Lock()
	h.tally.mark = mark
	h.mu.Unlock()
	h.countDamaged(mark, began)
	if mark == last {
		return nil
	}
	start := time.Now()
	r, err := reader.New(reader.Options{
		Conn: h.opts.Read, Stream: layout.StreamInbox, Shard: h.opts.Shard, FromStart: true, After: mark, HeadersOnly: true, Logger: h.opts.Logger,
		Handle: func(e reader.Entry) {
			m, ok := envelope.Parse(h.opts.Publish.Proof, envelope.Stored(e))
			if !ok || e.Seq > last {
				return // the hub's own reader has it
			}
			h.mu.Lock()
			h.tell.Inbox(m, h.depthLocked(m.Key).nobody)
			h.tallyMissedLocked(m)
			h.mu.Unlock()
		},
	})
	if err != nil {
		return err
	}
	if err := r.Start(ctx); err != nil {
		return fmt.Errorf("inbox: count what was stored since %d: %w", mark, err)
	}
	h.opts.Logger.Debug("counted what was stored since the last stop", "from", mark+1, "to", last, "took", time.Since(start))
	return r.Stop(ctx)
}

// countDamaged counts the messages between the counted mark and the stream's end
// that the server found damaged when it started: nobody can read them any more.
func (h *Hub) countDamaged(mark, began uint64) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, m := range h.damaged.Load().Messages {
		if key, lane, ok := subjects.ParseInbox(m.Subject); ok && m.Seq > mark && m.Seq < began {
			h.tally.addLocked(key, tallied{seq: m.Seq, lane: lane, read: time.Now()})
		}
	}
}
