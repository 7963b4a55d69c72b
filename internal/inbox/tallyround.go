package inbox

import (
	"context"
	"fmt"
	"strconv"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/rccs-io/rccs/internal/layout"
	"github.com/rccs-io/rccs/internal/storeerr"
	"github.com/rccs-io/rccs/subjects"
)

const (
	// tallyEvery is the longest pause between two rounds of storing counts. Until
	// a count is stored, nobody knows whose a damaged message was. So after a
	// round of few devices the pause is shorter: tallyEach a device, but at least
	// tallySoon.
	tallyEvery = 250 * time.Millisecond
	tallySoon  = 10 * time.Millisecond
	tallyEach  = 4 * time.Millisecond
	// tallyPatience is how long the edge that holds a device has to store the
	// cursor itself, which it does within twice cursorEvery. Past it the edge is
	// taken for dead.
	tallyPatience = 2*cursorEvery + 1500*time.Millisecond
	// markEvery is the shortest time between two stored counted marks.
	markEvery = 2 * time.Second
	// tallyBatch is how many cursors are asked for at a time.
	tallyBatch = 512
	// tallyTimeout bounds one round.
	tallyTimeout = 10 * time.Second
)

// counted is what is stored under [layout.Counted].
type counted struct {
	UpTo uint64 `json:"upTo"`
}

func appendCounted(upTo uint64) []byte { return fmt.Appendf(nil, `{"upTo":%d}`, upTo) }

// runTally stores counts and deadlines until the hub stops, and then the counts
// that are left.
func (h *Hub) runTally() {
	defer close(h.tally.done)
	tick := time.NewTicker(tallyEvery)
	defer tick.Stop()
	var soon <-chan time.Time // nil: nothing was counted
	pause, last := time.Duration(0), time.Time{}
	counts := func(ctx context.Context) error { return h.storeTally(ctx, false) }
	for {
		select {
		case <-h.tally.kick:
			// In a cluster another copy says whose a damaged message was.
			if soon == nil && h.replicas.Load() <= 1 {
				soon = time.After(pause - time.Since(last))
			}
			continue
		case <-soon:
			devices := h.tallied()
			soon = nil
			h.tallyRound("counts", counts)
			pause, last = min(max(time.Duration(devices)*tallyEach, tallySoon), tallyEvery), time.Now()
			continue
		case ctx := <-h.tally.quit:
			if err := h.storeLast(ctx); err != nil {
				h.opts.Logger.Warn("counts of what waits for devices not stored", "err", err)
			}
			return
		case <-tick.C:
		}
		h.tallyRound("deadlines", h.storeUnanswered)
		h.tallyRound("counts", counts)
	}
}

// tallied returns for how many devices something is counted.
func (h *Hub) tallied() int {
	h.mu.Lock()
	defer h.mu.Unlock()
	return len(h.tally.devices)
}

// tallyRound runs store with a timeout of its own, so that counts and deadlines
// do not starve each other.
func (h *Hub) tallyRound(what string, store func(context.Context) error) {
	ctx, cancel := context.WithTimeout(h.closing, tallyTimeout)
	defer cancel()
	if err := store(ctx); err != nil && h.closing.Err() == nil {
		h.opts.Logger.Warn("not stored, trying again", "what", what, "err", err)
	}
}

// stopTally has the last counts stored.
func (h *Hub) stopTally(ctx context.Context) error {
	h.tally.quit <- ctx
	select {
	case <-h.tally.done:
		return nil
	case <-ctx.Done(): // runTally waits for the publisher, and ends when that is stopped
		return ctx.Err()
	}
}

// storeLast stores the counts that are left when the hub stops. A cursor stored
// since they were read, by another edge or by the round that the stop has cut off,
// is counted into in its turn: nobody comes after.
func (h *Hub) storeLast(ctx context.Context) error {
	for {
		err := h.storeTally(ctx, true)
		if !storeerr.Lost(err) {
			return err
		}
		select {
		case <-time.After(tallySoon): // in a cluster, the copy that is read may lag
		case <-ctx.Done():
			return err
		}
	}
}

// storeTally stores what is counted, and the counted mark if nothing below it is
// left to count. final: the hub is stopping, and does not wait for edges to store
// their cursors.
func (h *Hub) storeTally(ctx context.Context, final bool) error {
	h.mu.Lock()
	t := &h.tally
	head, began := h.head.Load(), time.Now()
	if t.mark >= head && len(t.devices) == 0 {
		h.mu.Unlock()
		return nil
	}
	keys := make([]subjects.Key, 0, len(t.devices))
	for k := range t.devices {
		keys = append(keys, k)
	}
	h.mu.Unlock()
	all := true
	for len(keys) > 0 {
		n := min(len(keys), tallyBatch)
		stored, err := h.storeCounts(ctx, keys[:n], head, final)
		if err != nil {
			return err
		}
		all = all && stored
		keys = keys[n:]
	}
	if all && final {
		return h.storeMark(ctx, head)
	}
	return h.raiseMark(ctx, head, began, all)
}

// raiseMark raises the counted mark to where the head was some rounds ago, once
// every change made until then is stored. It follows late because the cursors of
// attached devices are stored late.
func (h *Hub) raiseMark(ctx context.Context, head uint64, began time.Time, all bool) error {
	h.mu.Lock()
	t := &h.tally
	next, since := t.next, t.since
	open := len(h.unanswered) > 0 && h.unanswered[0].m.Seq <= next
	h.mu.Unlock()
	switch {
	case next == 0 && all:
		h.mu.Lock()
		t.next, t.since = head, began
		h.mu.Unlock()
		return nil
	case next == 0, open, time.Since(since) < markEvery, !h.cursors.storedSince(since):
		return nil
	}
	h.mu.Lock()
	t.next = 0
	h.mu.Unlock()
	return h.storeMark(ctx, next)
}

// storeMark raises the counted mark.
func (h *Hub) storeMark(ctx context.Context, head uint64) error {
	h.mu.Lock()
	known := h.tally.mark
	h.mu.Unlock()
	if head <= known {
		return nil
	}
	if err := h.opts.Publish.wait(ctx, &nats.Msg{Subject: layout.Counted, Data: appendCounted(head)}); err != nil {
		return fmt.Errorf("inbox: store the counted mark: %w", err)
	}
	h.mu.Lock()
	h.tally.mark = head
	h.mu.Unlock()
	return nil
}

// storeCounts counts messages up to head in the cursors of devices that are away.
// all reports whether everything that was read for them up to head is in stored
// cursors now.
func (h *Hub) storeCounts(ctx context.Context, keys []subjects.Key, head uint64, final bool) (all bool, err error) {
	names := make([]string, len(keys))
	for i, k := range keys {
		names[i] = layout.Cursor(k)
	}
	found, err := h.cursors.last.Get(ctx, names)
	if err != nil {
		return false, err
	}
	all = true
	writes := newAwaited()
	var deadlines []deadlineOf
	for i, k := range keys {
		var c Cursor
		var revision uint64
		var stored time.Time
		if found[i] != nil {
			revision, stored = found[i].Seq, time.Unix(0, found[i].Time)
			if c, err = ParseCursor(found[i].Data); err != nil {
				c = Cursor{}
			}
		}
		requests, changed, later := h.countInto(k, &c, stored, head, final)
		if later {
			all = false
			continue
		}
		for _, d := range requests {
			deadlines = append(deadlines, deadlineOf{k, d})
		}
		if !changed {
			h.countedUpTo(k, c.UpTo, c.Sent)
			continue
		}
		h.publishCount(k, c, head, revision, writes.add())
	}
	open := h.storeDeadlines(ctx, deadlines, writes)
	err = writes.wait(ctx)
	h.tallyOpen(open)
	if all = all && len(open) == 0; final {
		return all, err
	}
	return all && err == nil, ctx.Err() // the next round tries again
}

// tallyOpen has deadlines that were not stored be stored in the next round.
func (h *Hub) tallyOpen(open []deadlineOf) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, d := range open {
		lane, _ := subjects.ParseLane(d.Lane)
		h.tally.addLocked(d.key, tallied{seq: d.Seq, lane: lane, read: time.Now(), request: d.Deadline})
	}
}

// publishCount stores a cursor, unless another was stored meanwhile.
func (h *Hub) publishCount(k subjects.Key, c Cursor, head, revision uint64, done func(Receipt, error)) {
	msg := &nats.Msg{Subject: layout.Cursor(k), Data: c.Append(nil), Header: nats.Header{
		nats.ExpectedLastSubjSeqHdr: {strconv.FormatUint(revision, 10)},
	}}
	h.cursors.mark.raise(head)
	h.opts.Publish.Publish(msg, func(r Receipt, err error) {
		if err == nil {
			h.countedUpTo(k, head, c.Sent)
		}
		done(r, err)
	})
}

// countInto counts a device's tallied messages into its cursor, and returns the
// deadlines to store for it. later: the device is being attached, or its edge may
// still store the cursor, so try again in a later round.
func (h *Hub) countInto(k subjects.Key, c *Cursor, stored time.Time, head uint64, final bool) (requests []*Deadline, changed, later bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.mailboxes[k] != nil || h.storingLocked(k) {
		return nil, false, true // the mailbox counts, or a newer cursor is on its way
	}
	for _, one := range h.tally.devices[k] {
		if one.seq > head {
			continue
		}
		early := c.Open && !final && time.Since(one.read) < tallyPatience
		if one.seq > c.UpTo && one.seq > c.Sent[one.lane] {
			if early {
				return nil, false, true
			}
			changed = true
			c.count(one.lane, one.seq)
		}
		if one.request != nil && (one.seq > c.Sent[one.lane] || c.isUnacked(one.lane, one.seq)) {
			if early {
				return nil, false, true
			}
			requests = append(requests, one.request)
		}
	}
	if changed {
		h.damaged.Load().tell(c, stored)
		c.UpTo = head
	}
	return requests, changed, false
}

// countedUpTo forgets the tallied messages that a stored cursor counts. It keeps
// them while the device is being attached: the attachment may have loaded the
// cursor before this one was stored.
func (h *Hub) countedUpTo(k subjects.Key, upTo uint64, sent [subjects.Lanes]uint64) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.mailboxes[k] != nil {
		return
	}
	var left []tallied
	for _, one := range h.tally.devices[k] {
		if one.seq > upTo && one.seq > sent[one.lane] {
			left = append(left, one)
		}
	}
	if len(left) == 0 {
		delete(h.tally.devices, k)
	} else {
		h.tally.devices[k] = left
	}
}
