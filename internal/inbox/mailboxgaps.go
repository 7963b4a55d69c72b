package inbox

import "github.com/rccs-io/rccs/wire"

// toldGap is a gap of a mailbox, and whether this connection was told it.
type toldGap struct {
	Gap
	told  bool
	order uint64 // how many messages this connection had been sent before it
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
