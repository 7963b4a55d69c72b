package client

import (
	"github.com/rccs-io/rccs/wire"
)

// dispatch deals with one envelope from the edge. It is the reader's, and must
// not wait but for room in auto mode. The envelope is the reader's to use
// again; its payload is not.
func (c *Client) dispatch(l *link, e *wire.Envelope) {
	l.last = nil
	if !wire.IsControl(e.Type) || !c.controlled(l, e) {
		c.in.deliver(c.ctx, e)
		return
	}
	switch e.Type {
	case wire.TypeAck, wire.TypeGap, wire.TypeTopic: // they see to their seq themselves
	default:
		if e.Seq != 0 {
			c.in.refuse(e.Seq, "a "+e.Type+" is not a message to keep")
		}
	}
}

// unreadable deals with an envelope, or a frame, that cannot be read. What the
// edge keeps for the device until it is acknowledged is refused, or the window would
// fill with it.
func (c *Client) unreadable(text []byte, why error) {
	c.opts.Logger.Error("the edge sent what cannot be read", "err", why, "bytes", len(text))
	for _, seq := range seqsIn(text) {
		c.in.refuse(seq, "cannot be read: "+why.Error())
	}
	if c.opts.OnUnreadable != nil {
		c.opts.OnUnreadable(text, why)
	}
}

// controlled deals with what the client itself understands; false leaves it to
// the application.
func (c *Client) controlled(l *link, e *wire.Envelope) bool {
	switch e.Type {
	case wire.TypeAck:
		c.answer(e)
	case wire.TypeError:
		told, err := wire.DecodeError(e.Payload)
		if err != nil {
			c.opts.Logger.Error("error message cannot be read", "err", err)
			return true
		}
		c.told(l, told)
	case wire.TypeRegister, wire.TypeHeartbeat:
	case wire.TypeTopic:
		return c.topics.offer(e)
	case wire.TypeRequest:
		return c.serveRequest(e)
	case wire.TypeResponse:
		return c.response(e)
	case wire.TypePresence:
		c.presence(e)
	case wire.TypeGap:
		return c.gap(e)
	default:
		return false
	}
	return true
}

// answer deals with an ack: of a message that was sent, of what became of one,
// or of a request that was given up.
func (c *Client) answer(e *wire.Envelope) {
	a, err := wire.DecodeAnswer(e.Payload)
	switch {
	case err != nil:
		c.opts.Logger.Error("ack cannot be read", "err", err)
	case a.Cancel != "":
		c.requests.cancelled(a.Cancel)
	case e.Seq == 0:
		c.out.answer(a.OriginalMessageID, reply{answer: a, payload: e.Payload})
	}
	if e.Seq == 0 {
		return
	}
	// Durable: what became of a message. It may have come before; its id is no
	// help, one message has an outcome for each recipient.
	m := c.in.message(e)
	if err == nil && !c.in.knows(e.Seq) {
		o := outcomeOf(a)
		c.tracks.tell(&o)
		if c.opts.OnOutcome != nil {
			c.opts.OnOutcome(o)
		}
	}
	m.Ack()
}

// told deals with an error message.
func (c *Client) told(l *link, told *wire.Error) {
	if told.OriginalID != "" {
		if c.out.answer(told.OriginalID, reply{err: told}) || c.requests.unwanted(told.OriginalID, told) {
			return
		}
	}
	c.opts.Logger.Warn("the edge reports an error", "code", string(told.Code), "message", told.Text(), "id", told.OriginalID)
	if told.OriginalID == "" {
		l.last = told
	}
	if c.opts.OnError != nil {
		c.opts.OnError(told)
	}
}

// presence tells the application of another device of the user, if it asked.
func (c *Client) presence(e *wire.Envelope) {
	if c.opts.OnPresence == nil {
		return
	}
	p, err := wire.DecodePresence(e.Payload)
	if err != nil {
		c.opts.Logger.Error("presence cannot be read", "err", err)
		return
	}
	c.opts.OnPresence(presenceOf(&p))
}

// gap tells the application that messages are gone.
func (c *Client) gap(e *wire.Envelope) bool {
	g, err := wire.DecodeGap(e.Payload)
	if err == nil {
		c.opts.Logger.Warn("messages are gone", "lane", g.Lane, "topic", g.Topic, "from", g.From, "to", g.To, "count", g.Count, "reason", g.Reason)
	}
	if c.opts.OnGap == nil {
		return false
	}
	switch {
	case err != nil:
		c.opts.Logger.Error("gap cannot be read", "err", err)
	case e.Seq == 0 || !c.in.knows(e.Seq):
		c.opts.OnGap(g)
	}
	c.in.message(e).Ack()
	return true
}
