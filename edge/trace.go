package edge

import (
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/rccs-io/rccs/internal/envelope"
	"github.com/rccs-io/rccs/internal/send"
	"github.com/rccs-io/rccs/subjects"
	"github.com/rccs-io/rccs/wire"
)

// Tracer records the way of single messages through devices, edges and the
// store. Its methods must not block. Most messages are not recorded, and cost as
// little as possible.
type Tracer interface {
	// Received begins the record of a message of a device, and puts its place in
	// the trace into e.Traceparent, which goes on with the message. It returns nil
	// when the message is not recorded.
	Received(e *wire.Envelope, from subjects.Address) Reception
	// Delivered records that a stored message goes to a device now. It returns nil
	// when the message is not recorded.
	Delivered(d *envelope.Delivery, to subjects.Address) Reception
}

// Reception is the record of a message that was received: by an edge, which then
// stores it, or by a device, which then acknowledges it.
type Reception interface {
	// TraceID is for exemplars of metrics.
	TraceID() string
	// Done says what became of it: whether it was stored or acknowledged, and for
	// how long the store was asked.
	Done(r send.Result)
}

// recorded hears of the result of a message that is recorded.
type recorded struct {
	c         *conn
	reception Reception
}

// Sent implements [send.Waiter].
func (w recorded) Sent(r send.Result) {
	w.reception.Done(r)
	w.c.sent(r, w.reception.TraceID())
}

// waiter is who hears what became of a message: the connection, or a record of
// it before that.
func (c *conn) waiter(e *wire.Envelope) send.Waiter {
	if t := c.s.opts.Tracer; t != nil {
		if r := t.Received(e, c.who.Address); r != nil {
			return recorded{c, r}
		}
	}
	return c
}

// observe adds to a histogram, with the trace of a message that is recorded.
func observe(h prometheus.Histogram, d time.Duration, trace string) {
	if e, ok := h.(prometheus.ExemplarObserver); ok && trace != "" {
		e.ObserveWithExemplar(d.Seconds(), prometheus.Labels{"trace_id": trace})
		return
	}
	h.Observe(d.Seconds())
}

// deliveries are the recorded messages that a device has not acknowledged. The
// zero value is ready.
type deliveries struct {
	mu  sync.Mutex
	all map[uint64]Reception // by seq
}

// maxRecorded bounds them; what comes past it is recorded as delivered only.
const maxRecorded = 4096

// record records what is written next: before it is, because the device may
// acknowledge it at once.
func (c *conn) record(all []envelope.Delivery) {
	t := c.s.opts.Tracer
	if t == nil {
		return
	}
	for i := range all {
		if all[i].Traceparent() == "" {
			continue
		}
		if r := t.Delivered(&all[i], c.who.Address); r != nil {
			c.recorded.add(all[i].Seq, r)
		}
	}
}

// trace is that of a message that was recorded and not acknowledged yet; "" for
// none.
func (c *conn) trace(seq uint64) string {
	if c.s.opts.Tracer == nil {
		return ""
	}
	return c.recorded.trace(seq)
}

// ackedAfter counts a message that the device has acknowledged, so long after its
// storage.
func (c *conn) ackedAfter(seq uint64, d time.Duration) {
	c.s.metrics.acked.Inc()
	observe(c.s.metrics.storedAck, d, c.trace(seq))
}

// recordAcked ends the records of messages that the device acknowledges or, with
// an error, refuses.
func (c *conn) recordAcked(upTo uint64, seqs []uint64, werr *wire.Error) {
	if c.s.opts.Tracer != nil {
		c.recorded.acked(upTo, seqs, werr)
	}
}

func (d *deliveries) trace(seq uint64) string {
	d.mu.Lock()
	defer d.mu.Unlock()
	if r := d.all[seq]; r != nil {
		return r.TraceID()
	}
	return ""
}

func (d *deliveries) add(seq uint64, r Reception) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.all == nil {
		d.all = make(map[uint64]Reception)
	}
	if len(d.all) < maxRecorded {
		d.all[seq] = r
	}
}

// acked ends the records of messages that were acknowledged: one by one, or all
// up to one. A refusal is in werr.
func (d *deliveries) acked(upTo uint64, seqs []uint64, werr *wire.Error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if len(d.all) == 0 {
		return
	}
	end := func(seq uint64) {
		if r := d.all[seq]; r != nil {
			delete(d.all, seq)
			r.Done(send.Result{Err: werr})
		}
	}
	for _, seq := range seqs {
		end(seq)
	}
	if upTo == 0 {
		return
	}
	for seq := range d.all {
		if seq <= upTo {
			end(seq)
		}
	}
}
