package inbox

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"sync"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/rccs-io/rccs/internal/direct"
	"github.com/rccs-io/rccs/internal/envelope"
	"github.com/rccs-io/rccs/internal/layout"
	"github.com/rccs-io/rccs/internal/reader"
	"github.com/rccs-io/rccs/subjects"
	"github.com/rccs-io/rccs/wire"
)

// Deadline is an entry of the deadline stream: a message that ends at a known
// time and whose sender wants to hear of that. A mailbox drops an expired message
// itself, but nobody looks at the messages of a device that is away.
type Deadline struct {
	Seq  uint64    `json:"seq"`
	Lane string    `json:"lane"`
	At   time.Time `json:"at"`
	ID   string    `json:"id"`
	From string    `json:"from,omitempty"` // the sending device; empty for a service
	Type string    `json:"type,omitempty"`
	// Reason is why the message ends: "" for its time to live.
	Reason string `json:"reason,omitempty"`
}

// message returns the deadline as it is stored. Every hub stores it; the store
// keeps one by its Nats-Msg-Id. The id is in that because a stream that has lost its
// end gives the seq to another message.
func (d *Deadline) message(k subjects.Key) *nats.Msg {
	body, err := json.Marshal(d)
	if err != nil { // a time that JSON does not know: never
		body = []byte("{}")
	}
	return &nats.Msg{
		Subject: layout.Deadline(k), Data: body,
		Header: nats.Header{jetstream.MsgIDHeader: {"deadline/" + strconv.FormatUint(d.Seq, 10) + "/" + d.ID}},
	}
}

// noteDeadline stores an entry for a message that needs one. Every hub does
// so; the store keeps one.
func (h *Hub) noteDeadline(m *envelope.Message) {
	a := requesterOf(m)
	if a == nil {
		return
	}
	if d := lifeOf(m, a); d != nil {
		h.publishDeadline(m.Key, d)
	}
}

// publishDeadline stores a deadline without waiting: the hub's lock is held, and
// Publish may block.
func (h *Hub) publishDeadline(k subjects.Key, d *Deadline) {
	go h.opts.Publish.Publish(d.message(k), func(_ Receipt, err error) {
		if err != nil { // the device's mailbox tells the sender when the device is back
			h.opts.Logger.Warn("deadline not stored", "device", string(k), "seq", d.Seq, "err", err)
		}
	})
}

// lifeOf returns the deadline of a message that has a time to live, for a sender
// that asked; nil for another.
func lifeOf(m *envelope.Message, a *ackRequester) *Deadline {
	at := m.Expires()
	if at == 0 {
		return nil
	}
	return &Deadline{Seq: m.Seq, Lane: m.Lane.String(), At: time.Unix(0, at).UTC(), ID: a.id, From: a.from, Type: a.kind}
}

// retentionOf returns the deadline of a message that the stream's retention will
// end, for a sender that asked. It is nil if the message has a time to live of
// its own, or is kept for ever.
func (h *Hub) retentionOf(m *envelope.Message, a *ackRequester) *Deadline {
	keep := h.maxAge.Load()
	if keep <= 0 || m.Expires() != 0 {
		return nil
	}
	return &Deadline{
		Seq: m.Seq, Lane: m.Lane.String(), At: time.Unix(0, m.Stored+keep).UTC(),
		ID: a.id, From: a.from, Type: a.kind, Reason: wire.ReasonRetention,
	}
}

// A sender that asked is told when retention removes its message. For a device
// that is away the tally sees to that. For a device attached here the following
// does, for messages that it has not acknowledged for a while.

// unansweredAfter is how long a device has to acknowledge a message before the
// deadline of its retention is stored for the sender.
const unansweredAfter = 2 * time.Second

// unanswered is a message that was given to a mailbox here and whose sender
// asked. It is kept without its data. The headers say what is needed; reading
// them from the stream again would delay devices that attach.
type unanswered struct {
	m    envelope.Message
	read time.Time
}

func newUnanswered(m *envelope.Message) unanswered {
	one := unanswered{*m, time.Now()}
	one.m.Data = nil
	return one
}

// unansweredBatch is how many of them are checked together.
const unansweredBatch = 512

// storeUnanswered stores deadlines for messages that attached devices have not
// acknowledged in time.
func (h *Hub) storeUnanswered(ctx context.Context) error {
	for {
		due, open := h.dueUnanswered()
		if due == 0 {
			return nil
		}
		if err := h.storeRetentions(ctx, open); err != nil {
			return err
		}
		h.mu.Lock()
		if h.unanswered = h.unanswered[due:]; len(h.unanswered) == 0 {
			h.unanswered = nil
		}
		h.mu.Unlock()
	}
}

// dueUnanswered returns how many messages are due to be checked, and which of
// them are not known to be acknowledged.
func (h *Hub) dueUnanswered() (due int, open []unanswered) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for due < min(len(h.unanswered), unansweredBatch) && time.Since(h.unanswered[due].read) >= unansweredAfter {
		one := h.unanswered[due]
		if mb := h.mailboxes[one.m.Key]; mb == nil || mb.isOpen(one.m.Lane, one.m.Seq) {
			open = append(open, one)
		}
		due++
	}
	return due, open
}

// storeRetentions stores the retention deadlines of messages.
func (h *Hub) storeRetentions(ctx context.Context, open []unanswered) error {
	writes := newAwaited()
	for i := range open {
		m := &open[i].m
		a := requesterOf(m)
		if a == nil {
			continue
		}
		if d := h.retentionOf(m, a); d != nil {
			h.opts.Publish.Publish(d.message(m.Key), writes.add())
		}
	}
	return writes.wait(ctx)
}

// storeDeadlines stores deadlines that the tally has. The senders of messages that
// have expired may have been told already, by the hub before this one. It returns
// those of which that could not be found out.
func (h *Hub) storeDeadlines(ctx context.Context, all []deadlineOf, writes *awaited) (open []deadlineOf) {
	now := time.Now()
	var passed []outcome
	for _, d := range all {
		if d.At.Before(now) {
			lane, _ := subjects.ParseLane(d.Lane)
			passed = append(passed, outcome{
				key: d.key, lane: lane, seq: d.Seq, stored: d.At.UnixNano(),
				requester: &ackRequester{id: d.ID, from: d.From, kind: d.Type},
			})
		}
	}
	before := told(ctx, h.fetch, h.opts.Publish.Proof, passed)
	for _, d := range all {
		switch b := before[d.Seq]; {
		case b.err != nil:
			h.opts.Logger.Warn("deadline not stored, trying again", "device", string(d.key), "seq", d.Seq, "err", b.err)
			open = append(open, d)
		case !b.told:
			h.opts.Publish.Publish(d.message(d.key), writes.add())
		}
	}
	return open
}

// deadlineOf is a deadline of a device's message.
type deadlineOf struct {
	key subjects.Key
	*Deadline
}

// expiredBy returns the outcome for a stored deadline whose message is within a
// loss; false if it is not.
func expiredBy(e reader.Entry, k subjects.Key, l loss, reason string) (outcome, bool) {
	var d Deadline
	if json.Unmarshal(e.Data, &d) != nil || d.Lane != l.lane.String() || d.Seq < l.from || d.Seq > l.to {
		return outcome{}, false
	}
	return outcome{
		key: k, lane: l.lane, seq: d.Seq, status: wire.StatusExpired, reason: reason, at: time.Now().UnixNano(),
		requester: &ackRequester{id: d.ID, from: d.From, kind: d.Type},
	}, true
}

// dropsAtOnce is how many deadlines are removed at a time. A device that attaches
// waits for them, and there may be one for each message of a purged inbox.
const dropsAtOnce = 64

// dropDeadlines removes deadlines whose senders have been told.
func (h *Hub) dropDeadlines(ctx context.Context, seqs []uint64) error {
	if len(seqs) == 0 {
		return nil
	}
	stream, err := h.js.Stream(ctx, layout.StreamDeadline)
	if err != nil {
		return fmt.Errorf("inbox: look up stream %s: %w", layout.StreamDeadline, err)
	}
	for some := range slices.Chunk(seqs, dropsAtOnce) {
		failed := make([]error, len(some))
		var drops sync.WaitGroup
		for i, seq := range some {
			drops.Go(func() {
				if err := stream.DeleteMsg(ctx, seq); err != nil && !errors.Is(err, jetstream.ErrMsgNotFound) {
					failed[i] = fmt.Errorf("inbox: drop deadline %d: %w", seq, err)
				}
			})
		}
		drops.Wait()
		if err := cmp.Or(failed...); err != nil {
			return err
		}
	}
	return nil
}

// Fate is the state of a message whose time to live has ended.
type Fate int

// The fates.
const (
	// Over: it is acknowledged, or its sender has been told.
	Over Fate = iota
	// InFlight: the device was sent it in time and may still acknowledge it. It
	// also comes with an error.
	InFlight
)

// Expirer tells senders that a message's time to live has ended.
type Expirer struct {
	fetch   *direct.Client
	cursors *direct.Last
	copies  int
	publish *Publisher
}

// NewExpirer returns an Expirer that reads cursors, of which there are so many copies,
// with c, and stores outcomes with p.
func NewExpirer(c *direct.Client, copies int, p *Publisher) *Expirer {
	return &Expirer{fetch: c, cursors: c.Last(layout.StreamCursor, false), copies: copies, publish: p}
}

// Expire handles a message whose deadline passed long enough ago for the device's
// cursor to be up to date. It tells the sender, unless the message is
// acknowledged, or was sent to a device that is online and may still acknowledge
// it.
func (x *Expirer) Expire(ctx context.Context, key subjects.Key, d *Deadline, online bool) (Fate, error) {
	lane, ok := subjects.ParseLane(d.Lane)
	if !ok {
		return Over, fmt.Errorf("inbox: deadline of %s: lane %q", key, d.Lane)
	}
	c, err := x.cursor(ctx, key, false)
	if err == nil && x.copies > 1 && !c.acknowledges(lane, d.Seq) { // says a copy that may lag
		c, err = x.cursor(ctx, key, true)
	}
	switch {
	case err != nil:
		return InFlight, err
	case c.acknowledges(lane, d.Seq):
		return Over, nil
	case online && d.Seq <= c.Sent[lane]:
		return InFlight, nil
	}
	o := outcome{
		key: key, lane: lane, seq: d.Seq, status: wire.StatusExpired, reason: d.Reason, at: time.Now().UnixNano(),
		requester: &ackRequester{id: d.ID, from: d.From, kind: d.Type},
	}
	msg := o.message(x.publish.Proof)
	if msg == nil {
		return Over, nil
	}
	if err := x.publish.wait(ctx, msg); err != nil {
		return InFlight, err
	}
	return Over, nil
}

// cursor returns the device's cursor as some copy has it, or the leader; an empty one if
// there is none that can be read.
func (x *Expirer) cursor(ctx context.Context, key subjects.Key, atLeader bool) (c Cursor, err error) {
	var found *direct.Stored
	if atLeader {
		found, err = x.fetch.AtLeader(ctx, layout.StreamCursor, layout.Cursor(key), 1)
	} else {
		var all []*direct.Stored
		if all, err = x.cursors.Get(ctx, []string{layout.Cursor(key)}); err == nil {
			found = all[0]
		}
	}
	if err == nil && found != nil {
		c, _ = ParseCursor(found.Data)
	}
	return c, err
}
