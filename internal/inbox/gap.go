package inbox

import (
	"context"
	"errors"
	"fmt"
	"math"
	"strconv"
	"time"

	"github.com/rccs-io/rccs/internal/direct"
	"github.com/rccs-io/rccs/internal/layout"
	"github.com/rccs-io/rccs/internal/reader"
	"github.com/rccs-io/rccs/subjects"
	"github.com/rccs-io/rccs/wire"
)

// A device is told of messages that it has not acknowledged and that are gone
// from the store. The cursor lists those that it was sent. It counts those that
// it was never sent ([Cursor.Waiting]): a lane that has caught up and found fewer
// has lost the difference.
//
// A gap stays in the cursor until the device acknowledges something that it was
// sent after the gap. A device that disconnects before that is told again.

// Gap tells a device of messages that are gone. This is its stored form.
type Gap struct {
	Lane    subjects.Lane `json:"lane"`
	From    uint64        `json:"from"`
	To      uint64        `json:"to"`
	Count   uint64        `json:"count,omitempty"`
	AtLeast uint64        `json:"atLeast,omitempty"`
	Reason  string        `json:"reason,omitempty"` // "" until it is known
	// Told: a device on plain NATS was told of it, when it had been sent messages up
	// to After. An edge does not store that, and tells its device once a connection.
	Told  bool   `json:"told,omitempty"`
	After uint64 `json:"after,omitempty"`
}

// Wire returns the gap in the form in which the device is told it.
func (g *Gap) Wire() wire.Gap {
	return wire.Gap{Lane: g.Lane.String(), From: g.From, To: g.To, Count: g.Count, AtLeast: g.AtLeast, Reason: g.Reason}
}

func (g *Gap) append(dst []byte) []byte {
	dst = strconv.AppendUint(append(dst, `{"lane":`...), uint64(g.Lane), 10)
	dst = strconv.AppendUint(append(dst, `,"from":`...), g.From, 10)
	dst = strconv.AppendUint(append(dst, `,"to":`...), g.To, 10)
	if g.Count > 0 {
		dst = strconv.AppendUint(append(dst, `,"count":`...), g.Count, 10)
	}
	if g.AtLeast > 0 {
		dst = strconv.AppendUint(append(dst, `,"atLeast":`...), g.AtLeast, 10)
	}
	if g.Reason != "" {
		dst = wire.AppendString(append(dst, `,"reason":`...), g.Reason)
	}
	if g.Told {
		dst = append(dst, `,"told":true`...)
	}
	if g.After > 0 {
		dst = strconv.AppendUint(append(dst, `,"after":`...), g.After, 10)
	}
	return append(dst, '}')
}

// toldGap is a gap of a mailbox, and whether this connection was told it.
type toldGap struct {
	Gap
	told  bool
	order uint64 // how many messages this connection had been sent before it
}

// maxGaps bounds the gaps that a cursor holds. Past it, gaps of one lane and
// reason are merged.
const maxGaps = 32

// AddGap adds a gap to those the device has to be told of.
func (c *Cursor) AddGap(g Gap) { c.Gaps = addGap(c.Gaps, g) }

// addGap adds a gap to a list. It is merged into the first gap that it continues
// or, if there are too many, into the first of its lane and reason.
func addGap(gaps []Gap, g Gap) []Gap {
	for i := range gaps {
		have := &gaps[i]
		if have.Lane != g.Lane || have.Reason != g.Reason || !have.continued(&g) && len(gaps) < maxGaps {
			continue
		}
		have.From, have.To = min(have.From, g.From), max(have.To, g.To)
		have.Count += g.Count
		have.AtLeast += g.AtLeast
		have.Told, have.After = false, 0
		return gaps
	}
	return append(gaps, g)
}

// continued reports whether the gap by goes on where g ends. Gaps without a count
// may also overlap.
func (g *Gap) continued(by *Gap) bool {
	if g.Count == 0 && by.Count == 0 {
		return by.From <= g.To+1 && g.From <= by.To+1
	}
	return g.To+1 == by.From
}

// restoreGapsLocked takes over the gaps of a cursor, so that the device is told
// again what it has not confirmed. A gap without a reason was not explained yet.
func (mb *Mailbox) restoreGapsLocked(gaps []Gap) {
	for _, g := range gaps {
		if g.Reason == "" {
			mb.lost = append(mb.lost, loss{lane: g.Lane, from: g.From, to: g.To, count: g.Count})
			continue
		}
		mb.gaps = append(mb.gaps, toldGap{Gap: g})
	}
}

// storedGapsLocked returns the gaps as the cursor holds them.
func (mb *Mailbox) storedGapsLocked() []Gap {
	var gaps []Gap
	for _, g := range mb.gaps {
		gaps = addGap(gaps, g.Gap)
	}
	for _, l := range mb.lost {
		gaps = addGap(gaps, Gap{Lane: l.lane, From: l.from, To: l.to, Count: l.count})
	}
	return gaps
}

// gapLocked adds a gap that the device has to be told of.
func (mb *Mailbox) gapLocked(g Gap) {
	mb.gaps = append(mb.gaps, toldGap{Gap: g, order: mb.sends})
	mb.dirtyLocked()
}

// confirmGapsLocked drops the gaps that the device was told of before it was sent
// the message that it acknowledges now. order is that message's number.
func (mb *Mailbox) confirmGapsLocked(order uint64) {
	left := mb.gaps[:0]
	for _, g := range mb.gaps {
		if !g.told || order <= g.order {
			left = append(left, g)
		}
	}
	if mb.gaps = left; len(left) == 0 {
		mb.gaps = nil
	}
}

// Gaps returns the gaps that the device is yet to be told of on this connection,
// and marks them as told. They go before the messages that Next returned last.
func (mb *Mailbox) Gaps() []wire.Gap {
	mb.mu.Lock()
	defer mb.mu.Unlock()
	var gaps []wire.Gap
	for i := range mb.gaps {
		if g := &mb.gaps[i]; !g.told {
			g.told = true
			gaps = append(gaps, g.Wire())
		}
	}
	return gaps
}

// ackPendingLocked reports whether an earlier connection left something
// unacknowledged.
func (mb *Mailbox) ackPendingLocked() bool {
	for n := range mb.lanes {
		if len(mb.lanes[n].ackPending) > 0 {
			return true
		}
	}
	return false
}

// loss is messages of a lane that are gone, before the reason is known.
type loss struct {
	lane     subjects.Lane
	from, to uint64
	count    uint64
	// exact: these are the sequences of the first and the last of them. Otherwise
	// they lie there if what went were the oldest.
	exact bool
}

// missedLocked looks for messages that earlier connections were sent and did not
// acknowledge, and that the store should have returned before seq. Those are
// gone. It reports whether there are any.
func (mb *Mailbox) missedLocked(n subjects.Lane, seq uint64) bool {
	l := &mb.lanes[n]
	gone := loss{lane: n, exact: true}
	for _, pending := range l.ackPending {
		if pending >= seq {
			break
		}
		if _, acked := mb.early[pending]; acked {
			delete(mb.early, pending)
			continue
		}
		if gone.count == 0 {
			gone.from = pending
		}
		gone.to = pending
		gone.count++
	}
	if gone.count > 0 {
		mb.lost = append(mb.lost, gone)
		mb.fillLocked()
	}
	if seq > 0 {
		l.forgetPending(seq - 1)
	}
	return gone.count > 0
}

// caughtUpLocked is called when everything that is stored of a lane is queued.
// Messages that were counted and not found are gone.
func (mb *Mailbox) caughtUpLocked(n subjects.Lane) {
	l := &mb.lanes[n]
	l.catchingUp = false
	if l.unread > 0 {
		mb.lostLocked(n, max(l.readPos, mb.hub.head.Load()), uint64(l.unread))
	}
	l.unread = 0
}

// lostLocked notes that count messages of a lane are gone which the device was
// never sent. They lie between where the lane began to catch up and to, or behind
// both if the stream has lost its end.
func (mb *Mailbox) lostLocked(n subjects.Lane, to, count uint64) {
	l := &mb.lanes[n]
	from := max(l.fillFrom, l.ackFloor) + 1
	mb.lost = append(mb.lost, loss{lane: n, from: from, to: max(from, to), count: count})
}

// explain finds out why messages are gone, tells their senders, and adds the gaps
// for the device.
func (mb *Mailbox) explain(ctx context.Context) error {
	for {
		mb.mu.Lock()
		if len(mb.lost) == 0 || mb.closed {
			mb.mu.Unlock()
			return nil
		}
		l := mb.lost[0]
		mb.mu.Unlock()
		reason, l, err := mb.hub.whyLost(ctx, mb.key, l)
		if err != nil {
			return err
		}
		if err := mb.hub.tellLost(ctx, mb.key, l, reason); err != nil {
			return err
		}
		mb.mu.Lock()
		if !mb.closed {
			mb.lost = mb.lost[1:]
			mb.gapLocked(Gap{Lane: l.lane, From: l.from, To: l.to, Count: l.count, Reason: reason})
		}
		mb.mu.Unlock()
	}
}

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

// tellLost tells the senders that asked what became of messages that are gone,
// and drops their deadlines.
func (h *Hub) tellLost(ctx context.Context, k subjects.Key, l loss, reason string) error {
	over, err := tellLost(ctx, h.fetch, h.opts.Publish, k, l, reason)
	if err != nil {
		return err
	}
	return h.dropDeadlines(ctx, over)
}

// tellLost stores the outcomes of messages that are gone, and returns the
// sequences of their deadlines. A message that the device acknowledged long ago may be
// among them: its sender has heard another outcome.
func tellLost(ctx context.Context, fetch *direct.Client, publish *Publisher, k subjects.Key, l loss, reason string) (over []uint64, err error) {
	lost, over, err := lostOutcomes(ctx, fetch, k, l, reason)
	if err != nil {
		return nil, err
	}
	before := told(ctx, fetch, publish.Proof, lost)
	writes := newAwaited()
	for i := range lost {
		o := &lost[i]
		b := before[o.seq]
		if b.err != nil {
			return nil, b.err
		}
		if msg := o.message(publish.Proof); msg != nil && !b.told {
			publish.Publish(msg, writes.add())
		}
	}
	return over, writes.wait(ctx)
}

// lostOutcomes returns the outcomes of messages that are gone. The deadlines say
// who asked, since they outlive the messages; over are their sequences. Messages
// between from and to of a loss that are still stored are left out.
func lostOutcomes(ctx context.Context, fetch *direct.Client, k subjects.Key, l loss, reason string) (lost []outcome, over []uint64, err error) {
	stored := storedAmong{fetch: fetch, subject: subjects.Inbox(k, l.lane)}
	for from := uint64(1); ; {
		got, left, err := fetch.Next(ctx, layout.StreamDeadline, layout.Deadline(k), from, laneMessages, laneBytes)
		if err != nil {
			return nil, nil, err
		}
		for _, s := range got {
			from = s.Seq + 1
			o, ok := expiredBy(reader.Entry(s), k, l, reason)
			if !ok {
				continue
			}
			switch there, err := stored.has(ctx, o.seq); {
			case err != nil:
				return nil, nil, err
			case !there:
				lost, over = append(lost, o), append(over, s.Seq)
			}
		}
		if left == 0 || len(got) == 0 {
			return lost, over, nil
		}
	}
}

// storedAmong finds out whether messages of a lane are still stored. It remembers
// where it has found nothing, so that a purge costs one request.
type storedAmong struct {
	fetch    *direct.Client
	subject  string
	from, to uint64 // nothing is stored at from <= seq < to
}

func (a *storedAmong) has(ctx context.Context, seq uint64) (bool, error) {
	if a.from <= seq && seq < a.to {
		return false, nil
	}
	next, err := a.fetch.AtLeader(ctx, layout.StreamInbox, a.subject, seq)
	if err != nil { // such as a damaged block, which Direct Get skips
		msgs, _, err := a.fetch.Next(ctx, layout.StreamInbox, a.subject, seq, 1, laneBytes)
		if err != nil {
			return false, err
		}
		if next = nil; len(msgs) > 0 {
			next = &msgs[0]
		}
	}
	a.from, a.to = seq, math.MaxUint64
	if next != nil {
		a.to = next.Seq
	}
	return a.to == seq, nil
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
