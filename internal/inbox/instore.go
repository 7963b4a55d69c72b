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

// A stream with several copies refuses a message while another with its id is
// being stored (10158). Usually that one is stored a moment later. So the
// publisher looks for it, rather than have the sender send again. Publishing
// again is not enough: nats-server notes the id after it has proposed the
// message. By then the message may be stored, and the server would go on refusing
// the id for all of the dedup window. For the same reason the publisher does not
// probe with the id: the probe of an id that has left the dedup window would
// itself be stored.

const (
	// lookFirst is how long after the refusal the publisher looks at the stream;
	// the wait doubles each time.
	lookFirst = 20 * time.Millisecond
	// lookBack is how far back the earlier message may lie: the dedup window, and
	// room for clocks that differ.
	lookBack = 3 * time.Minute
	// lookBatch is how many messages are read at a time.
	lookBatch = 256
	lookBytes = 1 << 20
)

// lookFor has storedBefore answer the message, unless the publisher has stopped.
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

// storedBefore answers a message, or a batch, that was refused because its id is
// being stored. The answer is where the other one was stored or, after
// publishTimeout, the refusal.
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
		msg = f.batch[0] // its id stands for the batch
	}
	id := p.Shard.PlainID(msg.Subject, msg.Header.Get(jetstream.MsgIDHeader))
	for wait := lookFirst; ; wait *= 2 {
		select {
		case <-time.After(wait):
		case <-ctx.Done():
			f.done(Receipt{}, refusal)
			return
		}
		switch seq, err := p.look(ctx, stream, p.Shard.Plain(msg.Subject), id); {
		case err != nil:
			p.log.Debug("the stream is not read for a message that is being stored", "stream", stream, "err", err)
		case seq > 0:
			f.done(Receipt{Seq: seq, Duplicate: true}, nil)
			return
		}
	}
}

// look returns the sequence of the recent message with an id; 0 if the stream has
// none.
func (p *Publisher) look(ctx context.Context, stream, subject, id string) (uint64, error) {
	fetch, err := p.reader()
	if err != nil {
		return 0, err
	}
	since := time.Now().Add(-lookBack)
	return find(ctx, fetch, stream, direct.Request{StartTime: &since, NextFor: repeatsOf(subject)}, id)
}

// repeatsOf returns the subjects on which the original of a repeat to subject may
// be stored. The original of a message to a device may have gone to another
// device of the user, or to another lane.
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

// Find returns the sequence of the message with a Nats-Msg-Id in a device's
// inbox, looking from a sequence on; 0 if it is not found.
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

// find runs a request, and reads on to the end of the stream until it finds the
// message with an id.
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

// reader returns the client that reads streams. It connects when it is needed
// first.
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
	c := direct.New(nc).In(p.Shard)
	if err := c.Start(); err != nil {
		nc.Close()
		return nil, err
	}
	p.read, p.readConn = c, nc
	return c, nil
}

// stopReader closes the connection of reader. Call it when nobody reads any more.
func (p *Publisher) stopReader() {
	p.readMu.Lock()
	defer p.readMu.Unlock()
	if p.read != nil {
		p.read.Stop()
		p.readConn.Close()
	}
}

// beingStored reports whether a message was refused because one with its id is
// being stored, and by which stream.
func beingStored(m *nats.Msg, err error) (stream string, ok bool) {
	var refused *StoreError
	if !errors.As(err, &refused) || refused.ErrCode != storeerr.IDInProcess {
		return "", false
	}
	return streamOf(m), true
}
