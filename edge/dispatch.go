package edge

import (
	"context"
	"errors"
	"strconv"
	"time"

	"github.com/rccs-io/rccs/internal/envelope"
	"github.com/rccs-io/rccs/internal/inbox"
	"github.com/rccs-io/rccs/subjects"
	"github.com/rccs-io/rccs/wire"
)

// retryAfter is told with errors that pass by themselves.
const retryAfter = time.Second

// envelope deals with one element of a frame.
func (c *conn) envelope(item *wire.Item) {
	box := c.mailbox()
	if item.Err != nil {
		if box == nil {
			c.finish(wire.CloseAuth, item.Err)
			return
		}
		c.tell(item.Err)
		return
	}
	e := &item.Envelope
	switch {
	case box == nil:
		c.register(e)
	case e.Type == wire.TypeAck:
		c.acknowledge(box, e)
	case c.stopping():
		// Not accepted, not answered: the device sends it again elsewhere.
	case !c.honest(e):
	case e.Type == wire.TypeRegister:
		c.renew(e)
	case e.Type == wire.TypeHeartbeat:
		c.confirm(e)
	case e.Type == wire.TypeUnregister:
		c.confirm(e)
		c.drain(wire.CloseNormal)
	case wire.IsControl(e.Type):
		c.fail(e, wire.NewError(wire.BadMessage, "type "+e.Type+" is not one that this edge serves"))
	default:
		c.send(e)
	}
}

// confirm answers a control message that wants nothing but to be heard.
func (c *conn) confirm(e *wire.Envelope) {
	c.answer(wire.TypeAck, append(wire.AppendString([]byte(`{"status":"success","originalMessageId":`), e.ID), '}'))
}

func (c *conn) stopping() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.draining
}

// honest refuses an envelope that claims another identity than the
// credential's.
func (c *conn) honest(e *wire.Envelope) bool {
	if e.FromDeviceID != "" && e.FromDeviceID != string(c.who.Address.Device) {
		c.fail(e, wire.NewError(wire.IdentityMismatch, "fromDeviceId is not what the credential says"))
		return false
	}
	if e.UserID != "" && e.UserID != string(c.who.Address.User) {
		c.fail(e, wire.NewError(wire.IdentityMismatch, "userId is not what the credential says"))
		return false
	}
	return true
}

// acknowledge settles what a device says it has. Nothing answers it but an
// error.
func (c *conn) acknowledge(box *inbox.Mailbox, e *wire.Envelope) {
	ack, err := wire.DecodeAck(c.seqs[:0], e.Payload)
	if err != nil {
		c.fail(e, wire.AsError(err))
		return
	}
	if ack.UpTo > 0 {
		box.AckUpTo(ack.UpTo)
	}
	box.Ack(ack.Seqs...)
	if cap(ack.Seqs) <= maxKeptSeqs {
		c.seqs = ack.Seqs
	}
}

// maxKeptSeqs is how large a buffer for acknowledgements a connection keeps.
const maxKeptSeqs = 64

// send stores a message for the device that it is for.
func (c *conn) send(e *wire.Envelope) {
	to, werr := c.target(e)
	if werr != nil {
		c.fail(e, werr)
		return
	}
	body := append([]byte(nil), e.Payload...) // the payload aliases the frame
	msg := envelope.Inbox(e, envelope.Sender{Key: c.key, Device: c.who.Address.Device}, to.Key(), 0, body)
	c.s.metrics.received.Inc()
	c.mu.Lock()
	c.inflight++
	c.mu.Unlock()
	id, wantsAck, start := e.ID, e.RequiresAck, time.Now()
	c.tenant.Publisher.Publish(msg, func(r inbox.Receipt, err error) {
		c.s.metrics.publishDelay.Observe(time.Since(start).Seconds())
		if r.Duplicate && wantsAck {
			go c.repeated(id, to, r) // it asks the store; this goroutine must not wait
			return
		}
		c.stored(id, to, wantsAck, r, err)
	})
}

// target is the device that a message is for.
func (c *conn) target(e *wire.Envelope) (subjects.Address, *wire.Error) {
	if field := unserved(e); field != "" {
		return subjects.Address{}, wire.NewError(wire.BadMessage, field+" is not served by this edge yet: leave it out")
	}
	target, _ := e.Target()
	name := target.Device
	if name == "" {
		return subjects.Address{}, wire.NewError(wire.BadMessage, "toDeviceId is missing: this edge sends to one named device only")
	}
	to := subjects.Address{User: c.who.Address.User, Device: subjects.DeviceID(name)}
	if err := to.Check(); err != nil {
		return to, wire.NewError(wire.BadMessage, "toDeviceId: "+err.Error())
	}
	if c.tenant.Roster.Get(to.Key()) == nil {
		return to, wire.NewError(wire.DeviceNotFound, "no device of this user is registered as "+name)
	}
	return to, nil
}

// unserved names a field that asks for what this edge does not do yet. It is
// refused, because to store the message as if the field were not there would
// break what the sender relies on.
func unserved(e *wire.Envelope) string {
	switch {
	case e.Ephemeral:
		return "ephemeral"
	case !e.DeliverAt.IsZero():
		return "deliverAt"
	case e.TTLMs != 0:
		return "ttlMs"
	case e.CollapseKey != "":
		return "collapseKey"
	case e.To != nil && e.To.Device == "":
		return "to without device"
	}
	return ""
}

// repeated answers a repeat of a message: it went to the first one's
// recipient, whomever it names now.
func (c *conn) repeated(id string, to subjects.Address, r inbox.Receipt) {
	ctx, cancel := context.WithTimeout(c.s.ctx, attachWithin)
	defer cancel()
	if key, err := c.tenant.Inbox.Recipient(ctx, r.Seq); err != nil {
		c.log().Warn("recipient of a repeated message not found", "seq", r.Seq, "err", err)
	} else if first, err := key.Address(); err == nil {
		to = first
	}
	c.stored(id, to, true, r, nil)
}

// stored runs on the publisher's goroutine when a message is stored or not.
func (c *conn) stored(id string, to subjects.Address, wantsAck bool, r inbox.Receipt, err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	switch {
	case err != nil:
		e := storeError(err)
		e.OriginalID = id
		c.tellLocked(e)
	case wantsAck:
		accepted := wire.Accepted{
			OriginalID: id, Duplicate: r.Duplicate,
			Recipients: []wire.Recipient{{DeviceID: string(to.Device), Seq: r.Seq}},
		}
		c.answerLocked(wire.TypeAck, accepted.AppendPayload(nil))
	}
	c.inflight--
	c.changed.Broadcast()
	if c.draining && c.inflight == 0 {
		c.endLocked(c.drainCode, nil)
	}
}

func storeError(err error) *wire.Error {
	var refused *inbox.StoreError
	if errors.As(err, &refused) && refused.Code >= 400 && refused.Code < 500 && refused.Code != 408 {
		return wire.NewError(wire.Internal, "the message could not be stored")
	}
	e := wire.NewError(wire.Unavailable, "the message is not known to be stored: send it again with the same id")
	e.RetryAfter = retryAfter
	return e
}

// fail tells the sender of e what is wrong with it.
func (c *conn) fail(e *wire.Envelope, err *wire.Error) {
	err.OriginalID = e.ID
	c.tell(err)
}

// tell sends an error; the connection goes on.
func (c *conn) tell(err *wire.Error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.tellLocked(err)
}

func (c *conn) tellLocked(err *wire.Error) {
	c.s.metrics.told(err.Code)
	c.answerLocked(wire.TypeError, err.AppendPayload(nil))
}

// answer sends an envelope of the edge's own with the payload given.
func (c *conn) answer(kind string, payload []byte) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.answerLocked(kind, payload)
}

func (c *conn) answerLocked(kind string, payload []byte) {
	c.answers++
	e := wire.Envelope{
		ID: "s" + strconv.FormatUint(c.answers, 10), Type: kind, FromDeviceID: wire.Server,
		Payload: payload, Priority: wire.Normal, Timestamp: wire.FormatTime(time.Now()),
	}
	c.queueLocked(e.Append)
}
