package inbox

import (
	"context"
	"slices"
	"strings"
	"time"

	"github.com/rccs-io/rccs/internal/envelope"
	"github.com/rccs-io/rccs/internal/wake"
	"github.com/rccs-io/rccs/subjects"
)

// Messages that retention, a purge or damage takes from a device that is away
// leave no trace in the stream. So that the device can be told how many are gone,
// a hub counts each message that it reads for a device without a mailbox here in
// the device's cursor ([Cursor.Waiting]), soon after. The cursor says up to which
// sequence it counts. So a message is counted once, however many hubs do this.
//
// The counted mark is the sequence up to which every message is in some stored
// cursor. A hub that starts counts the messages between the mark and the stream's
// end, so that a killed hub loses no counts either.

// tally has the messages that were read and that no stored cursor counts yet. It
// is guarded by Hub.mu.
type tally struct {
	devices map[subjects.Key][]tallied
	mark    uint64 // the counted mark that was stored last
	// next is the counted mark to store once every change made until since is
	// stored; 0: none.
	next  uint64
	since time.Time

	kick wake.Signal          // something was counted
	quit chan context.Context // capacity 1: bounds the last round
	done chan struct{}
}

func newTally() tally {
	return tally{devices: make(map[subjects.Key][]tallied), kick: wake.New(), quit: make(chan context.Context, 1), done: make(chan struct{})}
}

// tallied is a message in the tally.
type tallied struct {
	seq  uint64
	lane subjects.Lane
	read time.Time
	// request is the deadline to store for a sender that asked; nil for none.
	request *Deadline
}

// addLocked counts a message of a device that has no mailbox here, or one that
// is being attached.
func (t *tally) addLocked(k subjects.Key, one tallied) {
	list, ok := t.devices[k]
	if !ok {
		k = subjects.Key(strings.Clone(string(k))) // k may be a part of something longer
	}
	t.devices[k] = append(list, one)
	t.kick.Set()
}

// waitingLocked counts a device's tallied messages into its cursor, which then
// counts up to head.
func (t *tally) waitingLocked(k subjects.Key, c *Cursor, head uint64) {
	for _, one := range t.devices[k] {
		c.count(one.lane, one.seq)
	}
	c.UpTo = max(c.UpTo, head)
}

// tallyLocked counts a message that no mailbox here counts.
func (h *Hub) tallyLocked(m *envelope.Message) {
	one := tallied{seq: m.Seq, lane: m.Lane, read: time.Now()}
	if a := requesterOf(m); a != nil {
		one.request = h.retentionOf(m, a)
	}
	h.tally.addLocked(m.Key, one)
}

// tallyMissedLocked counts a message that no hub may have counted before. Its
// deadline may be lost as well.
func (h *Hub) tallyMissedLocked(m *envelope.Message) {
	one := tallied{seq: m.Seq, lane: m.Lane, read: time.Now()}
	if a := requesterOf(m); a != nil {
		if one.request = lifeOf(m, a); one.request == nil {
			one.request = h.retentionOf(m, a)
		}
	}
	h.tally.addLocked(m.Key, one)
}

// isUnacked reports whether the cursor lists a message as sent and not
// acknowledged.
func (c *Cursor) isUnacked(lane subjects.Lane, seq uint64) bool {
	_, ok := slices.BinarySearch(c.Unacked[lane], seq)
	return ok
}
