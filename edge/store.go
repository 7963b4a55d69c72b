package edge

import (
	"context"
	"errors"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/rccs-io/rccs/internal/inbox"
	"github.com/rccs-io/rccs/internal/send"
	"github.com/rccs-io/rccs/subjects"
	"github.com/rccs-io/rccs/wire"
)

type natsMsg = nats.Msg

// store has a message stored, or all or none of its delayed copies, and answers. targets
// are whom they are for, in the same order; none when that is not known yet.
func (c *conn) store(e *wire.Envelope, targets []subjects.DeviceID, copies ...*natsMsg) {
	c.s.metrics.received.Inc()
	c.mu.Lock()
	c.inflight++
	c.mu.Unlock()
	p := &pendingStore{c: c, id: e.ID, wantsAck: e.RequiresAck, start: time.Now(), targets: targets, later: e.DeliverAt.After(time.Now())}
	c.tenant.Publisher.PublishBatch(copies, p.done)
}

// pendingStore is a message that the store has not answered for.
type pendingStore struct {
	c        *conn
	id       string
	wantsAck bool
	later    bool // it has no sequence in an inbox yet
	start    time.Time
	targets  []subjects.DeviceID
}

// done is called on the publisher's goroutine, which must not wait.
func (p *pendingStore) done(r inbox.BatchReceipt, err error) {
	defer p.c.contain()
	p.c.s.metrics.publishDelay.Observe(time.Since(p.start).Seconds())
	switch {
	case err != nil || !p.wantsAck:
		p.c.stored(p.id, nil, err)
	case r.Duplicate && len(p.targets) > 0 && !p.later:
		go p.c.contained(func() { p.repeated(r) })
	default:
		p.c.stored(p.id, p.accepted(r), nil)
	}
}

func (p *pendingStore) accepted(r inbox.BatchReceipt) *wire.Accepted {
	a := &wire.Accepted{OriginalID: p.id, Duplicate: r.Duplicate, Recipients: make([]wire.Recipient, len(p.targets))}
	for n, device := range p.targets {
		a.Recipients[n].DeviceID = string(device)
		if !p.later {
			a.Recipients[n].Seq = r.First + uint64(n)
		}
	}
	return a
}

// repeated answers a repeat of a message: it went to the first one's
// recipients, whomever it names now.
func (p *pendingStore) repeated(r inbox.BatchReceipt) {
	ctx, cancel := context.WithTimeout(p.c.s.ctx, attachWithin)
	defer cancel()
	a := p.accepted(r)
	first, err := p.c.tenant.Inbox.Recipients(ctx, r.First)
	if err != nil {
		p.c.log().Warn("recipients of a repeated message not found", "seq", r.First, "err", err)
	} else {
		a.Recipients = a.Recipients[:0]
		for n, to := range first {
			address, err := to.Key.Address()
			if err != nil {
				continue
			}
			if to.Seq == 0 {
				to.Seq = p.c.find(p.id, to.Key, n)
			}
			a.Recipients = append(a.Recipients, wire.Recipient{DeviceID: string(address.Device), Seq: to.Seq})
		}
	}
	p.c.stored(p.id, a, nil)
}

// find is where a copy of a message of this device was stored, 0 if it is not
// found.
func (c *conn) find(id string, to subjects.Key, copyNumber int) uint64 {
	found := make(chan uint64, 1)
	subject := subjects.Inbox(to, subjects.Normal) // whatever its lane was
	c.tenant.Publisher.Find(subject, c.sender().DedupID(id, copyNumber), func(seq uint64, err error) {
		if err != nil {
			seq = 0
		}
		found <- seq
	})
	select {
	case seq := <-found:
		return seq
	case <-c.s.ctx.Done():
		return 0
	}
}

// stored ends what store began: a is told, if it is not nil, or err.
func (c *conn) stored(id string, a *wire.Accepted, err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	switch {
	case err != nil:
		e := storeError(err)
		e.OriginalID = id
		c.tellLocked(e)
	case a != nil:
		c.answerLocked(wire.TypeAck, a.AppendPayload(nil))
	}
	c.inflight--
	c.changed.Broadcast()
	if c.draining && c.inflight == 0 {
		c.endLocked(c.drainCode, nil)
	}
}

func storeError(err error) *wire.Error {
	return send.StoreError(err)
}

// fullError says why a message is not taken for a device.
func fullError(device subjects.DeviceID, err error) *wire.Error {
	e := wire.NewError(wire.Unavailable, "the message store does not answer, try again")
	e.RetryAfter = retryAfter
	if errors.Is(err, inbox.ErrFull) {
		e = wire.NewError(wire.QueueFull, "the inbox of "+string(device)+" is full of unacknowledged messages: nothing was stored for anybody")
		e.RetryAfter = 10 * retryAfter
	}
	return e
}
