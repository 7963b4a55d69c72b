package edge

import (
	"encoding/json"
	"strconv"
	"time"

	"github.com/rccs-io/rccs/internal/inbox"
	"github.com/rccs-io/rccs/internal/send"
	"github.com/rccs-io/rccs/internal/trace"
	"github.com/rccs-io/rccs/wire"
)

// retryAfter is the wait that errors suggest which pass by themselves.
const retryAfter = time.Second

// envelope handles one element of a frame.
func (c *conn) envelope(item *wire.Item) {
	mailbox := c.currentMailbox()
	if item.Err != nil {
		if mailbox == nil {
			c.finish(wire.CloseAuth, item.Err)
			return
		}
		c.tell(item.Err)
		return
	}
	e := &item.Envelope
	if mailbox == nil {
		c.onOwnStack(func() { c.register(e) })
		return
	}
	if err := c.dispatch(mailbox, e); err != nil {
		c.fail(e, wire.AsError(err))
	}
}

// dispatch handles an envelope of a registered device. The error is what is wrong
// with it, which the device is told; the connection goes on.
func (c *conn) dispatch(mailbox *inbox.Mailbox, e *wire.Envelope) error {
	if e.Type == wire.TypeAck {
		c.sess.Touch(time.Now().UnixNano())
		return c.acknowledge(mailbox, e)
	}
	if c.stopping() {
		return nil // not accepted, not answered: the device sends it again elsewhere
	}
	from := c.identity()
	if err := send.CheckIdentity(&from, e); err != nil {
		return err
	}
	switch e.Type {
	case wire.TypeRegister:
		return c.renew(e)
	case wire.TypeHeartbeat:
		c.confirm(e.ID)
		return nil
	}
	c.sess.Touch(time.Now().UnixNano())
	switch {
	case !c.withinRates(e): // and the device was told
	case wire.IsControl(e.Type):
		return c.control(e)
	default:
		c.send(e)
	}
	return nil
}

// onOwnStack runs f on a goroutine of its own and waits for it. Checking a
// credential takes a deep stack, and Go shrinks a grown stack only by half at a
// time: an idle connection would keep 8 KiB instead of 4.
func (c *conn) onOwnStack(f func()) {
	done := make(chan struct{})
	go func() {
		defer close(done)
		c.contained(f)
	}()
	<-done
}

// control handles the message types to which RCCS itself gives a meaning.
func (c *conn) control(e *wire.Envelope) error {
	switch e.Type {
	case wire.TypeUnregister:
		return c.unregister(e)
	case wire.TypeStatus:
		return c.setStatus(e)
	case wire.TypeDeviceList:
		return c.listDevices(e)
	case wire.TypeRequest:
		return c.request(e)
	case wire.TypeResponse:
		return c.respond(e)
	case wire.TypeSubscribe:
		return c.subscribe(e)
	case wire.TypeUnsubscribe:
		return c.unsubscribe(e)
	case wire.TypePublish:
		return c.publish(e)
	case wire.TypeHistory:
		return c.history(e)
	}
	return wire.NewError(wire.BadMessage, "type "+e.Type+" is sent by the edge only")
}

func (c *conn) stopping() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.phase >= draining
}

// acknowledge takes a device's acknowledgement. It is answered only if it is
// wrong.
func (c *conn) acknowledge(mailbox *inbox.Mailbox, e *wire.Envelope) error {
	ack, err := wire.DecodeAck(c.seqs[:0], e.Payload)
	if err != nil {
		return err
	}
	if ack.UpTo > 0 {
		mailbox.AckUpTo(ack.UpTo)
	}
	mailbox.Ack(ack.Seqs...)
	c.recordAcked(ack.UpTo, ack.Seqs, "")
	if ack.Reject.Seq != 0 {
		mailbox.Reject(ack.Reject.Seq, ack.Reject.Reason)
		c.recordAcked(0, []uint64{ack.Reject.Seq}, trace.Rejected)
	}
	if cap(ack.Seqs) <= maxKeptSeqs {
		c.seqs = ack.Seqs
	}
	if ack.Cancel != "" {
		return c.cancel(ack.Cancel)
	}
	return nil
}

// maxKeptSeqs is how large a buffer for acknowledgements a connection keeps.
const maxKeptSeqs = 64

// fail tells the sender of e what is wrong with it.
func (c *conn) fail(e *wire.Envelope, err *wire.Error) {
	c.tell(err.For(e.ID))
}

// tell sends an error. The connection goes on.
func (c *conn) tell(err *wire.Error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.tellLocked(err)
}

func (c *conn) tellLocked(err *wire.Error) { c.tellErrorLocked(err, c.phase == attaching) }

// tellLastLocked is tellLocked for an error that ends the connection: the error
// does not wait for the answer to the registration.
func (c *conn) tellLastLocked(err *wire.Error) { c.tellErrorLocked(err, false) }

func (c *conn) tellErrorLocked(err *wire.Error, hold bool) {
	if f := c.queueHeldLocked(c.envelopeLocked(wire.TypeError, err.AppendPayload(nil)).Append, hold); f != nil {
		f.errors = append(f.errors, err.Code)
	}
}

// answer sends an envelope of the edge's own with the payload given.
func (c *conn) answer(kind string, payload []byte) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.answerLocked(kind, payload)
}

func (c *conn) answerLocked(kind string, payload []byte) {
	if c.queueLocked(c.envelopeLocked(kind, payload).Append) == nil {
		var about struct {
			ID string `json:"originalMessageId"`
		}
		_ = json.Unmarshal(payload, &about) // of what the edge has just made
		c.tellLocked(wire.NewError(wire.MessageTooLarge, "an answer does not fit in maxFrameBytes").For(about.ID))
	}
}

// envelopeLocked returns an envelope of the edge's own.
func (c *conn) envelopeLocked(kind string, payload []byte) *wire.Envelope {
	c.out.answers++
	return &wire.Envelope{
		ID: answerID(c.out.answers), Type: kind, FromDeviceID: wire.Server,
		Payload: payload, Priority: wire.Normal, Timestamp: wire.FormatTime(time.Now()),
	}
}

// answerID is the id of the nth envelope of the edge's own.
func answerID(n uint64) string { return "s" + strconv.FormatUint(n, 10) }
