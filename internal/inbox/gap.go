package inbox

import (
	"slices"
	"strconv"

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

// maxGaps bounds the gaps that a cursor holds. Past it, gaps of one lane and
// reason are merged.
const maxGaps = 32

// AddGap adds a gap to those the device has to be told of.
func (c *Cursor) AddGap(g Gap) { c.Gaps = addGap(c.Gaps, g) }

// Confirm drops the gaps that the device was told of before it was sent the message
// seq, which it has acknowledged.
func (c *Cursor) Confirm(seq uint64) {
	c.Gaps = slices.DeleteFunc(slices.Clone(c.Gaps), func(g Gap) bool { return g.Told && min(g.To, g.After) < seq })
}

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
