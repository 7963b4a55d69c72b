package client

import (
	"context"
	"errors"
	"time"

	"github.com/gorilla/websocket"

	"github.com/rccs-io/rccs/wire"
)

const (
	// closeTimeout bounds the wait for the edge's close frame.
	closeTimeout = time.Second
	// closeGrace bounds Close as a whole.
	closeGrace = 3 * time.Second
	// maxAsked is the longest wait that an edge can ask for.
	maxAsked = 5 * time.Minute
)

// run is the client's life: one connection after the other. It is also the
// reader of each.
func (c *Client) run(l *link) {
	err := c.live(l)
	if c.ctx.Err() != nil {
		err = ErrClosed
	}
	c.cancel()
	c.mu.Lock()
	c.err = err
	c.session.Connected = false
	c.mu.Unlock()
	c.out.close(err)
	close(c.done)
	c.opts.Logger.Info("device ended", "err", err)
}

// live returns why there will be no further connection.
func (c *Client) live(l *link) error {
	for try := 0; ; {
		began := time.Now()
		err := c.serve(l)
		if time.Since(began) >= settledAfter {
			try = 0
		}
		if l, try, err = c.again(err, try); err != nil {
			return err
		}
	}
}

// again connects after err ended the last connection; its error is final.
func (c *Client) again(err error, try int) (*link, int, error) {
	for ; ; try++ {
		if c.ctx.Err() != nil || c.opts.NoReconnect || final(err, c.opts.Credentials != nil) {
			return nil, try, err
		}
		if c.opts.OnDisconnect != nil {
			c.opts.OnDisconnect(err)
		}
		wait := pause(err, try)
		c.opts.Logger.Info("connection lost", "err", err, "wait", wait)
		if !c.sleep(wait) {
			return nil, try, ErrClosed
		}
		l, failed := connect(c.ctx, c.url, c.opts)
		if failed == nil {
			return l, try + 1, nil
		}
		err = failed
	}
}

// final says whether the edge does not want the device back.
func final(err error, renewable bool) bool {
	var closed *CloseError
	if !errors.As(err, &closed) {
		return false
	}
	switch closed.Code.Reconnect() {
	case wire.ReconnectNo:
		return true
	case wire.ReconnectCredential:
		return !renewable
	case wire.ReconnectNow, wire.ReconnectLater:
	}
	return false
}

// pause is how long to wait before the next try. The edge may have asked for
// more than the back-off.
func pause(err error, try int) time.Duration {
	var closed *CloseError
	if errors.As(err, &closed) && closed.Code.Reconnect() == wire.ReconnectLater {
		try = max(try, 1)
	}
	wait := backoff(try)
	if told, ok := errors.AsType[*wire.Error](err); ok {
		wait = max(wait, min(told.RetryAfter, maxAsked))
	}
	return wait
}

// sleep is false when the client was closed meanwhile.
func (c *Client) sleep(d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-c.nudge:
	case <-c.ctx.Done():
		return false
	}
	return true
}

// serve runs a registered connection until it ends and returns why.
func (c *Client) serve(l *link) error {
	c.setSession(l.session)
	c.in.reconnected()
	c.out.reconnected(l.session.MaxMessageBytes)
	if c.opts.OnConnect != nil {
		c.opts.OnConnect(l.session)
	}
	c.opts.Logger.Info("device registered", "user", string(l.session.User), "device", string(l.session.Device),
		"session", string(l.session.ID), "resumed", l.session.Resumed)
	// A write that hangs must not hold up Close.
	stop := context.AfterFunc(c.ctx, func() {
		time.AfterFunc(closeGrace, func() { _ = l.ws.Close() })
	})
	defer stop()
	written := make(chan struct{})
	go func() {
		defer close(written)
		c.write(l)
	}()
	err := c.read(l)
	close(l.gone)
	_ = l.ws.Close()
	<-written
	c.mu.Lock()
	c.session.Connected = false
	c.mu.Unlock()
	return err
}

// read is the read loop.
func (c *Client) read(l *link) error {
	items := l.rest
	l.rest = nil
	for {
		for i := range items {
			c.dispatch(l, &items[i])
		}
		var err error
		if items, err = l.next(); err != nil {
			return err
		}
		l.touch()
	}
}

// dispatch deals with one envelope from the edge.
func (c *Client) dispatch(l *link, item *wire.Item) {
	e := &item.Envelope
	l.last = nil
	if item.Err != nil {
		c.opts.Logger.Error("message cannot be read", "err", item.Err)
		return
	}
	switch e.Type {
	case wire.TypeAck:
		c.answer(e)
	case wire.TypeError:
		told, err := wire.DecodeError(e.Payload)
		if err != nil {
			c.opts.Logger.Error("error message cannot be read", "err", err)
			return
		}
		c.told(l, told)
	case wire.TypeRegister, wire.TypeHeartbeat:
	default:
		c.in.deliver(c.ctx, e)
	}
}

// answer deals with an ack: of a message that was sent, or of what became of
// one.
func (c *Client) answer(e *wire.Envelope) {
	a, err := wire.DecodeAnswer(e.Payload)
	if err != nil {
		c.opts.Logger.Error("ack cannot be read", "err", err)
	} else if a.Status == wire.StatusAccepted {
		c.out.answer(a.OriginalMessageID, reply{accepted: a.Accepted()})
	}
	if e.Seq == 0 {
		return
	}
	// Durable: what became of a message. It may have come before; its id is no
	// help, one message has an outcome for each recipient.
	m := &Message{Envelope: *e, in: c.in}
	if err == nil && c.opts.OnOutcome != nil && !c.in.knows(e.Seq) {
		c.opts.OnOutcome(a.Outcome())
	}
	m.Ack()
}

// told deals with an error message.
func (c *Client) told(l *link, told *wire.Error) {
	if told.OriginalID != "" && c.out.answer(told.OriginalID, reply{err: told}) {
		return
	}
	c.opts.Logger.Warn("the edge reports an error", "code", string(told.Code), "message", told.Text(), "id", told.OriginalID)
	if told.OriginalID == "" {
		l.last = told
	}
	if c.opts.OnError != nil {
		c.opts.OnError(told)
	}
}

// write is the writer: it owns the socket's write side. When the client is
// closed it writes what is left, says good-bye, and waits a moment for the
// edge to do the same.
func (c *Client) write(l *link) {
	var w writer
	for {
		wrote, err := w.round(c, l)
		if err != nil {
			_ = l.ws.Close() // the reader notices
			return
		}
		if wrote {
			continue
		}
		select {
		case <-c.wake:
		case data := <-l.pongs:
			if l.ws.WriteControl(websocket.PongMessage, []byte(data), time.Now().Add(writeTimeout)) != nil {
				_ = l.ws.Close()
				return
			}
		case <-l.gone:
			return
		case <-c.ctx.Done():
			c.farewell(l, &w)
			return
		}
	}
}

func (c *Client) farewell(l *link, w *writer) {
	for {
		if wrote, err := w.round(c, l); err != nil || !wrote {
			break
		}
	}
	bye := websocket.FormatCloseMessage(int(wire.CloseNormal), "")
	_ = l.ws.WriteControl(websocket.CloseMessage, bye, time.Now().Add(closeTimeout))
	ctx, cancel := context.WithTimeout(context.WithoutCancel(c.ctx), closeTimeout)
	defer cancel()
	select {
	case <-l.gone:
	case <-ctx.Done():
		_ = l.ws.Close()
	}
}

// writer is the scratch space of a write loop.
type writer struct {
	seqs  []uint64
	frame []byte
}

// round writes one frame of acknowledgements and one of messages, if there are
// any.
func (w *writer) round(c *Client, l *link) (wrote bool, err error) {
	if w.seqs = c.in.takeAcks(w.seqs[:0]); len(w.seqs) > 0 {
		ack := wire.Ack{Seqs: w.seqs}
		w.frame = ack.Append(w.frame[:0])
		if err := l.send(w.frame); err != nil {
			return true, err
		}
		wrote = true
	}
	if w.frame = c.out.take(w.frame[:0]); len(w.frame) > 0 {
		wrote = true
		err = l.send(w.frame)
	}
	if cap(w.frame) > 2*batchBytes {
		w.frame = nil // one large message must not be kept for ever
	}
	return wrote, err
}
