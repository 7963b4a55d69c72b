package edge

import (
	"sync"
	"time"

	"github.com/rccs-io/rccs/internal/envelope"
	"github.com/rccs-io/rccs/internal/inbox"
	"github.com/rccs-io/rccs/internal/topic"
	"github.com/rccs-io/rccs/internal/wsconn"
	"github.com/rccs-io/rccs/subjects"
	"github.com/rccs-io/rccs/wire"
)

// Bounds of one burst: how much is taken from a mailbox at a time, and how large
// an array of envelopes gets.
const (
	burstMessages = 64
	burstBytes    = 256 << 10
	batchBytes    = 64 << 10
)

// queueLocked queues one answer, written by write, and wakes the writer. It
// returns nil, and queues nothing, if the answer does not fit a frame to the
// device.
func (c *conn) queueLocked(write func(dst []byte) []byte) *frames {
	return c.queueHeldLocked(write, c.phase == attaching)
}

// queueHeldLocked is queueLocked. With hold, the answer waits for that of the
// registration.
func (c *conn) queueHeldLocked(write func(dst []byte) []byte, hold bool) *frames {
	if !c.sock.Open() {
		return new(frames) // there is nobody to tell
	}
	f := c.out.add(write, c.maxFrame, hold)
	c.sock.Wake()
	return f
}

// MessagesReady implements [inbox.Receiver].
func (c *conn) MessagesReady() { c.sock.Wake() }

// burst is what the writer takes at a time. All connections share a pool of them.
type burst struct {
	answers    *frames
	deliveries []envelope.Delivery
	gaps       []wire.Gap            // before the deliveries
	ready      []*topic.Subscription // that may have messages
	topics     []*topic.Message
	batch      bool // the device takes arrays
	auto       bool // written counts as delivered
	to         subjects.Address
	tenant     *Tenant
	frame      []byte
	count      int // envelopes in frame
	last       int // where the last of them begins, including the bracket or comma before it
	max        int // the largest frame
	seqs       []uint64
	traces     []string // of the deliveries, if the edge has a tracer; "" for what is not recorded
}

var bursts = sync.Pool{New: func() any { return new(burst) }}

// Write implements [wsconn.Handler].
func (c *conn) Write(w wsconn.Writer) error {
	defer c.containWrite()
	b := bursts.Get().(*burst)
	defer func() {
		clear(b.deliveries[:cap(b.deliveries)])
		clear(b.topics[:cap(b.topics)])
		clear(b.traces[:cap(b.traces)])
		*b = burst{deliveries: b.deliveries[:0], topics: b.topics[:0], frame: b.frame[:0], seqs: b.seqs[:0], traces: b.traces[:0]}
		if cap(b.frame) <= 2*keepBuffer {
			bursts.Put(b)
		}
	}()
	mailbox := c.take(b)
	if mailbox != nil {
		if b.tenant.Roster.Doubtful() {
			mailbox.Doubt()
		}
		b.deliveries = mailbox.Next(b.deliveries[:0], burstMessages, burstBytes)
		b.gaps = mailbox.Gaps()
		c.record(b)
	}
	again := b.takeTopics()
	err := c.writeBurst(w, b)
	if b.answers != nil {
		if err == nil {
			c.s.metrics.told(b.answers.errors)
		}
		b.answers.release()
		b.answers = nil
	}
	if err == nil {
		c.delivered(mailbox, b)
	}
	c.topics.mark(again...)
	c.mu.Lock()
	defer c.mu.Unlock()
	c.out.writing = false
	c.changedLocked()
	if len(b.deliveries) > 0 || len(again) > 0 {
		c.sock.Wake() // there may be more
	}
	return err
}

// take moves what waits into b, and returns the mailbox to read from, or nil.
func (c *conn) take(b *burst) *inbox.Mailbox {
	b.ready = c.topics.takeReady() // before the answers, so that a subscription's answer comes before its messages
	c.mu.Lock()
	defer c.mu.Unlock()
	b.answers, b.batch = c.out.takeBurst()
	b.batch = b.batch && c.batch
	b.auto, b.to, b.max, b.tenant = c.auto, c.who.Address, c.maxFrame, c.tenant
	if !c.sock.Open() || c.phase == detaching {
		b.ready = nil
		return nil // what the inbox holds waits for the next connection
	}
	return c.mailbox
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

// writeEnvelopes writes answers, then gaps and messages: each in a frame of its
// own or, for a device that asked for batches, in arrays.
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
		if frame := m.Frame(b.tenant.topicFrame); len(frame) <= b.max {
			b.frame = append(b.startEnvelope(), frame...)
		} else {
			gap := tooLargeGap(m)
			b.frame = gap.Append(b.startEnvelope())
		}
		if err := b.endEnvelope(w); err != nil {
			return err
		}
	}
	return b.flushFrame(w)
}

// takeTopics takes some messages from each ready subscription, and returns the
// subscriptions that have more.
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

// startEnvelope makes room for the next envelope of the frame. An array's opening
// bracket is always written, and left out when the frame has only one envelope.
func (b *burst) startEnvelope() []byte {
	if b.count++; b.count == 1 {
		b.last = 0
		return append(b.frame[:0], '[')
	}
	b.last = len(b.frame)
	return append(b.frame, ',')
}

func (b *burst) endEnvelope(w frameWriter) error {
	if b.count > 1 && len(b.frame)+len("]") > b.max {
		if err := b.splitFrame(w); err != nil {
			return err
		}
	}
	if b.batch && len(b.frame) < batchBytes {
		return nil
	}
	return b.flushFrame(w)
}

// splitFrame writes all envelopes of the frame but the last.
func (b *burst) splitFrame(w frameWriter) error {
	whole, rest := b.frame, b.frame[b.last:]
	b.count--
	b.frame = whole[:b.last]
	comma := whole[b.last]
	if err := b.flushFrame(w); err != nil {
		return err
	}
	whole[b.last] = comma // a closing bracket has stood there
	b.frame = append(whole[:0], rest...)
	b.frame[0], b.count, b.last = '[', 1, 0
	return nil
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

// delivered counts what was written. For a device that does not acknowledge, it
// also acknowledges it.
func (c *conn) delivered(mailbox *inbox.Mailbox, b *burst) {
	if len(b.topics) > 0 {
		c.s.metrics.topicSent.Add(float64(len(b.topics)))
		c.recordTopics(b.topics)
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
		traceID := "" // not looked up: the device may have acknowledged the message since
		if len(b.traces) > 0 {
			traceID = b.traces[i]
		}
		observe(m.storedWrite, time.Duration(now-d.Stored), traceID)
		if d.Redelivered {
			m.redelivered.Inc()
		}
		b.seqs = append(b.seqs, d.Seq)
	}
	if b.auto {
		mailbox.Ack(b.seqs...)
		c.recordAcked(0, b.seqs, "")
	}
}
