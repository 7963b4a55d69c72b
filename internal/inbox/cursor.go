package inbox

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strconv"

	"github.com/rccs-io/rccs/internal/envelope"
	"github.com/rccs-io/rccs/subjects"
)

// Cursor records what a device was sent and what it has acknowledged. It is
// stored as JSON on the cursor stream, one message a device:
//
//	{"sent":[0,17,0,0],"unacked":[[],[12,15],[],[]],"open":true,"asked":[15],"epoch":3}
//
// Array indexes are lanes, the lowest first. Every message of a lane up to sent
// was sent to the device at some time, or was finalized without being sent. All
// of these are acknowledged except those in unacked. open says that messages above
// sent may have been sent as well: a session was live when the cursor was written,
// or one before it may have been sent more than it was.
//
// waiting and upTo make losses countable. Of the messages ever stored up to the
// sequence upTo, waiting[lane] are above sent[lane]. If fewer than that are
// found, the others are gone.
type Cursor struct {
	Sent    [subjects.Lanes]uint64   `json:"sent"`
	Unacked [subjects.Lanes][]uint64 `json:"unacked"`
	Open    bool                     `json:"open,omitempty"`
	// AckRequested are the messages of Unacked whose senders asked to hear the
	// outcome, in ascending order over all lanes.
	AckRequested []uint64 `json:"asked,omitempty"`
	// Epoch is that of the session that wrote the cursor. A cursor of an earlier
	// epoch does not replace it.
	Epoch uint64 `json:"epoch,omitempty"`
	// Waiting is how many messages above Sent were stored up to UpTo.
	Waiting [subjects.Lanes]uint64 `json:"waiting"`
	UpTo    uint64                 `json:"upTo,omitempty"`
	// Gaps are those that the device has to be told of, or was told of and has
	// acknowledged nothing since.
	Gaps []Gap `json:"gaps,omitempty"`
	// Tries is how many connections were sent each message of Unacked, by
	// sequence. It is only kept where deliveries are limited.
	Tries map[uint64]uint32 `json:"tries,omitempty"`
	// Doubted is the time of the latest [Doubt] that the device was told of, or
	// that does not concern it; in Unix nanoseconds.
	Doubted int64 `json:"doubted,omitempty"`
}

// Follows has the cursor be that of the device's last session, whose epoch is given; 0
// if the roster knows of none. If it is another's, that session stored none, or the
// store has lost that cursor or the session since. Then what lies above it may have
// been sent.
func (c *Cursor) Follows(epoch uint64) {
	if c.Epoch != epoch {
		c.Open, c.Epoch = true, epoch
	}
}

// Advance records that message seq of a lane was sent, or finalized without being
// sent. Call it once for each message, in ascending order.
func (c *Cursor) Advance(lane subjects.Lane, seq uint64) {
	if seq <= c.Sent[lane] {
		return
	}
	c.Sent[lane] = seq
	if seq <= c.UpTo && c.Waiting[lane] > 0 {
		c.Waiting[lane]--
	}
}

// Deliveries returns to how many connections a message was sent, as far as that was
// counted. Each fetch of a device on plain NATS counts as one.
func (c *Cursor) Deliveries(lane subjects.Lane, seq uint64) int {
	if _, sent := slices.BinarySearch(c.Unacked[lane], seq); !sent {
		return int(c.Tries[seq])
	}
	return int(max(c.Tries[seq], 1))
}

// CountDelivery records that a message is sent to one more connection.
func (c *Cursor) CountDelivery(lane subjects.Lane, seq uint64) {
	n := c.Deliveries(lane, seq) + 1
	if c.Tries == nil {
		c.Tries = make(map[uint64]uint32)
	}
	c.Tries[seq] = uint32(n) //nolint:gosec // far fewer fit
}

// NoteRequester records that the sender of a message which becomes one of Unacked wants
// to hear the outcome, if it does.
func (c *Cursor) NoteRequester(m *envelope.Message) {
	if at, noted := slices.BinarySearch(c.AckRequested, m.Seq); !noted && requesterOf(m) != nil {
		c.AckRequested = slices.Insert(c.AckRequested, at, m.Seq)
	}
}

// tidy drops what is recorded of messages that are not in Unacked any more.
func (c *Cursor) tidy() {
	if len(c.AckRequested)+len(c.Tries) == 0 {
		return
	}
	open := make(map[uint64]bool)
	for _, unacked := range c.Unacked {
		for _, seq := range unacked {
			open[seq] = true
		}
	}
	c.AckRequested = slices.DeleteFunc(slices.Clone(c.AckRequested), func(seq uint64) bool { return !open[seq] })
	c.Tries = maps.Clone(c.Tries)
	maps.DeleteFunc(c.Tries, func(seq uint64, _ uint32) bool { return !open[seq] })
}

// count records that a message was stored. Messages may be counted in any order,
// but before UpTo is raised past them.
func (c *Cursor) count(lane subjects.Lane, seq uint64) {
	if seq > c.UpTo && seq > c.Sent[lane] {
		c.Waiting[lane]++
	}
}

// expects is what should be stored of a lane after [Cursor.AckFloor].
func (c *Cursor) expects(lane subjects.Lane) expected {
	return expected{counted: int64(c.Waiting[lane]), floor: c.Sent[lane], known: c.UpTo, pending: c.Unacked[lane]} //nolint:gosec // a count of messages
}

// AckFloor is the sequence of a lane up to which all is acknowledged.
func (c *Cursor) AckFloor(lane subjects.Lane) uint64 {
	if u := c.Unacked[lane]; len(u) > 0 {
		return u[0] - 1
	}
	return c.Sent[lane]
}

// acknowledges reports whether a message was sent, or finalized without that, and is
// acknowledged.
func (c *Cursor) acknowledges(lane subjects.Lane, seq uint64) bool {
	return seq <= c.Sent[lane] && !c.isUnacked(lane, seq)
}

// above reports whether the cursor says that more was sent than another one does.
func (c *Cursor) above(other *Cursor) bool {
	for lane := range c.Sent {
		if c.Sent[lane] > other.Sent[lane] {
			return true
		}
	}
	return false
}

// top is the highest sequence that the cursor says anything about.
func (c *Cursor) top() uint64 { return max(c.UpTo, slices.Max(c.Sent[:])) }

// cut moves one lane back to last. Messages above it that were counted, or sent
// and not acknowledged, stay counted: they will not be found, and the device is
// told that they are lost.
func (c *Cursor) cut(lane subjects.Lane, last uint64) {
	c.Sent[lane] = min(c.Sent[lane], last)
	kept := slices.Clone(c.Unacked[lane])
	kept = slices.DeleteFunc(kept, func(seq uint64) bool {
		if seq <= last {
			return false
		}
		delete(c.Tries, seq) // another message may get this seq
		return true
	})
	c.Waiting[lane] += uint64(len(c.Unacked[lane]) - len(kept)) //nolint:gosec // not negative
	c.Unacked[lane] = kept
	c.UpTo = min(c.UpTo, last)
}

// ParseCursor reads a stored cursor and refuses one that makes no sense.
func ParseCursor(data []byte) (Cursor, error) {
	var c Cursor
	if err := json.Unmarshal(data, &c); err != nil {
		return Cursor{}, fmt.Errorf("inbox: cursor: %w", err)
	}
	for lane, unacked := range c.Unacked {
		last := uint64(0)
		for _, seq := range unacked {
			if seq <= last || seq > c.Sent[lane] {
				return Cursor{}, fmt.Errorf("inbox: cursor: lane %s: %d is out of order or above %d", subjects.Lane(lane), seq, c.Sent[lane])
			}
			last = seq
		}
	}
	for _, g := range c.Gaps {
		if int(g.Lane) >= subjects.Lanes || g.From > g.To {
			return Cursor{}, fmt.Errorf("inbox: cursor: gap of lane %d from %d to %d", g.Lane, g.From, g.To)
		}
	}
	if !slices.IsSorted(c.AckRequested) {
		return Cursor{}, fmt.Errorf("inbox: cursor: asked is out of order: %v", c.AckRequested)
	}
	return c, nil
}

// Append appends the cursor as it is stored.
func (c *Cursor) Append(dst []byte) []byte {
	dst = appendSeqs(append(dst, `{"sent":`...), c.Sent[:])
	dst = append(dst, `,"unacked":[`...)
	for lane, unacked := range c.Unacked {
		if lane > 0 {
			dst = append(dst, ',')
		}
		dst = appendSeqs(dst, unacked)
	}
	dst = append(dst, ']')
	if c.Open {
		dst = append(dst, `,"open":true`...)
	}
	if len(c.AckRequested) > 0 {
		dst = appendSeqs(append(dst, `,"asked":`...), c.AckRequested)
	}
	if c.Epoch > 0 {
		dst = strconv.AppendUint(append(dst, `,"epoch":`...), c.Epoch, 10)
	}
	if c.Waiting != [subjects.Lanes]uint64{} {
		dst = appendSeqs(append(dst, `,"waiting":`...), c.Waiting[:])
	}
	if c.UpTo > 0 {
		dst = strconv.AppendUint(append(dst, `,"upTo":`...), c.UpTo, 10)
	}
	for i := range c.Gaps {
		dst = append(dst, [2]string{`,"gaps":[`, `,`}[min(i, 1)]...)
		dst = c.Gaps[i].append(dst)
	}
	if len(c.Gaps) > 0 {
		dst = append(dst, ']')
	}
	if len(c.Tries) > 0 {
		tries, _ := json.Marshal(c.Tries) // numbers cannot fail
		dst = append(append(dst, `,"tries":`...), tries...)
	}
	if c.Doubted > 0 {
		dst = strconv.AppendInt(append(dst, `,"doubted":`...), c.Doubted, 10)
	}
	return append(dst, '}')
}

// appendSeqs appends an array of numbers.
func appendSeqs(dst []byte, seqs []uint64) []byte {
	dst = append(dst, '[')
	for i, seq := range seqs {
		if i > 0 {
			dst = append(dst, ',')
		}
		dst = strconv.AppendUint(dst, seq, 10)
	}
	return append(dst, ']')
}
