package inbox

import (
	"context"
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
	"github.com/rccs-io/rccs/internal/leader"
	"github.com/rccs-io/rccs/internal/storeerr"
	"github.com/rccs-io/rccs/subjects"
	"github.com/rccs-io/rccs/wire"
)

// ErrMoved means that somebody else has stored the cursor meanwhile: load it
// again.
var ErrMoved = errors.New("inbox: the cursor has moved meanwhile")

// Cursors reads and writes cursors without a hub. The coordinator uses it for
// devices that are connected to no edge. An edge that holds a device owns its
// cursor, and overwrites what others have stored unless that has a later epoch.
type Cursors struct {
	fetch   *direct.Client
	last    *direct.Last
	publish *Publisher
	lanes   *laneReader
	inbox   *inboxConfig
}

// NewCursors returns Cursors that reads with c and writes with p.
func NewCursors(c *direct.Client, p *Publisher) (*Cursors, error) {
	config, err := newInboxConfig(c)
	if err != nil {
		return nil, err
	}
	lanes := &laneReader{fetch: c, proof: p.Proof, log: p.log, replicas: config.replicas}
	return &Cursors{fetch: c, last: c.Last(layout.StreamCursor, false), publish: p, lanes: lanes, inbox: config}, nil
}

// inboxConfig is how the inbox stream is configured, as of at most [refreshEvery] ago.
type inboxConfig struct {
	js jetstream.JetStream

	mu    sync.Mutex
	last  jetstream.StreamConfig
	asked time.Time
}

func newInboxConfig(c *direct.Client) (*inboxConfig, error) {
	js, err := jetstream.New(c.Conn())
	if err != nil {
		return nil, fmt.Errorf("inbox: %w", err)
	}
	return &inboxConfig{js: c.Shard().JetStream(js)}, nil
}

func (c *inboxConfig) get(ctx context.Context) (jetstream.StreamConfig, error) {
	c.mu.Lock()
	last, fresh := c.last, !c.asked.IsZero() && time.Since(c.asked) < refreshEvery
	c.mu.Unlock()
	if fresh {
		return last, nil
	}
	info, err := leader.Info(ctx, c.js, layout.StreamInbox)
	if err != nil {
		return last, fmt.Errorf("inbox: how the stream is configured: %w", err)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.last, c.asked = info.Config, time.Now()
	return c.last, nil
}

func (c *inboxConfig) replicas(ctx context.Context) (int64, error) {
	config, err := c.get(ctx)
	return int64(config.Replicas), err
}

// Lane is the state of one lane of a device, as a fetch reads it.
type Lane struct {
	Key  subjects.Key
	Lane subjects.Lane
	// Sent and Waiting are those of the cursor, and Waiting is how many messages were
	// counted up to UpTo.
	Sent, Waiting, UpTo uint64
	// Unacked are the sequences that were sent and not acknowledged, and not read yet.
	Unacked []uint64
}

// Read reads up to limit messages of a lane, and about maxBytes, from the first that
// is not acknowledged; left is about how many follow. If the copy that answers lacks
// something, others are read: what is not in the answer is gone.
func (s *Cursors) Read(ctx context.Context, l *Lane, limit, maxBytes int) (msgs []*envelope.Message, left int, err error) {
	from := l.Sent + 1
	if len(l.Unacked) > 0 {
		from = l.Unacked[0]
	}
	want := expected{counted: int64(l.Waiting), floor: l.Sent, known: l.UpTo, pending: l.Unacked} //nolint:gosec // a count of messages
	msgs, left, err = s.lanes.read(ctx, l.Key, l.Lane, from-1, want, batch{limit, maxBytes})
	if more := len(msgs) - limit; more > 0 { // several copies have more together
		msgs, left = msgs[:limit], left+more
	}
	return msgs, left, err
}

// Message reads one message that was sent to a device; nil if it is gone.
func (s *Cursors) Message(ctx context.Context, k subjects.Key, lane subjects.Lane, seq uint64) (*envelope.Message, error) {
	msgs, _, err := s.lanes.read(ctx, k, lane, seq-1, expected{pending: []uint64{seq}}, batch{1, laneBytes})
	if err != nil || len(msgs) == 0 || msgs[0].Seq != seq {
		return nil, err
	}
	return msgs[0], nil
}

// Load returns the device's cursor and its revision for Store; zero values if
// there is none. A cursor that cannot be decoded counts as an empty one. Load
// adds gaps for damage that may concern the device.
func (s *Cursors) Load(ctx context.Context, key subjects.Key) (c Cursor, revision uint64, err error) {
	found, err := s.last.Get(ctx, []string{layout.Cursor(key), layout.Damaged(layout.StreamInbox)})
	if err != nil {
		return Cursor{}, 0, fmt.Errorf("inbox: load the cursor of %s: %w", key, err)
	}
	var stored time.Time
	if found[0] != nil {
		revision, stored = found[0].Seq, time.Unix(0, found[0].Time)
		if c, err = ParseCursor(found[0].Data); err != nil {
			c = Cursor{}
		}
	}
	if found[1] != nil {
		parseDamaged(found[1].Data).tell(&c, stored)
	}
	return c, revision, nil
}

// Store replaces the cursor that Load returned with revision, or returns
// [ErrMoved].
func (s *Cursors) Store(ctx context.Context, key subjects.Key, c Cursor, revision uint64) error {
	if err := s.mark(ctx, slices.Max(c.Sent[:])); err != nil {
		return err
	}
	c.tidy()
	err := s.publish.putLast(ctx, layout.Cursor(key), c.Append(nil), revision)
	if err != nil && !errors.Is(err, ErrMoved) {
		return fmt.Errorf("inbox: store the cursor of %s: %w", key, err)
	}
	return err
}

// markTries bounds how often mark tries again when others raise the watermark
// too.
const markTries = 5

// mark raises the watermark to top, if it is lower. No cursor may be stored above
// the watermark.
func (s *Cursors) mark(ctx context.Context, top uint64) error {
	for range markTries {
		found, err := s.last.Get(ctx, []string{layout.Watermark})
		if err != nil {
			return fmt.Errorf("inbox: load the watermark: %w", err)
		}
		var head, revision uint64
		if found[0] != nil {
			revision = found[0].Seq
			if head, err = parseWatermark(found[0].Data); err != nil {
				return err
			}
		}
		if head >= top {
			return nil
		}
		if err := s.publish.putLast(ctx, layout.Watermark, appendWatermark(top), revision); !errors.Is(err, ErrMoved) {
			return err
		}
	}
	return fmt.Errorf("inbox: raise the watermark: %w", ErrMoved)
}

// putLast stores one message if revision is still the last of its subject.
// Otherwise it returns ErrMoved.
func (p *Publisher) putLast(ctx context.Context, subject string, data []byte, revision uint64) error {
	m := &nats.Msg{Subject: subject, Data: data, Header: nats.Header{
		jetstream.ExpectedLastSubjSeqHeader: {strconv.FormatUint(revision, 10)},
	}}
	err := p.wait(ctx, m)
	if storeerr.Lost(err) {
		return ErrMoved
	}
	return err
}

// Unacked returns how many stored messages the cursor leaves unacknowledged.
func (s *Cursors) Unacked(ctx context.Context, key subjects.Key, c *Cursor) (int, error) {
	return unackedStored(ctx, s.fetch, key, c)
}

// Recipients is [Hub.Recipients].
func (s *Cursors) Recipients(ctx context.Context, seq uint64) ([]Recipient, error) {
	return recipients(ctx, s.fetch, seq)
}

// Tell stores the outcome of messages, as of now, for senders that asked. Call it
// before the cursor says that the messages are finalized.
func (s *Cursors) Tell(ctx context.Context, status wire.Status, msgs ...*envelope.Message) error {
	var ended []outcome
	for _, m := range msgs {
		if a := requesterOf(m); a != nil {
			ended = append(ended, outcome{key: m.Key, lane: m.Lane, seq: m.Seq, requester: a, status: status, stored: m.Stored, at: time.Now().UnixNano()})
		}
	}
	return s.tell(ctx, ended)
}

// TellGone is Tell of a message that the device acknowledges after it is gone from the
// store. Its deadline says who asked.
func (s *Cursors) TellGone(ctx context.Context, k subjects.Key, lane subjects.Lane, seq uint64) error {
	ended, _, err := lostOutcomes(ctx, s.fetch, k, loss{lane: lane, from: seq, to: seq, count: 1}, "")
	if err != nil {
		return err
	}
	for i := range ended {
		ended[i].status = wire.StatusDelivered
	}
	return s.tell(ctx, ended)
}

// tell stores outcomes, unless one of the message was stored before: at its deadline, or
// when the device acknowledged it and its cursor was not stored.
func (s *Cursors) tell(ctx context.Context, ended []outcome) error {
	if len(ended) == 0 {
		return nil
	}
	config, err := s.inbox.get(ctx)
	if err != nil {
		return err
	}
	old := slices.DeleteFunc(slices.Clone(ended), func(o outcome) bool { return o.at-o.stored < int64(config.Duplicates) })
	before := told(ctx, s.fetch, s.publish.Proof, old)
	writes := newAwaited()
	for i := range ended {
		o := &ended[i]
		b := before[o.seq]
		if b.err != nil {
			return b.err
		}
		if msg := o.message(s.publish.Proof); msg != nil && !b.told {
			s.publish.Publish(msg, writes.add())
		}
	}
	return writes.wait(ctx)
}

// Keep stores that a message is kept as rejected, and tells a sender that asked. Call
// it before the cursor says that the message is finalized.
func (s *Cursors) Keep(ctx context.Context, m *envelope.Message, status wire.Status, reason string) error {
	now, a := time.Now(), requesterOf(m)
	if msg := rejection(m, status, reason, now); msg != nil {
		if err := s.publish.wait(ctx, msg); err != nil || a == nil || a.from == "" { // a service hears that event
			return err
		}
	}
	return s.tell(ctx, []outcome{{
		key: m.Key, lane: m.Lane, seq: m.Seq, requester: a,
		status: status, reason: reason, stored: m.Stored, at: now.UnixNano(),
	}})
}

// Missed adds a gap to the cursor for messages of a lane that were counted, when the
// answer of a Read shows that fewer are stored. So the gap is told before the messages
// behind it, however many fetches those take. It reports whether any are gone. Where
// there are several copies, which may lag, only Lost tells.
func (s *Cursors) Missed(ctx context.Context, k subjects.Key, lane subjects.Lane, c *Cursor, msgs []*envelope.Message, left int) (bool, error) {
	found, from, to := uint64(left), c.Sent[lane]+1, c.UpTo //nolint:gosec // not negative
	for _, m := range msgs {
		if m.Seq >= from {
			if found++; found == uint64(left)+1 && m.Seq > from { //nolint:gosec // not negative
				to = m.Seq - 1 // the oldest messages are the first to go
			}
		}
	}
	if found >= c.Waiting[lane] || left == 0 { // at the end of the lane Lost knows more
		return false, nil
	}
	if copies, err := s.inbox.replicas(ctx); err != nil || copies > 1 {
		return false, err
	}
	l := loss{lane: lane, from: from, to: max(from, to), count: c.Waiting[lane] - found}
	c.Waiting[lane] = found
	return true, s.noteLost(ctx, k, l, c)
}

// noteLost adds a gap for messages that are gone to the cursor, and tells the senders
// that asked.
func (s *Cursors) noteLost(ctx context.Context, k subjects.Key, l loss, c *Cursor) error {
	reason, l, err := s.why(ctx, k, l)
	if err != nil {
		return err
	}
	if reason == wire.ReasonPurged {
		l.to = max(l.to, c.UpTo) // those need not be the oldest
	}
	c.AddGap(Gap{Lane: l.lane, From: l.from, To: l.to, Count: l.count, Reason: reason})
	return s.tellLost(ctx, k, l, reason)
}

// Lost adds a gap to the cursor for messages of a lane that were counted and
// never found, and tells the senders that asked. Call it when everything that is
// stored of the lane was sent, from the message after began on. It reports whether
// any are gone.
func (s *Cursors) Lost(ctx context.Context, k subjects.Key, lane subjects.Lane, c *Cursor, began uint64) (bool, error) {
	if c.Waiting[lane] == 0 {
		return false, nil
	}
	// A lagging copy may not have shown everything. The leader knows.
	more, err := s.fetch.Holds(ctx, layout.StreamInbox, subjects.Inbox(k, lane), c.Sent[lane]+1)
	if more || err != nil {
		return false, err
	}
	end, err := leader.Info(ctx, s.inbox.js, layout.StreamInbox)
	if err != nil {
		return false, fmt.Errorf("inbox: end of the inboxes: %w", err)
	}
	// What the stream's lost end held lies behind what was counted.
	l := loss{lane: lane, from: began + 1, to: max(began+1, c.UpTo), count: c.Waiting[lane]}
	c.Sent[lane], c.Waiting[lane] = max(c.Sent[lane], min(c.UpTo, end.State.LastSeq)), 0
	return true, s.noteLost(ctx, k, l, c)
}

// Left reports whether messages are stored for a device, up to a sequence, that its
// cursor does not say were sent; 0: up to any. The leader is asked: a lagging copy would
// say that there are none.
func (s *Cursors) Left(ctx context.Context, k subjects.Key, c *Cursor, upTo uint64) (bool, error) {
	for lane := range c.Sent {
		m, err := s.fetch.AtLeader(ctx, layout.StreamInbox, subjects.Inbox(k, subjects.Lane(lane)), c.Sent[lane]+1)
		if err != nil || m != nil && (upTo == 0 || m.Seq <= upTo) {
			return true, err
		}
	}
	return false, nil
}

// Explain finds the reason for those of the cursor's gaps that have none yet, and
// tells the senders that asked.
func (s *Cursors) Explain(ctx context.Context, k subjects.Key, c *Cursor) error {
	for i := range c.Gaps {
		g := &c.Gaps[i]
		if g.Reason != "" {
			continue
		}
		reason, l, err := s.why(ctx, k, loss{lane: g.Lane, from: g.From, to: g.To, count: g.Count})
		if err != nil {
			return err
		}
		if err := s.tellLost(ctx, k, l, reason); err != nil {
			return err
		}
		g.From, g.To, g.Reason = l.from, l.to, reason
	}
	return nil
}

// why returns the reason for a loss, as a gap gives it, and where the loss was.
func (s *Cursors) why(ctx context.Context, k subjects.Key, l loss) (string, loss, error) {
	if reason, l, err := written(ctx, s.last, k, l); reason != "" || err != nil {
		return reason, l, err
	}
	first, err := s.fetch.Run(ctx, layout.StreamInbox, 1, 1)
	if err != nil {
		return "", l, err
	}
	if len(first) == 0 || l.from < first[0].Seq {
		return wire.ReasonRetention, l, nil
	}
	damaged, err := s.fetch.Unreadable(ctx, layout.StreamInbox, subjects.Inbox(k, l.lane), l.from, l.to)
	if damaged {
		return wire.ReasonDamaged, l, err
	}
	return wire.ReasonPurged, l, err
}

// tellLost tells the senders that asked what became of lost messages.
func (s *Cursors) tellLost(ctx context.Context, k subjects.Key, l loss, reason string) error {
	_, err := tellLost(ctx, s.fetch, s.publish, k, l, reason)
	return err
}

// Confirm drops the gaps that the device was told of before it was sent the message
// seq, which it has acknowledged.
func (c *Cursor) Confirm(seq uint64) {
	c.Gaps = slices.DeleteFunc(slices.Clone(c.Gaps), func(g Gap) bool { return g.Told && min(g.To, g.After) < seq })
}
