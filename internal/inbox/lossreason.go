package inbox

import (
	"context"
	"fmt"

	"github.com/rccs-io/rccs/internal/direct"
	"github.com/rccs-io/rccs/internal/layout"
	"github.com/rccs-io/rccs/subjects"
	"github.com/rccs-io/rccs/wire"
)

// written returns the reason for a loss that is stored: a purge or damage; "" if
// there is none. For damage it also narrows the loss to where that was.
func written(ctx context.Context, cursors *direct.Last, k subjects.Key, l loss) (string, loss, error) {
	found, err := cursors.Get(ctx, []string{layout.Purged(k), layout.Damaged(layout.StreamInbox)})
	switch {
	case err != nil:
		return "", l, fmt.Errorf("inbox: why messages of %s are gone: %w", k, err)
	case found[0] != nil && parsePurged(found[0].Data)[l.lane] >= l.from:
		return wire.ReasonPurged, l, nil
	case found[1] != nil:
		if within, ok := parseDamaged(found[1].Data).narrow(l); ok {
			return wire.ReasonDamaged, within, nil
		}
	}
	return "", l, nil
}

// whyLost returns the reason for a loss, as a gap gives it, and where the loss
// was.
func (h *Hub) whyLost(ctx context.Context, k subjects.Key, l loss) (string, loss, error) {
	if reason, l, err := written(ctx, h.cursors.last, k, l); reason != "" || err != nil {
		return reason, l, err
	}
	if _, err := h.refreshState(ctx); err != nil {
		return "", l, err
	}
	if l.from < h.first.Load() {
		return wire.ReasonRetention, l, nil
	}
	if bound := h.perLane.Load(); bound > 0 {
		msgs, left, err := h.fetch.Next(ctx, layout.StreamInbox, subjects.Inbox(k, l.lane), 1, 1, laneBytes)
		if err != nil {
			return "", l, err
		}
		if int64(len(msgs)+left) >= bound {
			return wire.ReasonRetention, l, nil
		}
	}
	// A device that is behind knows how many messages are gone, but not which
	// ones. So look for a reason up to the head.
	wide := l
	wide.to = max(l.to, h.head.Load())
	reason, wide, err := written(ctx, h.cursors.last, k, wide)
	if reason != "" || err != nil {
		return reason, wide, err
	}
	// Nobody has said why: an operator removed them with JetStream's own means, or
	// their files were damaged while the server ran. Those need not be the oldest.
	if !l.exact {
		l = wide
	}
	damaged, err := h.fetch.Unreadable(ctx, layout.StreamInbox, subjects.Inbox(k, l.lane), l.from, wide.to)
	if err != nil || !damaged {
		return wire.ReasonPurged, l, err
	}
	h.opts.Logger.Error("the inbox stream is damaged: the server cannot read messages that it has",
		"device", string(k), "lane", l.lane.String(), "from", l.from, "to", l.to, "count", l.count)
	return wire.ReasonDamaged, l, h.noteUnreadable(ctx, [2]uint64{l.from, l.to})
}
