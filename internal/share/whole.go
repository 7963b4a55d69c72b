package share

import (
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/rccs-io/rccs/internal/layout"
)

// whole is what is known of the stream of a kind.
type whole struct {
	holding
	// limit bounds what the tenant stores where the stream itself does not say enough;
	// 0: it does.
	limit  int64
	most   int64 // that the stream may hold
	maxAge time.Duration
	look
}

const (
	// refreshEvery is how often the stream's bounds are read: they follow the
	// tenant's limit while this runs.
	refreshEvery = 5 * time.Second
	// unbounded is what the shares are parts of where the stream has no bound.
	unbounded = 10 << 30
	// A stream with schedules cannot refuse. It may take as much as stands to the
	// inboxes' bound as these do.
	laterParts, inboxParts = 6, 60
)

// refreshLocked has the bounds of a stream read, now and then.
func (s *Shares) refreshLocked(t *table) {
	w := &t.whole
	age := time.Since(w.at)
	full := w.limit > 0 && (w.total().bytes > w.limit || w.added.bytes > w.limit/64)
	if w.running || t.stopped || age < refreshEvery && (!full || age < lookEvery) {
		return
	}
	w.running = true
	added := w.added
	s.wg.Go(func() {
		limit, info, err := s.bounds(t.kind)
		t.mu.Lock()
		defer t.mu.Unlock()
		w.running, w.at = false, time.Now()
		if err != nil {
			if s.ctx.Err() == nil {
				s.log.Warn("bounds of a stream not read", "stream", infos[t.kind].stream, "err", err)
			}
			return
		}
		t.limits.device.bytes = limit / 100 * int64(s.opts.Bounds.DevicePercent)
		t.limits.user.bytes = limit / 100 * int64(s.opts.Bounds.UserPercent)
		if t.kind == Inbox {
			least := s.opts.Bounds.MinInboxBytes / int64(s.opts.Shard.Count()) // as the stream is a part of the tenant's
			t.limits.device.bytes = atLeast(t.limits.device.bytes, least)
			t.limits.user.bytes = atLeast(t.limits.user.bytes, least)
		}
		w.maxAge = info.Config.MaxAge
		w.limit, w.most = limit/8*infos[t.kind].eighths, limit
		w.base, w.added = amount{int64(info.State.Msgs), int64(info.State.Bytes)}, w.added.minus(added) //nolint:gosec // what is on a disk
	})
}

// atLeast raises a bound, if it is one.
func atLeast(bound, least int64) int64 {
	if bound == 0 {
		return 0
	}
	return max(bound, least)
}

// bounds are how many bytes a stream may hold, and its state.
func (s *Shares) bounds(k Kind) (int64, *jetstream.StreamInfo, error) {
	stream, err := s.js.Stream(s.ctx, infos[k].stream)
	if err != nil {
		return 0, nil, err
	}
	info := stream.CachedInfo()
	limit := info.Config.MaxBytes
	if k == Later {
		inboxes, err := s.js.Stream(s.ctx, layout.StreamInbox)
		if err != nil {
			return 0, nil, err
		}
		limit = inboxes.CachedInfo().Config.MaxBytes / inboxParts * laterParts
	}
	if limit <= 0 {
		limit = unbounded
	}
	return limit, info, nil
}
