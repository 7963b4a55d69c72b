package inbox

import (
	"cmp"
	"encoding/json"
	"errors"
	"maps"
	"slices"
	"strconv"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/rccs-io/rccs/internal/damage"
	"github.com/rccs-io/rccs/internal/layout"
	"github.com/rccs-io/rccs/internal/proof"
	"github.com/rccs-io/rccs/subjects"
	"github.com/rccs-io/rccs/wire"
)

// A restore that puts the inboxes of several shards into one stream gives messages
// other sequences, in the same order. What is stored beside them names them by
// sequence, and is rewritten by the methods below.

// Renumbering returns the new sequence of an old one. It never returns one twice,
// and keeps the order.
type Renumbering func(seq uint64) uint64

func (r Renumbering) all(seqs []uint64) {
	for i, seq := range seqs {
		if seq > 0 {
			seqs[i] = r(seq)
		}
	}
}

// Cursor rewrites a device's cursor. One that cannot be read stays as it is.
func (r Renumbering) Cursor(stored []byte) []byte {
	c, err := ParseCursor(stored)
	if err != nil {
		return stored
	}
	r.all(c.Sent[:])
	for _, unacked := range c.Unacked {
		r.all(unacked)
	}
	r.all(c.AckRequested)
	if c.UpTo > 0 {
		c.UpTo = r(c.UpTo)
	}
	for i := range c.Gaps {
		g := &c.Gaps[i]
		if g.From, g.To = r(g.From), r(g.To); g.After > 0 {
			g.After = r(g.After)
		}
	}
	tries := make(map[uint64]uint32, len(c.Tries))
	for seq, n := range c.Tries {
		tries[r(seq)] = n
	}
	c.Tries = tries
	return c.Append(nil)
}

// Purged rewrites what is stored of a device's purges.
func (r Renumbering) Purged(stored []byte) []byte {
	p := parsePurged(stored)
	r.all(p[:])
	body, _ := json.Marshal(p) // numbers cannot fail
	return body
}

// Deadline rewrites an entry of the deadline stream; nil: it cannot be read.
func (r Renumbering) Deadline(k subjects.Key, stored []byte) *nats.Msg {
	var d Deadline
	if json.Unmarshal(stored, &d) != nil {
		return nil
	}
	d.Seq = r(d.Seq)
	return d.message(k)
}

// Outcome rewrites what a device was told of a message that it had sent. It reports
// false for anything else, such as a message that only looks like it.
func (r Renumbering) Outcome(k *proof.Key, to subjects.Key, lane subjects.Lane, h nats.Header, body []byte) bool {
	id := h.Get(subjects.HeaderID)
	seq, ok := cutSeq(id, outcomePrefix)
	if !ok || h.Get(subjects.HeaderType) != wire.TypeAck || !k.Is(h.Get(layout.HeaderProof), proof.Server, string(to), id, string(body)) {
		return false
	}
	seq = r(seq)
	maps.Copy(h, Notice(k, to, lane, outcomeID(seq), strconv.FormatUint(seq, 10), body).Header)
	return true
}

// Event rewrites an event about the end of a message. It returns any other event as
// it is.
func (r Renumbering) Event(h nats.Header, stored []byte) []byte {
	seq, id, ok := ParseEventID(h.Get(jetstream.MsgIDHeader))
	fields := map[string]json.RawMessage{}
	if !ok || json.Unmarshal(stored, &fields) != nil || fields == nil {
		return stored
	}
	seq = r(seq)
	h.Set(jetstream.MsgIDHeader, eventID(seq, id))
	fields["seq"] = strconv.AppendUint(nil, seq, 10)
	body, err := json.Marshal(fields)
	if err != nil {
		return stored
	}
	return body
}

// Counted returns up to where every message of all shards is counted, of what was
// stored in one. The least of them holds for the new stream.
func (r Renumbering) Counted(stored []byte) uint64 {
	upTo, err := ParseCounted(stored)
	if err != nil {
		return 0
	}
	return r(upTo+1) - 1
}

// CountedUpTo returns the value to store under [layout.Counted].
func CountedUpTo(seq uint64) []byte {
	body, _ := json.Marshal(&counted{seq}) // a number cannot fail
	return body
}

// Watermark returns the watermark of one shard. The highest of them holds for the
// new stream.
func (r Renumbering) Watermark(stored []byte) uint64 {
	head, err := parseWatermark(stored)
	if err != nil || head == 0 {
		return 0
	}
	return r(head)
}

// WatermarkAt returns the value to store under [layout.Watermark].
func WatermarkAt(head uint64) []byte { return appendWatermark(head) }

// Damaged adds what is damaged in one shard to what is in others. A device is told
// of the doubts of all: one too many is better than none.
func (r Renumbering) Damaged(others, stored []byte) ([]byte, error) {
	sum, one := damage.Parse(others), damage.Parse(stored)
	for _, pair := range one.Ranges {
		sum.AddRange([2]uint64{r(pair[0]), r(pair[1])})
	}
	for _, m := range one.Messages {
		m.Seq = r(m.Seq)
		sum.AddMessage(m)
	}
	doubts := parseDamaged(others).Doubts
	for _, d := range parseDamaged(stored).Doubts {
		d.From, d.To = r(d.From), r(d.To)
		doubts = append(doubts, d)
	}
	slices.SortStableFunc(doubts, func(a, b Doubt) int { return cmp.Compare(a.At, b.At) })
	apart(doubts)
	if err := errors.Join(sum.Set("doubts", doubts), sum.AddFound(one)); err != nil {
		return nil, err
	}
	return sum.Bytes()
}
