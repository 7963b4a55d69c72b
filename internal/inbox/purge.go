package inbox

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/rccs-io/rccs/internal/direct"
	"github.com/rccs-io/rccs/internal/layout"
	"github.com/rccs-io/rccs/internal/leader"
	"github.com/rccs-io/rccs/internal/proof"
	"github.com/rccs-io/rccs/internal/shard"
	"github.com/rccs-io/rccs/subjects"
	"github.com/rccs-io/rccs/wire"
)

// A purge has to reach what hubs hold in memory: their tails, and the queues of
// mailboxes. So it is stored, for those who find the messages missing later. Then
// every hub is told to drop what was purged ([layout.Fence]), and answers when it
// has.

// purged is what is stored under [layout.Purged]: for each lane the sequence up
// to which it was purged last; 0 means never.
type purged [subjects.Lanes]uint64

// parsePurged decodes what is stored. Data that it cannot decode counts as no
// purge.
func parsePurged(data []byte) purged {
	var p purged
	if json.Unmarshal(data, &p) != nil {
		return purged{}
	}
	return p
}

// fence is the message by which hubs are told of a purge.
type fence struct {
	Key  subjects.Key `json:"key"`
	UpTo purged       `json:"upTo"`
}

// fenceTimeout bounds the wait for the answers of edges.
const fenceTimeout = 5 * time.Second

// Purger removes messages of inboxes for good.
type Purger struct {
	nc    *nats.Conn
	fetch *direct.Client
	last  *direct.Last // of the inbox stream
	js    jetstream.JetStream
	lanes *laneReader
	proof *proof.Key
	shard shard.Shard
}

// NewPurger returns a Purger that sends requests on nc and reads with fetch. k is
// the tenant's key.
func NewPurger(nc *nats.Conn, fetch *direct.Client, k *proof.Key) (*Purger, error) {
	config, err := newInboxConfig(fetch)
	if err != nil {
		return nil, err
	}
	js, err := jetstream.New(nc)
	if err != nil {
		return nil, fmt.Errorf("inbox: %w", err)
	}
	lanes := &laneReader{fetch: fetch, proof: k, log: slog.New(slog.DiscardHandler), replicas: config.replicas}
	return &Purger{
		nc: nc, fetch: fetch, last: fetch.Last(layout.StreamInbox, true), js: fetch.Shard().JetStream(js), lanes: lanes, proof: k, shard: fetch.Shard(),
	}, nil
}

// Last returns for each lane the sequence up to which to purge it whole; 0 if
// nothing is stored. c is the device's cursor. The copy that answers may lack a
// lane's last message. So where the device has not acknowledged all, that is the
// end of the stream.
func (p *Purger) Last(ctx context.Context, k subjects.Key, c *Cursor) (last [subjects.Lanes]uint64, err error) {
	info, err := leader.Info(ctx, p.js, layout.StreamInbox)
	if err != nil {
		return last, fmt.Errorf("inbox: end of the inboxes: %w", err)
	}
	names := make([]string, len(last))
	for n := range names {
		names[n] = subjects.Inbox(k, subjects.Lane(n))
	}
	lasts, err := p.last.Get(ctx, names)
	if err != nil {
		return last, fmt.Errorf("inbox: last messages of %s: %w", k, err)
	}
	for n := range last {
		lane, found := subjects.Lane(n), lasts[n] != nil
		if found {
			last[n] = lasts[n].Seq
		}
		if last[n] <= c.Sent[n] && c.Waiting[n] == 0 && len(c.Unacked[n]) == 0 {
			continue
		}
		if !found {
			msgs, _, err := p.lanes.read(ctx, k, lane, c.AckFloor(lane), c.expects(lane), laneBatch)
			if err != nil {
				return last, err
			}
			found = len(msgs) > 0
		}
		if found {
			last[n] = info.State.LastSeq
		}
	}
	return last, nil
}

// Begin stores that messages up to upTo are purged, and tells the senders that
// asked about those the device had not acknowledged. Call it before the messages
// are removed from the stream. It returns up to where each lane was ever purged,
// which is for Finish: after an earlier purge an edge may not have dropped all.
func (p *Purger) Begin(ctx context.Context, k subjects.Key, upTo [subjects.Lanes]uint64) (ever [subjects.Lanes]uint64, err error) {
	// A copy that lags would have senders of acknowledged messages hear that they expired.
	stored, err := p.fetch.AtLeader(ctx, layout.StreamCursor, layout.Cursor(k), 1)
	if err != nil {
		return ever, fmt.Errorf("inbox: purge %s: %w", k, err)
	}
	var cursor Cursor
	if stored != nil {
		cursor, _ = ParseCursor(stored.Data) // if it cannot be read, everything counts as unacknowledged
	}
	before, err := p.fetch.AtLeader(ctx, layout.StreamCursor, layout.Purged(k), 1)
	if err != nil {
		return ever, fmt.Errorf("inbox: purge %s: %w", k, err)
	}
	ever = upTo
	if before != nil {
		for n, seq := range parsePurged(before.Data) {
			ever[n] = max(ever[n], seq)
		}
	}
	body, err := json.Marshal(purged(ever))
	if err != nil {
		return ever, err
	}
	if err := p.store(ctx, &nats.Msg{Subject: layout.Purged(k), Data: body}); err != nil {
		return ever, err
	}
	for n := range upTo {
		if err := p.tellLane(ctx, k, subjects.Lane(n), &cursor, upTo[n]); err != nil {
			return ever, err
		}
	}
	return ever, nil
}

// tellLane tells the senders that asked what is purged in one lane. If the copy that
// answers lacks some of it, the others are read.
func (p *Purger) tellLane(ctx context.Context, k subjects.Key, n subjects.Lane, c *Cursor, upTo uint64) error {
	want := c.expects(n)
	for from := c.AckFloor(n) + 1; from <= upTo; {
		i, _ := slices.BinarySearch(want.pending, from)
		want.pending = want.pending[i:]
		msgs, left, err := p.lanes.read(ctx, k, n, from-1, want, laneBatch)
		if err != nil {
			return err
		}
		for _, m := range msgs {
			from = m.Seq + 1
			if m.Seq > want.floor && m.Seq <= want.known {
				want.counted--
			}
			if m.Seq > upTo || m.Seq <= c.Sent[n] && !c.isUnacked(n, m.Seq) {
				continue
			}
			a := requesterOf(m)
			if a == nil {
				continue
			}
			o := outcome{
				key: k, lane: n, seq: m.Seq, requester: a, status: wire.StatusExpired, reason: wire.ReasonPurged,
				at: time.Now().UnixNano(),
			}
			if msg := o.message(p.proof); msg != nil {
				if err := p.store(ctx, msg); err != nil {
					return err
				}
			}
		}
		if left == 0 || len(msgs) == 0 {
			return nil
		}
	}
	return nil
}

// store stores one message and waits for the answer.
func (p *Purger) store(ctx context.Context, msg *nats.Msg) error {
	p.shard.Address(msg)
	answer, err := p.nc.RequestMsgWithContext(ctx, msg)
	if err == nil {
		_, err = parseAck(answer)
	}
	if err != nil {
		return fmt.Errorf("inbox: store %s: %w", msg.Subject, err)
	}
	return nil
}

// Finish waits until each of the named edges has dropped the messages from its
// memory. Call it when they are removed from the stream. It fails after
// fenceTimeout.
func (p *Purger) Finish(ctx context.Context, k subjects.Key, upTo [subjects.Lanes]uint64, edges []string) error {
	ctx, cancel := context.WithTimeout(ctx, fenceTimeout)
	defer cancel()
	body, err := json.Marshal(&fence{k, upTo})
	if err != nil {
		return err
	}
	inbox := p.nc.NewInbox()
	sub, err := p.nc.SubscribeSync(inbox)
	if err != nil {
		return fmt.Errorf("inbox: purge: %w", err)
	}
	defer func() { _ = sub.Unsubscribe() }()
	if err := p.nc.PublishRequest(p.shard.Subject(layout.Fence), inbox, body); err != nil {
		return fmt.Errorf("inbox: purge: %w", err)
	}
	open := make(map[string]bool, len(edges))
	for _, e := range edges {
		open[e] = true
	}
	for len(open) > 0 {
		answer, err := sub.NextMsgWithContext(ctx)
		switch {
		case err != nil:
		case answer.Header.Get("Status") == "503":
			err = nats.ErrNoResponders
		default:
			delete(open, string(answer.Data))
			continue
		}
		return fmt.Errorf("inbox: purge: no answer from %s: %w", strings.Join(slices.Sorted(maps.Keys(open)), ", "), err)
	}
	return nil
}

// fenceKept is how long a hub remembers a purge for devices that attach: a
// lagging copy of the stream may still have what was purged.
const fenceKept = time.Minute

// fenced is a purge that a hub remembers.
type fenced struct {
	fence
	at time.Time
}

// onFence drops what was purged, and answers with the name of this edge.
func (h *Hub) onFence(m *nats.Msg) {
	var f fence
	if json.Unmarshal(m.Data, &f) != nil {
		return
	}
	h.mu.Lock()
	h.tail.drop(f.Key, f.UpTo)
	for len(h.fences) > 0 && time.Since(h.fences[0].at) > fenceKept {
		h.fences = h.fences[1:]
	}
	h.fences = append(h.fences, fenced{f, time.Now()})
	if mb := h.mailboxes[f.Key]; mb != nil {
		mb.purge(f.UpTo)
	}
	h.mu.Unlock()
	if m.Reply != "" {
		_ = m.Respond([]byte(h.opts.Edge))
	}
}

// fenceLocked applies recent purges to a new mailbox.
func (h *Hub) fenceLocked(mb *Mailbox) {
	for _, f := range h.fences {
		if f.Key == mb.key {
			mb.purge(f.UpTo)
		}
	}
}

// purge drops what was purged and adds gaps for the device. Messages that are not
// queued yet are found missing when the lane has caught up.
func (mb *Mailbox) purge(upTo purged) {
	mb.mu.Lock()
	defer mb.mu.Unlock()
	if mb.closed {
		return
	}
	for n := range mb.lanes {
		l := &mb.lanes[n]
		if upTo[n] <= l.purgedUpTo {
			continue
		}
		l.purgedUpTo, l.compared = upTo[n], false
		if g := mb.purgeLaneLocked(l, upTo[n]); g.Count > 0 {
			g.Lane, g.Reason = subjects.Lane(n), wire.ReasonPurged
			mb.gapLocked(g)
		}
	}
	mb.to.MessagesReady()
}

// purgeLaneLocked drops a lane's messages up to a sequence. It returns the gap of
// those that the device has not acknowledged.
func (mb *Mailbox) purgeLaneLocked(l *lane, upTo uint64) Gap {
	var g Gap
	lose := func(seq uint64) {
		if _, acked := mb.early[seq]; acked {
			delete(mb.early, seq)
			return
		}
		if g.Count == 0 || seq < g.From {
			g.From = seq
		}
		g.To = max(g.To, seq)
		g.Count++
	}
	for i, s := range slices.Backward(l.unacked) {
		if s.seq <= upTo && s.end == nil {
			l.remove(i)
			mb.out--
			lose(s.seq)
		}
	}
	for _, seq := range l.ackPending {
		if seq <= upTo {
			lose(seq)
		}
	}
	l.forgetPending(upTo)
	for l.queued() > 0 && l.queue[l.head].Seq <= upTo {
		if m := l.pop(); m.Seq > l.ackFloor {
			lose(m.Seq)
		}
	}
	return g
}
