package edge

import (
	"context"
	"strings"
	"sync"
	"time"

	"github.com/rccs-io/rccs/internal/envelope"
	"github.com/rccs-io/rccs/internal/inbox"
	"github.com/rccs-io/rccs/subjects"
	"github.com/rccs-io/rccs/wire"
)

// A message for several devices is stored copy by copy. JetStream's atomic
// batches would make it all or none by themselves, but on a stream with one
// copy the server makes a store with files of its own for each batch: some 6 ms
// in which the stream takes nothing else, measured.
//
// The first copy names all recipients. It is waited for, with the connection's
// next frames, so that nothing of this sender overtakes the others; then those
// are stored, and the sender is told when all are. Should one fail, or this
// process die in between, the sender is not told accepted, sends it again under
// the same id, and what was stored before is stored once: that the first copy
// is a repeat says whom the message is for, whomever it names now.

// fanOutWithin bounds the wait for the first copy.
const fanOutWithin = 15 * time.Second

// fanOut stores a message for several devices and answers.
func (c *conn) fanOut(e *wire.Envelope, targets []subjects.DeviceID, body []byte) {
	c.s.metrics.received.Inc()
	start := time.Now()
	c.mu.Lock()
	c.inflight++
	c.mu.Unlock()
	keys := make([]subjects.Key, len(targets))
	for n, device := range targets {
		keys[n] = c.peer(device)
	}
	first, err := c.firstCopy(e, keys, body)
	if err == nil && first.Duplicate {
		keys, err = c.recipients(first.Seq)
	}
	if err != nil {
		c.stored(e.ID, nil, err)
		return
	}
	f := &fanOut{c: c, id: e.ID, wantsAck: e.RequiresAck, duplicate: first.Duplicate, start: start, keys: keys, seqs: make([]uint64, len(keys)), left: len(keys)}
	f.done(0, first, nil)
	for n := 1; n < len(keys); n++ {
		c.tenant.Publisher.Publish(envelope.Inbox(e, c.sender(), keys[n], n, body), func(r inbox.Receipt, err error) { f.done(n, r, err) })
	}
}

// firstCopy stores the copy that names all recipients, and returns when it is
// stored.
func (c *conn) firstCopy(e *wire.Envelope, keys []subjects.Key, body []byte) (inbox.Receipt, error) {
	msg := envelope.Inbox(e, c.sender(), keys[0], 0, body)
	names := make([]string, len(keys))
	for n, k := range keys {
		_, names[n], _ = strings.Cut(string(k), ".")
	}
	msg.Header[subjects.HeaderCopies] = []string{strings.Join(names, " ")}
	type answer struct {
		inbox.Receipt
		err error
	}
	stored := make(chan answer, 1)
	c.tenant.Publisher.Publish(msg, func(r inbox.Receipt, err error) { stored <- answer{r, err} })
	select {
	case a := <-stored:
		return a.Receipt, a.err
	case <-time.After(fanOutWithin):
		return inbox.Receipt{}, inbox.ErrPublishTimeout
	case <-c.s.ctx.Done():
		return inbox.Receipt{}, c.s.ctx.Err()
	}
}

// recipients are those of an earlier message, of which seq is the first copy.
func (c *conn) recipients(seq uint64) ([]subjects.Key, error) {
	ctx, cancel := context.WithTimeout(c.s.ctx, attachWithin)
	defer cancel()
	all, err := c.tenant.Inbox.Recipients(ctx, seq)
	keys := make([]subjects.Key, len(all))
	for n, to := range all {
		keys[n] = to.Key
	}
	return keys, err
}

// fanOut is a message of which not all copies are stored.
type fanOut struct {
	c         *conn
	id        string
	wantsAck  bool
	duplicate bool
	start     time.Time
	keys      []subjects.Key

	mu   sync.Mutex
	seqs []uint64
	left int
	err  error // the first
}

// done hears of one copy, on the publisher's goroutine.
func (f *fanOut) done(n int, r inbox.Receipt, err error) {
	defer f.c.contain()
	f.mu.Lock()
	f.seqs[n] = r.Seq
	if f.left--; f.err == nil {
		f.err = err
	}
	all, err := f.left == 0, f.err
	f.mu.Unlock()
	if !all {
		return
	}
	f.c.s.metrics.publishDelay.Observe(time.Since(f.start).Seconds())
	if err != nil || !f.wantsAck {
		f.c.stored(f.id, nil, err)
		return
	}
	a := &wire.Accepted{OriginalID: f.id, Duplicate: f.duplicate}
	for i, k := range f.keys {
		if address, err := k.Address(); err == nil {
			a.Recipients = append(a.Recipients, wire.Recipient{DeviceID: string(address.Device), Seq: f.seqs[i]})
		}
	}
	f.c.stored(f.id, a, nil)
}
