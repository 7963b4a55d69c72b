package client

import (
	"context"
	"errors"
	"sync"
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
	if !c.requests.close(closeGrace) {
		c.opts.Logger.Warn("a handler of a request does not end with its context")
	}
	if err := c.spool.close(); err != nil {
		c.opts.Logger.Error("outbox file not closed", "err", err)
	}
	close(c.done)
	c.opts.Logger.Info("device ended", "err", err)
}

// live returns why there will be no further connection.
func (c *Client) live(l *link) error {
	try := 0
	if l == nil { // Options.Offline
		var err error
		if l, try, err = c.again(nil, 0); err != nil {
			return err
		}
	}
	for {
		began := time.Now()
		err := c.serve(l)
		if time.Since(began) >= stableAfter || c.probed.Swap(false) {
			try = 0
		}
		// An edge has answered: what went before was another trouble.
		try = min(try, servedTry)
		if l, try, err = c.again(err, try); err != nil {
			return err
		}
	}
}

// again connects after err ended the last connection, nil for none; its error
// is final.
func (c *Client) again(err error, try int) (*link, int, error) {
	for ; ; try++ {
		if err != nil {
			c.edges.follow(err) // of a connection that was registered
			if c.ctx.Err() != nil || c.opts.NoReconnect || final(err, c.opts.Credentials != nil) && !c.replacedItself(err) {
				return nil, try, c.farewellOf(err)
			}
			if c.opts.OnDisconnect != nil {
				c.opts.OnDisconnect(err)
			}
			wait := pause(err, try)
			c.opts.Logger.Info("connection lost", "err", err, "wait", wait)
			if !c.sleep(wait) {
				return nil, try, ErrClosed
			}
		}
		l, failed := c.connect(c.ctx)
		if failed == nil {
			return l, try + 1, nil
		}
		if err = failed; errors.Is(err, context.DeadlineExceeded) {
			c.abandoned = time.Now()
		}
	}
}

// abandonedFor is how long an edge may be at work on a registration that the client
// has given up.
const abandonedFor = 30 * time.Second

// replacedItself reports whether what replaced a connection may be an earlier try
// of this client, which an edge was late to take: then nobody else has come.
func (c *Client) replacedItself(err error) bool {
	var closed *CloseError
	return errors.As(err, &closed) && closed.Code == wire.CloseReplaced && time.Since(c.abandoned) < abandonedFor
}

// farewellOf is why the client ends: what a device that unregisters is told
// is what it asked for.
func (c *Client) farewellOf(err error) error {
	var closed *CloseError
	if errors.As(err, &closed) && closed.Code == wire.CloseNormal && c.leaving.Load() {
		return ErrClosed
	}
	return err
}

// final reports whether the edge does not want the device back. What has ended
// is a credential, which the program may have renewed at the next try or at one
// of those after it.
func final(err error, renewable bool) bool {
	var closed *CloseError
	if !errors.As(err, &closed) {
		return false
	}
	if errors.Is(err, wire.TokenExpired) {
		return !renewable // an edge of an earlier version closes with 4001
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
		try = max(try, 1) // 1011 among them: a fault of the edge
	}
	wait := backoff(try)
	if closed != nil {
		wait = max(wait, min(wire.RetryAfter(closed.Reason), maxAsked))
	}
	if told, ok := errors.AsType[*wire.Error](err); ok {
		wait = max(wait, min(told.RetryAfter, maxAsked))
	}
	return wait
}

// sleep reports false when the client was closed meanwhile.
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
	epoch := c.epoch
	if l.session.Epoch != "" {
		c.epoch = l.session.Epoch
	}
	c.in.reconnected(epoch == "" || epoch == c.epoch)
	c.out.reconnected(l.session.MaxMessageBytes)
	c.restatus()
	c.topics.rejoin()
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
	ctx, cancel := context.WithCancel(c.ctx)
	defer cancel()
	var others sync.WaitGroup
	others.Go(func() { c.write(l) })
	if c.opts.Credentials != nil && !l.session.Expires.IsZero() {
		others.Go(func() { c.renew(ctx, l) })
	}
	err := c.read(l)
	close(l.gone)
	cancel()
	_ = l.ws.Close()
	others.Wait()
	var closed *CloseError
	c.out.blame(errors.As(err, &closed) && closed.Code == wire.CloseInternal)
	c.disconnected()
	return err
}

// disconnected ends what lives no longer than a connection. The other side may
// have kept it for the next one, when that takes this one over: it is told.
func (c *Client) disconnected() {
	c.mu.Lock()
	c.session.Connected = false
	c.mu.Unlock()
	why := ErrConnectionLost
	if c.ctx.Err() != nil {
		why = context.Canceled // by Close
	}
	lost := c.requests.disconnected(why)
	for _, id := range c.out.disconnected() {
		c.giveUp(id)
	}
	for _, r := range lost {
		c.refuse(r, &wire.Failure{Code: string(wire.Unavailable), Message: "the device lost its connection"})
	}
}

// read is the read loop.
func (c *Client) read(l *link) error {
	items := l.rest
	l.rest = nil
	for {
		for i := range items {
			c.dispatch(l, &items[i].Envelope)
		}
		var err error
		if items, err = l.next(items[:0], c.unreadable); err != nil {
			return err
		}
		l.touch()
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
		case <-c.nudge:
			c.probed.Store(true)
			if l.probe() != nil {
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

// round writes one frame of acknowledgements, what is to be refused, and one
// frame of messages, if there are any.
func (w *writer) round(c *Client, l *link) (wrote bool, err error) {
	if w.seqs = c.in.takeAcks(w.seqs[:0]); len(w.seqs) > 0 {
		ack := wire.Ack{Seqs: w.seqs}
		w.frame = ack.Append(w.frame[:0])
		if err := l.send(w.frame); err != nil {
			return true, err
		}
		wrote = true
	}
	for _, r := range c.in.takeRejects() {
		ack := wire.Ack{Reject: r}
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
