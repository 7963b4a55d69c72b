package edge

import (
	"slices"
	"sync"
	"time"

	"github.com/rccs-io/rccs/internal/envelope"
	"github.com/rccs-io/rccs/internal/inbox"
	"github.com/rccs-io/rccs/internal/topic"
	"github.com/rccs-io/rccs/internal/wsconn"
	"github.com/rccs-io/rccs/subjects"
	"github.com/rccs-io/rccs/wire"
)

// Bounds of one burst: what is taken from a mailbox at a time, and how large
// an array of envelopes gets.
const (
	burstMessages = 64
	burstBytes    = 256 << 10
	batchBytes    = 64 << 10
)

// frames are answers waiting to be written, one after the other in one buffer.
type frames struct {
	data []byte
	ends []int
}

var framesPool = sync.Pool{New: func() any { return new(frames) }}

func (f *frames) size() int {
	if f == nil {
		return 0
	}
	return len(f.data)
}

// append adds what other holds.
func (f *frames) append(other *frames) {
	for _, end := range other.ends {
		f.ends = append(f.ends, len(f.data)+end)
	}
	f.data = append(f.data, other.data...)
}

func (f *frames) release() {
	if cap(f.data) <= keepBuffer {
		f.data, f.ends = f.data[:0], f.ends[:0]
		framesPool.Put(f)
	}
}

// queueLocked adds one answer, written by add, and has it sent.
func (c *conn) queueLocked(add func(dst []byte) []byte) {
	if !c.sock.Open() {
		return
	}
	queue := &c.outgoing
	if c.holding {
		queue = &c.held
	}
	if *queue == nil {
		*queue = framesPool.Get().(*frames)
	}
	f := *queue
	f.data = add(f.data)
	f.ends = append(f.ends, len(f.data))
	c.sock.Wake()
}

// wake is the mailbox's: it is called with the hub's locks held.
func (c *conn) wake() { c.sock.Wake() }

// burst is what the writer takes at a time. The scratch space is shared by
// all connections.
type burst struct {
	answers    *frames
	deliveries []inbox.Delivery
	gaps       []wire.Gap            // before the deliveries
	ready      []*topic.Subscription // that may have something
	topics     []*topic.Message
	batch      bool // the device takes arrays
	auto       bool // written counts as delivered
	to         subjects.Address
	tenant     *Tenant
	frame      []byte
	count      int // envelopes in frame
	seqs       []uint64
}

var bursts = sync.Pool{New: func() any { return new(burst) }}

// Write implements [wsconn.Handler].
func (c *conn) Write(w wsconn.Writer) error {
	defer c.containWrite()
	b := bursts.Get().(*burst)
	defer func() {
		clear(b.deliveries[:cap(b.deliveries)])
		clear(b.topics[:cap(b.topics)])
		*b = burst{deliveries: b.deliveries[:0], topics: b.topics[:0], frame: b.frame[:0], seqs: b.seqs[:0]}
		if cap(b.frame) <= 2*keepBuffer {
			bursts.Put(b)
		}
	}()
	box := c.take(b)
	if box != nil {
		b.deliveries = box.Next(b.deliveries[:0], burstMessages, burstBytes)
		b.gaps = box.Gaps()
	}
	again := b.takeTopics()
	err := c.writeBurst(w, b)
	if b.answers != nil {
		b.answers.release()
		b.answers = nil
	}
	if err == nil {
		c.delivered(box, b)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.bursting = false
	for _, s := range again {
		if slices.Contains(c.followed, s) && !slices.Contains(c.ready, s) {
			c.ready = append(c.ready, s)
		}
	}
	c.changed.Broadcast()
	if len(b.deliveries) > 0 || len(again) > 0 {
		c.sock.Wake() // there may be more
	}
	return err
}

// take moves what waits into b, and returns the mailbox to take messages from.
func (c *conn) take(b *burst) *inbox.Mailbox {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.bursting = true
	b.answers, c.outgoing = c.outgoing, nil
	b.batch, b.auto, b.to, b.tenant = c.batch && !c.plain, c.auto, c.who.Address, c.tenant
	c.plain = false
	if !c.sock.Open() || c.parting {
		return nil // what the inbox holds waits for the next connection
	}
	b.ready, c.ready = c.ready, nil
	return c.box
}

// frameWriter is a [wsconn.Writer].
type frameWriter interface {
	Text(frame []byte) error
	Flush() error
}

// writeBurst writes everything in b.
func (c *conn) writeBurst(w frameWriter, b *burst) error {
	if err := c.writeEnvelopes(w, b); err != nil {
		return err
	}
	return w.Flush()
}

// writeEnvelopes writes answers, then messages: a frame each, or, for a device
// that asked for batches, arrays of what there is.
func (c *conn) writeEnvelopes(w frameWriter, b *burst) error {
	if b.answers != nil {
		from := 0
		for _, end := range b.answers.ends {
			b.frame = append(b.startEnvelope(), b.answers.data[from:end]...)
			from = end
			if err := b.endEnvelope(w); err != nil {
				return err
			}
		}
	}
	for i := range b.gaps {
		b.frame = b.gaps[i].Append(b.startEnvelope())
		if err := b.endEnvelope(w); err != nil {
			return err
		}
	}
	b.gaps = nil
	for i := range b.deliveries {
		b.frame = envelope.Append(b.startEnvelope(), &b.deliveries[i], b.to)
		if err := b.endEnvelope(w); err != nil {
			return err
		}
	}
	for _, m := range b.topics {
		b.frame = append(b.startEnvelope(), m.Frame(b.tenant.topicFrame)...)
		if err := b.endEnvelope(w); err != nil {
			return err
		}
	}
	return b.flushFrame(w)
}

// takeTopics takes a part from each subscription that has something, and
// returns those that have more.
func (b *burst) takeTopics() (again []*topic.Subscription) {
	b.topics = b.topics[:0]
	for _, s := range b.ready {
		var more bool
		if b.topics, more = s.Next(b.topics, burstMessages, burstBytes/max(len(b.ready), 1)); more {
			again = append(again, s)
		}
	}
	b.ready = nil
	return again
}

// startEnvelope makes room for the next envelope of the frame. The bracket of
// an array is always there, and left out if one envelope is all that comes.
func (b *burst) startEnvelope() []byte {
	if b.count++; b.count == 1 {
		return append(b.frame[:0], '[')
	}
	return append(b.frame, ',')
}

func (b *burst) endEnvelope(w frameWriter) error {
	if b.batch && len(b.frame) < batchBytes {
		return nil
	}
	return b.flushFrame(w)
}

func (b *burst) flushFrame(w frameWriter) error {
	frame := b.frame
	switch b.count {
	case 0:
		return nil
	case 1:
		frame = frame[1:]
	default:
		frame = append(frame, ']')
	}
	b.count = 0
	return w.Text(frame)
}

// delivered counts what was written and, for a device that does not
// acknowledge, settles it.
func (c *conn) delivered(box *inbox.Mailbox, b *burst) {
	if len(b.topics) > 0 {
		c.s.metrics.topicSent.Add(float64(len(b.topics)))
	}
	if len(b.deliveries) == 0 {
		return
	}
	now := time.Now().UnixNano()
	m := c.s.metrics
	m.sent.Add(float64(len(b.deliveries)))
	b.seqs = b.seqs[:0]
	for i := range b.deliveries {
		d := &b.deliveries[i]
		m.storedWrite.Observe(time.Duration(now - d.Stored).Seconds())
		if d.Redelivered {
			m.redelivered.Inc()
		}
		b.seqs = append(b.seqs, d.Seq)
	}
	if b.auto {
		box.Ack(b.seqs...)
	}
}
