package inbox

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"time"

	"github.com/rccs-io/rccs/internal/layout"
	"github.com/rccs-io/rccs/subjects"
	"github.com/rccs-io/rccs/wire"
)

// Damage takes messages of which nobody may be able to tell any more whose they
// were. Each is a [Doubt], and counts against every device whose cursor does not
// count the message: it is told a gap without a number. A service may have sent it
// to a device that was yet to register, so a new one is told for a while.
// The cursor says up to which doubt that was done ([Cursor.Doubted]).

// damaged is what is stored under [layout.Damaged]: the sequences, first and
// last, that a server found unreadable before it opened the stream.
type damaged struct {
	Ranges [][2]uint64 `json:"ranges"`
	// Messages are those of Ranges whose subjects could be read, and Doubts are
	// the others, the oldest first.
	Messages []struct {
		Seq     uint64 `json:"seq"`
		Subject string `json:"subject"`
	} `json:"messages"`
	Doubts []Doubt `json:"doubts"`
}

// Doubt is messages that are gone, of which nobody knows whose they were.
type Doubt struct {
	From uint64 `json:"from"`
	To   uint64 `json:"to"`
	// At is when it was found, in Unix nanoseconds. It rises from one to the next.
	At int64 `json:"at"`
	// Open: the stream has lost its end, and nobody knows how much that was.
	Open bool `json:"open,omitempty"`
}

// AddDoubts adds doubts to a list, with the time and what was counted: messages up
// to there are in the cursors of their devices, which tell of them. open says that
// the stream has lost its end, with which the last of the ranges begins.
func AddDoubts(list []Doubt, ranges [][2]uint64, counted uint64, now time.Time, open bool) []Doubt {
	at := now.UnixNano()
	if n := len(list); n > 0 {
		at = max(at, list[n-1].At+1)
	}
	list = slices.Clone(list)
	for _, r := range ranges {
		if r[1] > counted {
			list = append(list, Doubt{From: max(r[0], counted+1), To: r[1], At: at})
			counted = r[1]
		}
	}
	if open {
		list = append(list, Doubt{From: counted + 1, To: counted + 1, At: at, Open: true})
	}
	for i := range list { // each is told by itself
		if i > 0 && list[i].At <= list[i-1].At {
			list[i].At = list[i-1].At + 1
		}
	}
	return list
}

// ParseCounted reads what is stored under [layout.Counted]: up to which sequence
// every message is in some cursor.
func ParseCounted(data []byte) (upTo uint64, err error) {
	var c counted
	if err := json.Unmarshal(data, &c); err != nil {
		return 0, fmt.Errorf("inbox: stored counted mark: %w", err)
	}
	return c.UpTo, nil
}

// parseDamaged reads what is stored; what cannot be read names no sequence.
func parseDamaged(data []byte) *damaged {
	d := &damaged{}
	if json.Unmarshal(data, d) != nil {
		return &damaged{}
	}
	return d
}

// doubtNew is for how long a device that had no cursor is told of a doubt: one that
// registers for the first time, or whose cursor is among what was damaged.
const doubtNew = 7 * 24 * time.Hour

// tell adds gaps to a cursor for the doubts that it does not know. stored is when
// the store took it; the zero time, when the device has none. What it counted
// before the damage was found is no doubt of this device.
func (d *damaged) tell(c *Cursor, stored time.Time) {
	for _, r := range d.Doubts {
		if r.At <= c.Doubted {
			continue
		}
		c.Doubted = r.At
		at, from, to := time.Unix(0, r.At), r.From, r.To
		switch {
		case stored.IsZero() && time.Since(at) > doubtNew:
			continue
		case stored.Before(at):
			from = max(from, c.UpTo+1)
		}
		if r.Open {
			to = max(to, from)
		}
		for lane := range subjects.Lanes {
			if from <= to {
				c.AddGap(Gap{Lane: subjects.Lane(lane), From: from, To: to, Reason: wire.ReasonDamaged})
			}
		}
	}
}

// narrow is the part of a loss that is damaged: from the first such range to the
// last. The end of the stream that was lost lies above where it ends now.
func (d *damaged) narrow(l loss) (within loss, ok bool) {
	within = l
	for _, r := range d.Ranges {
		if r[1] < l.from || r[0] > l.to+1 {
			continue
		}
		if from := max(r[0], l.from); !ok || from < within.from {
			within.from = from
		}
		if !ok || r[1] > within.to {
			within.to = r[1]
		}
		ok = true
	}
	return within, ok
}

// LearnDamage reads what is damaged, and tells devices that are attached. The hub
// does so each minute, and when the reading of the stream was repaired: a
// server that was started again may have found more than when this hub was.
func (h *Hub) LearnDamage(ctx context.Context) error {
	found, err := h.cursors.last.Get(ctx, []string{layout.Damaged(layout.StreamInbox)})
	if err != nil || found[0] == nil {
		return err
	}
	d := parseDamaged(found[0].Data)
	h.mu.Lock()
	defer h.mu.Unlock()
	h.damaged.Store(d)
	for _, mb := range h.mailboxes {
		mb.doubt(d)
	}
	return nil
}

// doubt adds the gaps of doubts that the mailbox does not know.
func (mb *Mailbox) doubt(d *damaged) {
	mb.mu.Lock()
	defer mb.mu.Unlock()
	if !mb.counting || mb.closed {
		return // it will see them
	}
	c := Cursor{Doubted: mb.doubted}
	d.tell(&c, time.Now())
	if mb.doubted == c.Doubted {
		return
	}
	mb.doubted = c.Doubted
	for _, g := range c.Gaps {
		mb.gapLocked(g)
	}
	mb.dirtyLocked()
	mb.opts.Wake()
}
