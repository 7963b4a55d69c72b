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

// Damage can take messages whose recipients nobody can name any more. A range of
// them is a [Doubt]. It concerns every device whose cursor does not count the
// messages: such a device is told a gap without a count. A service may have sent
// the messages to a device that was yet to register, so new devices are told for
// a while too. [Cursor.Doubted] says up to which doubt a device was told.

// damaged is what is stored under [layout.Damaged]. Ranges are the first and last
// sequences that a server found unreadable before it opened the stream, or that a
// hub found missing at its end.
type damaged struct {
	Ranges [][2]uint64 `json:"ranges"`
	// Messages are the messages of Ranges whose subjects could be read. Doubts
	// are the others, the oldest first.
	Messages []struct {
		Seq     uint64 `json:"seq"`
		Subject string `json:"subject"`
	} `json:"messages"`
	Doubts []Doubt `json:"doubts"`
}

// Doubt is a range of messages that are gone and whose recipients nobody knows.
type Doubt struct {
	From uint64 `json:"from"`
	To   uint64 `json:"to"`
	// At is when it was found, in Unix nanoseconds. Each doubt is later than the
	// one before.
	At int64 `json:"at"`
	// Open: the stream has lost its end, and nobody knows how much of it.
	Open bool `json:"open,omitempty"`
}

// AddDoubts adds a doubt to list for each range, found at now. It leaves out
// messages up to the sequence counted: the cursors of their devices count them
// and report the loss. open says that the stream has lost its end. It adds a
// doubt for what may be lost above the last range.
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
	apart(list)
	return list
}

// apart gives each doubt of an ascending list a time of its own.
func apart(list []Doubt) {
	for i := range list {
		if i > 0 && list[i].At <= list[i-1].At {
			list[i].At = list[i-1].At + 1
		}
	}
}

// ParseCounted reads what is stored under [layout.Counted]: the sequence up to
// which every message is counted in some cursor.
func ParseCounted(data []byte) (upTo uint64, err error) {
	var c counted
	if err := json.Unmarshal(data, &c); err != nil {
		return 0, fmt.Errorf("inbox: stored counted mark: %w", err)
	}
	return c.UpTo, nil
}

// NothingCounted returns the value to store under [layout.Counted] when deadlines
// may be lost: the next hub then reads the stream from its beginning, and stores
// the deadlines that are missing.
func NothingCounted() []byte { return appendCounted(0) }

// parseDamaged decodes what is stored. Data that it cannot decode counts as no
// damage.
func parseDamaged(data []byte) *damaged {
	d := &damaged{}
	if json.Unmarshal(data, d) != nil {
		return &damaged{}
	}
	return d
}

// doubtNew is for how long a device without a cursor is told of a doubt. Such a
// device registers for the first time, or its cursor is among what was damaged.
const doubtNew = 7 * 24 * time.Hour

// tell adds gaps to a cursor for the doubts that it does not know. stored is when
// the store took the cursor; zero if the device has none. Messages that the
// cursor had counted before the damage was found are not in doubt for this
// device.
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

// narrow returns the part of a loss that is damaged, from the first damaged range
// to the last. A range that begins right after the loss counts too, because a
// lost end of the stream lies above where the stream ends now.
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

// LearnDamage reads what is damaged, and tells attached devices. The hub calls it
// every minute, and when its reading of the stream was repaired: a server that
// has restarted may have found more damage than there was when the hub started.
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

// doubt adds gaps for the doubts that the mailbox does not know.
func (mb *Mailbox) doubt(d *damaged) {
	mb.mu.Lock()
	defer mb.mu.Unlock()
	if !mb.counting || mb.closed {
		return // one that is being attached learns of them from its cursor
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
	mb.to.MessagesReady()
}
