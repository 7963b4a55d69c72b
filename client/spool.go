package client

import (
	"container/list"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/rccs-io/rccs/wire"
)

// Bounds of what was given to [Client.Enqueue].
const (
	maxSpoolBytes    = 64 << 20
	maxSpoolInFlight = 256 // written and not answered, or about to be
)

// spoolRetry is how long a message waits that the edge could not take now and
// for which it named no time.
const spoolRetry = 2 * time.Second

// ErrOutboxFull is returned by [Client.Enqueue] when the outbox holds
// [Options.OutboxLimit] messages, or all the bytes it may.
var ErrOutboxFull = errors.New("client: the outbox is full")

// Enqueue keeps a message to send it when that is possible, however long it
// takes, and does not wait: it returns when the message is kept, in the file
// of Options.Outbox if there is one. The message is sent until the edge accepts
// it or refuses it for good; Options.OnSent hears which. Messages are sent in
// the order of Enqueue, but for those that the edge could not take at first.
//
// The file is not forced to the disk: it survives the process, not the power.
// A message that was on its way when the process ended is sent again under its
// id; a recipient that uses this package takes it once.
func (c *Client) Enqueue(e wire.Envelope) error {
	if err := asMessage(&e); err != nil {
		return err
	}
	o, err := encode(&e)
	if err != nil {
		return err
	}
	return c.spool.add(o.id, o.frame)
}

// Unsent is how many messages were given to [Client.Enqueue] and not accepted or
// refused yet, those of earlier processes among them.
func (c *Client) Unsent() int {
	s := c.spool
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.all.Len()
}

// spool keeps messages until the edge has accepted them.
type spool struct {
	c *Client // static

	mu       sync.Mutex
	all      *list.List // of *spooled, in the order of Enqueue
	byID     map[string]*list.Element
	next     *list.Element // the first that was not given to the outbox
	bytes    int
	inFlight int      // given to the outbox and not answered
	journal  *journal // nil in memory, and after the end
	started  bool
	closed   bool
}

type spooled struct {
	id    string
	frame []byte
}

// newSpool opens the file, if there is one.
func newSpool(c *Client) (*spool, error) {
	s := &spool{c: c, all: list.New(), byID: make(map[string]*list.Element)}
	if c.opts.Outbox == "" {
		return s, nil
	}
	j, kept, err := openJournal(c.opts.Outbox)
	if err != nil {
		return nil, fmt.Errorf("client: Options.Outbox: %w", err)
	}
	s.journal = j
	for _, m := range kept {
		s.pushLocked(m)
	}
	return s, nil
}

// start begins to send.
func (s *spool) start() {
	s.mu.Lock()
	s.started = true
	s.mu.Unlock()
	s.feed()
}

func (s *spool) add(id string, frame []byte) error {
	if err := s.keep(&spooled{id: id, frame: frame}); err != nil {
		return err
	}
	s.feed()
	return nil
}

func (s *spool) keep(m *spooled) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case s.closed:
		return ErrClosed
	case s.byID[m.id] != nil:
		return fmt.Errorf("client: a message with id %s is queued already", m.id)
	case s.all.Len() >= s.c.opts.OutboxLimit || s.bytes+len(m.frame) > maxSpoolBytes:
		return ErrOutboxFull
	}
	if s.journal != nil {
		if err := s.journal.put(m.frame); err != nil {
			return fmt.Errorf("client: outbox file: %w", err)
		}
	}
	s.pushLocked(m)
	return nil
}

func (s *spool) pushLocked(m *spooled) {
	at := s.all.PushBack(m)
	s.byID[m.id] = at
	s.bytes += len(m.frame)
	if s.next == nil {
		s.next = at
	}
}

// feed gives the outbox what may be in flight.
func (s *spool) feed() {
	for {
		s.mu.Lock()
		if s.next == nil || s.inFlight >= maxSpoolInFlight || s.closed || !s.started {
			s.mu.Unlock()
			return
		}
		m := s.next.Value.(*spooled)
		s.next = s.next.Next()
		s.inFlight++
		// Under the lock, so that two that feed do not swap what they took.
		err := s.c.out.push(s.outgoing(m))
		s.mu.Unlock()
		if err != nil {
			s.done(m, reply{err: err})
		}
	}
}

func (s *spool) outgoing(m *spooled) *outgoing {
	return &outgoing{id: m.id, frame: m.frame, done: func(r reply) { s.done(m, r) }}
}

// done hears the answer to a message.
func (s *spool) done(m *spooled, r reply) {
	told, refused := errors.AsType[*wire.Error](r.err)
	switch {
	case errors.Is(r.err, errBeingSent):
		s.later(m, spoolRetry)
		return
	case r.err != nil && !refused:
		return // the client has ended; the file keeps it
	case refused && told.Code.Retry() != wire.RetryNever && !r.final:
		s.later(m, max(spoolRetry, told.RetryAfter))
		return
	}
	s.forget(m)
	s.feed()
	if s.c.opts.OnSent == nil {
		if refused {
			s.c.opts.Logger.Error("queued message refused", "id", m.id, "err", told)
		}
		return
	}
	var accepted Accepted
	if r.answer != nil {
		accepted = acceptedOf(r.answer)
	}
	s.c.opts.OnSent(m.id, accepted, r.err)
}

// later gives a message to the outbox again.
func (s *spool) later(m *spooled, wait time.Duration) {
	time.AfterFunc(wait, func() {
		if err := s.c.out.push(s.outgoing(m)); err != nil {
			s.done(m, reply{err: err})
		}
	})
}

// forget drops a message.
func (s *spool) forget(m *spooled) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.inFlight--
	s.all.Remove(s.byID[m.id])
	delete(s.byID, m.id)
	s.bytes -= len(m.frame)
	if s.journal == nil {
		return
	}
	err := s.journal.remove(m.id)
	if err == nil && s.journal.wasteful(int64(s.bytes)) {
		err = s.journal.rewrite(s.framesLocked())
	}
	if err != nil {
		s.c.opts.Logger.Error("outbox file: a message that was sent may be sent again after a restart", "id", m.id, "err", err)
	}
}

func (s *spool) framesLocked() [][]byte {
	frames := make([][]byte, 0, s.all.Len())
	for at := s.all.Front(); at != nil; at = at.Next() {
		frames = append(frames, at.Value.(*spooled).frame)
	}
	return frames
}

// close takes no more. What is kept stays in the file.
func (s *spool) close() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	j := s.journal
	s.closed, s.journal = true, nil
	if j == nil {
		return nil
	}
	return j.close()
}
