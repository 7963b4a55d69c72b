package inbox

import (
	"context"
	"errors"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/rccs-io/rccs/internal/direct"
	"github.com/rccs-io/rccs/internal/layout"
	"github.com/rccs-io/rccs/internal/storeerr"
	"github.com/rccs-io/rccs/subjects"
)

// A stream with several copies refuses a message while one with its id is being
// stored (10158). That one is mostly stored a moment later, so the publisher
// looks for it, rather than have the sender send again. It is not enough to ask
// the server again: nats-server notes the id after it has proposed the message,
// which may be stored by then, and would go on refusing for all of the dedup
// window. For the same reason no probe is published for an id: one that has left
// the dedup window would be being stored.

const (
	// lookFirst is how long after the refusal the stream is looked at; the wait
	// doubles each time.
	lookFirst = 20 * time.Millisecond
	// lookBack is how far back the earlier message may lie: the dedup window, and
	// room for clocks that differ.
	lookBack = 3 * time.Minute
	// lookBatch is how many messages are read at a time.
	lookBatch = 256
	lookBytes = 1 << 20
)

// lookFor has the message answered for by storedBefore.
func (p *Publisher) lookFor(f *pendingPublish, stream string, refusal error) {
	p.mu.Lock()
	closed := p.closed
	if !closed {
		p.wg.Go(func() { p.storedBefore(f, stream, refusal) })
	}
	p.mu.Unlock()
	if closed {
		f.done(Receipt{}, ErrStopped)
	}
}

// storedBefore answers for a message, or a batch, that was refused because its id
// is being stored: by where that one is, or after publishTimeout by the refusal.
func (p *Publisher) storedBefore(f *pendingPublish, stream string, refusal error) {
	ctx, cancel := context.WithDeadline(context.Background(), f.at.Add(publishTimeout))
	defer cancel()
	go func() {
		select {
		case <-p.quit:
			cancel()
		case <-ctx.Done():
		}
	}()
	msg := f.msg
	if f.batch != nil {
		msg = f.batch[0] // the batch has its id
	}
	id := msg.Header.Get(jetstream.MsgIDHeader)
	for wait := lookFirst; ; wait *= 2 {
		select {
		case <-time.After(wait):
		case <-ctx.Done():
			f.done(Receipt{}, refusal)
			return
		}
		switch seq, err := p.look(ctx, stream, msg.Subject, id); {
		case err != nil:
			p.log.Debug("the stream is not read for a message that is being stored", "stream", stream, "err", err)
		case seq > 0:
			f.done(Receipt{Seq: seq, Duplicate: true}, nil)
			return
		}
	}
}

// look returns the sequence of the message with an id, 0 if the stream has none
// of late.
func (p *Publisher) look(ctx context.Context, stream, subject, id string) (uint64, error) {
	fetch, err := p.reader()
	if err != nil {
		return 0, err
	}
	since := time.Now().Add(-lookBack)
	return find(ctx, fetch, stream, direct.Request{StartTime: &since, NextFor: repeatsOf(subject)}, id)
}

// repeatsOf are the subjects that a message may have gone to of which one to
// subject is a repeat. A message to a device may have been for another of the
// user's, or in another lane.
func repeatsOf(subject string) string {
	if k, _, ok := subjects.ParseInbox(subject); ok {
		if a, err := k.Address(); err == nil {
			return subjects.Scope{User: a.User}.Inboxes()
		}
	}
	if k, _, ok := subjects.ParseLater(subject); ok {
		if a, err := k.Address(); err == nil {
			return subjects.Scope{User: a.User}.Laters()
		}
	}
	return subject
}

// Find returns where the message with a Nats-Msg-Id was stored in a device's
// inbox from a sequence on, 0 if it is not found.
func (h *Hub) Find(ctx context.Context, to subjects.Address, id string, from uint64) (uint64, error) {
	return findInInbox(ctx, h.fetch, to, id, from)
}

// Find is [Hub.Find].
func (s *Cursors) Find(ctx context.Context, to subjects.Address, id string, from uint64) (uint64, error) {
	return findInInbox(ctx, s.fetch, to, id, from)
}

func findInInbox(ctx context.Context, fetch *direct.Client, to subjects.Address, id string, from uint64) (uint64, error) {
	return find(ctx, fetch, layout.StreamInbox, direct.Request{Seq: from, NextFor: subjects.Scope(to).Inboxes()}, id)
}

// find reads what a request begins with, and on to the end of the stream, until
// it finds the message with an id.
func find(ctx context.Context, fetch *direct.Client, stream string, req direct.Request, id string) (uint64, error) {
	req.Batch, req.MaxBytes = lookBatch, lookBytes
	for {
		msgs, left, err := fetch.Get(ctx, stream, &req)
		if err != nil {
			return 0, err
		}
		for i := range msgs {
			if msgs[i].Header.Get(jetstream.MsgIDHeader) == id {
				return msgs[i].Seq, nil
			}
		}
		if left == 0 || len(msgs) == 0 {
			return 0, nil
		}
		req.Seq, req.StartTime = msgs[len(msgs)-1].Seq+1, nil
	}
}

// reader makes the connection that streams are read with, once it is needed.
func (p *Publisher) reader() (*direct.Client, error) {
	p.readMu.Lock()
	defer p.readMu.Unlock()
	if p.read != nil {
		return p.read, nil
	}
	select {
	case <-p.quit:
		return nil, ErrStopped
	default:
	}
	nc, err := p.dial()
	if err != nil {
		return nil, err
	}
	c := direct.New(nc)
	if err := c.Start(); err != nil {
		nc.Close()
		return nil, err
	}
	p.read, p.readConn = c, nc
	return c, nil
}

// stopReader ends what reader has made. Nobody reads any more.
func (p *Publisher) stopReader() {
	p.readMu.Lock()
	defer p.readMu.Unlock()
	if p.read != nil {
		p.read.Stop()
		p.readConn.Close()
	}
}

// beingStored is the stream that refused a message because one with its id is
// being stored.
func beingStored(m *nats.Msg, err error) (stream string, ok bool) {
	var refused *StoreError
	if !errors.As(err, &refused) || refused.ErrCode != storeerr.IDInProcess {
		return "", false
	}
	return streamOf(m), true
}
