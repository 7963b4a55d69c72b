package edge

import (
	"slices"
	"sync"
	"time"

	"github.com/gorilla/websocket"

	"github.com/rccs-io/rccs/internal/envelope"
	"github.com/rccs-io/rccs/internal/inbox"
	"github.com/rccs-io/rccs/internal/topic"
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
	if c.dead || c.end != nil {
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
	c.wakeLocked()
}

// wake is the mailbox's: it is called with the hub's locks held.
func (c *conn) wake() {
	c.mu.Lock()
	c.wakeLocked()
	c.mu.Unlock()
}

// wakeLocked has the writer look, starting it if there is none.
func (c *conn) wakeLocked() {
	c.woken = true
	if !c.writing && !c.dead {
		c.writing = true
		go c.write()
	}
}

// burst is what the writer takes at a time. The scratch space is shared by
// all connections.
type burst struct {
	answers    *frames
	ping       bool
	pong       *string
	end        *ending
	deliveries []inbox.Delivery
	gaps       []wire.Gap            // before the deliveries
	ready      []*topic.Subscription // that may have something
	topics     []*topic.Message
	batch      bool // the device takes arrays
	auto       bool // written counts as delivered
	to         subjects.Address
	frame      []byte
	count      int // envelopes in frame
	seqs       []uint64
}

var bursts = sync.Pool{New: func() any { return new(burst) }}

// write is the writer. It runs while there is something to write and owns the
// socket's write side meanwhile.
func (c *conn) write() {
	b := bursts.Get().(*burst)
	defer func() {
		clear(b.deliveries[:cap(b.deliveries)])
		clear(b.topics[:cap(b.topics)])
		*b = burst{deliveries: b.deliveries[:0], topics: b.topics[:0], frame: b.frame[:0], seqs: b.seqs[:0]}
		if cap(b.frame) <= 2*keepBuffer {
			bursts.Put(b)
		}
	}()
	for {
		box, more := c.take(b)
		if !more {
			return
		}
		b.deliveries = b.deliveries[:0]
		if box != nil {
			b.deliveries = box.Next(b.deliveries, burstMessages, burstBytes)
			b.gaps = box.Gaps()
		}
		again := b.takeTopics()
		err := c.writeBurst(b)
		if b.answers != nil {
			b.answers.release()
			b.answers = nil
		}
		if err == nil {
			c.delivered(box, b)
		}
		c.mu.Lock()
		c.bursting = false
		c.woken = c.woken || len(b.deliveries) > 0 || len(again) > 0
		for _, s := range again {
			if slices.Contains(c.followed, s) && !slices.Contains(c.ready, s) {
				c.ready = append(c.ready, s)
			}
		}
		c.dead = c.dead || err != nil || b.end != nil
		broken := c.dead && b.end == nil
		c.changed.Broadcast()
		c.mu.Unlock()
		if broken {
			_ = c.ws.Close() // the read loop notices
			c.unpark()
		}
	}
}

// take moves what waits into b; more is false when the writer must end.
func (c *conn) take(b *burst) (box *inbox.Mailbox, more bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.woken || c.dead {
		c.writing = false
		c.changed.Broadcast()
		return nil, false
	}
	c.woken, c.bursting = false, true
	b.answers, b.ping, b.pong, b.end = c.outgoing, c.ping, c.pong, c.end
	b.batch, b.auto, b.to = c.batch && !c.plain, c.auto, c.who.Address
	c.plain = false
	c.outgoing, c.ping, c.pong = nil, false, nil
	b.ready, c.ready = c.ready, nil
	if c.end != nil || c.parting {
		b.ready = nil
		return nil, true // what the inbox holds waits for the next connection
	}
	return c.box, true
}

// writeBurst writes everything in b with as few system calls as possible.
func (c *conn) writeBurst(b *burst) (err error) {
	if b.answers == nil && !b.ping && b.pong == nil && b.end == nil && len(b.deliveries) == 0 && len(b.gaps) == 0 && len(b.topics) == 0 {
		return nil
	}
	begun := time.Now()
	deadline := begun.Add(c.s.opts.WriteTimeout)
	c.sending.Store(true)
	defer func() {
		if err == nil && time.Since(begun) > signOfLife {
			c.lastRead.Store(c.s.clock.Load()) // the peer took what it was sent
		}
		c.sending.Store(false)
	}()
	if c.cork != nil {
		c.cork.begin(c.s.opts.WriteTimeout)
		defer func() {
			if e := c.cork.end(); err == nil {
				err = e
			}
		}()
	}
	if b.pong != nil {
		if err := c.ws.WriteControl(websocket.PongMessage, []byte(*b.pong), deadline); err != nil {
			return err
		}
	}
	if b.ping {
		if err := c.ws.WriteControl(websocket.PingMessage, nil, deadline); err != nil {
			return err
		}
	}
	if err := c.writeEnvelopes(b); err != nil {
		return err
	}
	if b.end != nil {
		return c.ws.WriteControl(websocket.CloseMessage, b.end.frame(), deadline)
	}
	return nil
}

// signOfLife is how long a write must have waited for the peer to make its end
// a proof that the peer is there.
const signOfLife = time.Second

// frame is the body of the close frame.
func (e *ending) frame() []byte {
	if e.echo {
		return websocket.FormatCloseMessage(int(e.code), "")
	}
	return websocket.FormatCloseMessage(int(e.code), e.code.ReasonAfter(e.hint))
}

// writeEnvelopes writes answers, then messages: a frame each, or, for a device
// that asked for batches, arrays of what there is.
func (c *conn) writeEnvelopes(b *burst) error {
	if b.answers != nil {
		from := 0
		for _, end := range b.answers.ends {
			b.frame = append(b.startEnvelope(), b.answers.data[from:end]...)
			from = end
			if err := c.endEnvelope(b); err != nil {
				return err
			}
		}
	}
	for i := range b.gaps {
		b.frame = b.gaps[i].Append(b.startEnvelope())
		if err := c.endEnvelope(b); err != nil {
			return err
		}
	}
	b.gaps = nil
	for i := range b.deliveries {
		b.frame = envelope.Append(b.startEnvelope(), &b.deliveries[i], b.to)
		if err := c.endEnvelope(b); err != nil {
			return err
		}
	}
	for _, m := range b.topics {
		b.frame = append(b.startEnvelope(), m.Frame(topicFrame)...)
		if err := c.endEnvelope(b); err != nil {
			return err
		}
	}
	return c.flushFrame(b)
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

func (c *conn) endEnvelope(b *burst) error {
	if b.batch && len(b.frame) < batchBytes {
		return nil
	}
	return c.flushFrame(b)
}

func (c *conn) flushFrame(b *burst) error {
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
	if c.cork != nil && c.cork.plain {
		return c.cork.text(frame)
	}
	return c.ws.WriteMessage(websocket.TextMessage, frame)
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
