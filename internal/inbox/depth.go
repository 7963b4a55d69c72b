package inbox

import (
	"context"
	"encoding/json"
	"errors"
	"strconv"
	"strings"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/rccs-io/rccs/internal/direct"
	"github.com/rccs-io/rccs/internal/envelope"
	"github.com/rccs-io/rccs/internal/layout"
	"github.com/rccs-io/rccs/subjects"
)

// ErrFull means that an inbox has no room: too many of its messages are
// unacknowledged.
var ErrFull = errors.New("inbox: full of unacknowledged messages")

// depth is what the hub knows of how many messages of an inbox are
// unacknowledged. It is guarded by Hub.mu. For a device that is attached here the
// mailbox has the count, and only reserved is added to it.
type depth struct {
	base     int  // unacknowledged at the last look at the store
	known    bool // base was counted
	count    int  // stored since
	reserved int  // admitted and not read back yet
	counted  time.Time
	told     bool // the event "full" was stored
	nobody   bool // the subject names no device: its tokens are no valid names
}

func (d *depth) total() int { return d.base + d.count + d.reserved }

const (
	// maxDepths bounds the inboxes that are counted. Past it counting begins
	// anew, which at worst lets a full inbox take a little more.
	maxDepths = 1 << 20
	// recount is how often the store is asked about one inbox that seems full.
	recount = 250 * time.Millisecond
	// MaxUnacked/uncounted messages may come in before the store is asked how
	// many were there before.
	uncounted = 64
)

// depthLocked returns the depth of an inbox, and makes one if there is none.
func (h *Hub) depthLocked(k subjects.Key) *depth {
	d := h.depths[k]
	if d == nil {
		if len(h.depths) >= maxDepths {
			clear(h.depths)
		}
		_, err := k.Address()
		d = &depth{nobody: err != nil}
		h.depths[subjects.Key(strings.Clone(string(k)))] = d // k may be a part of something longer
	}
	return d
}

// countLocked counts a stored message. mb is the mailbox of its device, nil if
// none is attached here.
func (h *Hub) countLocked(m *envelope.Message, mb *Mailbox) {
	d := h.depthLocked(m.Key)
	d.count++
	if d.reserved > 0 { // otherwise a service or another edge published it
		d.reserved--
	}
	h.tell.Inbox(m, d.nobody)
	if mb != nil {
		total := mb.unacked() + 1 // the mailbox has yet to get this one
		if tell := total > h.opts.MaxUnacked; tell != d.told {
			d.told = tell
			if tell {
				go h.tellFull(m.Key, total)
			}
		}
		return
	}
	if d.total() <= h.opts.MaxUnacked || d.told || time.Since(d.counted) < recount {
		return
	}
	d.counted = time.Now()
	go h.checkFull(m.Key) // it asks the store
}

// Admit reserves room for n messages in an inbox, or returns ErrFull. The caller
// publishes them next.
func (h *Hub) Admit(ctx context.Context, k subjects.Key, n int) error {
	for {
		h.mu.Lock()
		d := h.depthLocked(k)
		var full bool
		if mb := h.mailboxes[k]; mb != nil {
			full = mb.unacked()+d.reserved+n > h.opts.MaxUnacked
			if full {
				h.mu.Unlock()
				return ErrFull
			}
		} else {
			full = d.total()+n > h.opts.MaxUnacked
		}
		ask := full || !d.known && d.count+d.reserved >= h.opts.MaxUnacked/uncounted && h.mailboxes[k] == nil
		if !ask {
			d.reserved += n
			h.mu.Unlock()
			return nil
		}
		if full && d.known && time.Since(d.counted) < recount {
			h.mu.Unlock()
			return ErrFull
		}
		h.mu.Unlock()
		if err := h.countStored(ctx, k); err != nil {
			return err
		}
	}
}

// unacked returns how many messages the mailbox knows to be unacknowledged.
func (mb *Mailbox) unacked() int {
	mb.mu.Lock()
	defer mb.mu.Unlock()
	return int(mb.out) + mb.waitingLocked()
}

// countStored asks the store how many messages of an inbox are unacknowledged.
func (h *Hub) countStored(ctx context.Context, k subjects.Key) error {
	began := time.Now()
	c, _, _, err := h.cursors.load(ctx, k)
	if err != nil {
		return err
	}
	total, err := unackedStored(ctx, h.fetch, k, &c)
	if err != nil {
		return err
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	d := h.depthLocked(k)
	// Messages on their way may be in the count or not. Assume that they are.
	d.base, d.known, d.count, d.reserved, d.counted = total, true, 0, 0, began
	if total < h.opts.MaxUnacked {
		d.told = false
	}
	return nil
}

// unackedStored returns how many stored messages a cursor leaves unacknowledged.
func unackedStored(ctx context.Context, fetch *direct.Client, k subjects.Key, c *Cursor) (int, error) {
	total := 0
	for n := range c.Sent {
		total += len(c.Unacked[n])
		msgs, left, err := fetch.Next(ctx, layout.StreamInbox, subjects.Inbox(k, subjects.Lane(n)), c.Sent[n]+1, 1, laneBytes)
		if err != nil {
			return 0, err
		}
		total += len(msgs) + left
	}
	return total, nil
}

// checkFull tells services when what they published has filled an inbox.
func (h *Hub) checkFull(k subjects.Key) {
	ctx, cancel := context.WithTimeout(h.closing, fullTimeout)
	defer cancel()
	if err := h.countStored(ctx, k); err != nil {
		return // counted again with the next message
	}
	h.mu.Lock()
	d := h.depthLocked(k)
	tell := d.total() > h.opts.MaxUnacked && !d.told
	d.told = d.told || tell
	total := d.total()
	h.mu.Unlock()
	if tell {
		h.tellFull(k, total)
	}
}

// tellFull stores the event that an inbox is over its bound.
func (h *Hub) tellFull(k subjects.Key, total int) {
	a, err := k.Address()
	if err != nil {
		return
	}
	now := time.Now()
	body, err := json.Marshal(struct {
		Kind    string `json:"kind"`
		User    string `json:"user"`
		Device  string `json:"device"`
		At      string `json:"at"`
		Unacked int    `json:"unacked"`
	}{subjects.EventFull, string(a.User), string(a.Device), now.UTC().Format(time.RFC3339Nano), total})
	if err != nil {
		return
	}
	msg := &nats.Msg{
		Subject: subjects.Event(k, subjects.EventFull), Data: body,
		// Every edge notices. The id makes it one event a minute.
		Header: nats.Header{jetstream.MsgIDHeader: {"event/full/" + string(k) + "/" + strconv.FormatInt(now.Unix()/60, 10)}},
	}
	h.opts.Publish.Publish(msg, func(_ Receipt, err error) {
		if err != nil {
			h.opts.Logger.Warn("event not stored", "kind", subjects.EventFull, "device", string(k), "err", err)
		}
	})
}

// fullTimeout bounds the count of an inbox that seems full.
const fullTimeout = 10 * time.Second
