package inbox

import (
	"context"
	"time"

	"github.com/rccs-io/rccs/internal/direct"
	"github.com/rccs-io/rccs/internal/layout"
	"github.com/rccs-io/rccs/subjects"
)

// load returns the device's cursor, when the store took it, and its revision for
// put. A cursor on its way to the store counts before the stored one; its time is
// that of its oldest change. If there is neither, the cursor and the time are
// zero.
func (w *cursorWriter) load(ctx context.Context, key subjects.Key) (Cursor, time.Time, *revision, error) {
	w.mu.Lock()
	s := w.states[key]
	if s != nil {
		c, since, at, doubt := s.cursor, s.since, s.at, s.doubt
		w.mu.Unlock()
		c.Open = c.Open || doubt && w.sentMore(ctx, key, &c)
		return c, since, at, nil
	}
	w.mu.Unlock()
	found, err := w.last.Get(ctx, []string{layout.Cursor(key)})
	if err != nil {
		return Cursor{}, time.Time{}, nil, err
	}
	c, stored, at := w.parse(key, found[0])
	return c, stored, at, nil
}

// loadAfter is load for a device that attaches. before is [MailboxOptions.Before]. A copy
// that lags may not have the cursor of a fetch yet, and what was fetched would be sent as
// new. So the leader is asked, unless what waits is marked anyway.
func (w *cursorWriter) loadAfter(ctx context.Context, key subjects.Key, before uint64) (Cursor, time.Time, *revision, error) {
	c, stored, at, err := w.load(ctx, key)
	if c.Follows(before); err != nil || c.Open || w.replicas() <= 1 || w.holds(key) {
		return c, stored, at, err
	}
	ask, cancel := context.WithTimeout(ctx, leaderTimeout)
	defer cancel()
	newest, err := w.fetch.AtLeader(ask, layout.StreamCursor, layout.Cursor(key), 1)
	if err != nil {
		w.log.Warn("the leader of the cursors does not answer, marking what waits", "device", string(key), "err", err)
		c.Open = true
		return c, stored, at, ctx.Err()
	}
	c, stored, at = w.parse(key, newest)
	c.Follows(before)
	return c, stored, at, nil
}

// sentMore reports whether the stored cursor may say that the device was sent what c
// does not know of.
func (w *cursorWriter) sentMore(ctx context.Context, key subjects.Key, c *Cursor) bool {
	ctx, cancel := context.WithTimeout(ctx, leaderTimeout)
	defer cancel()
	stored, err := w.fetch.AtLeader(ctx, layout.StreamCursor, layout.Cursor(key), 1)
	if err != nil || stored == nil {
		return err != nil
	}
	there, err := ParseCursor(stored.Data)
	return err != nil || there.above(c)
}

// leaderTimeout bounds the wait of an attachment for the leader of the cursors.
const leaderTimeout = 2 * time.Second

// parse returns a stored cursor, if there is one, as load does.
func (w *cursorWriter) parse(key subjects.Key, m *direct.Stored) (Cursor, time.Time, *revision) {
	if m == nil {
		return Cursor{}, time.Time{}, new(revision)
	}
	stored, at := time.Unix(0, m.Time), &revision{m.Seq}
	c, err := ParseCursor(m.Data)
	if err != nil {
		// Sending everything again is better than sending nothing.
		w.log.Error("stored cursor is unreadable, sending all again", "device", string(key), "err", err)
		return Cursor{Open: true}, stored, at
	}
	return c, stored, at
}
