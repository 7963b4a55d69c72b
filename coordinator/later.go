package coordinator

import (
	"context"
	"strings"
	"sync"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/rccs-io/rccs/internal/envelope"
	"github.com/rccs-io/rccs/internal/inbox"
	"github.com/rccs-io/rccs/internal/layout"
	"github.com/rccs-io/rccs/internal/pool"
	"github.com/rccs-io/rccs/internal/reader"
	"github.com/rccs-io/rccs/internal/shard"
	"github.com/rccs-io/rccs/internal/wake"
	"github.com/rccs-io/rccs/subjects"
)

// A message that a service publishes for later without a schedule would stay in
// StreamLater for ever. So a coordinator reads that stream, and ends messages
// that would never be delivered.

const (
	// clockSlack is how much beyond MaxDelay a stored schedule may lie, because
	// clocks differ.
	clockSlack = time.Hour
	// laterWorkers bounds how many such messages are ended at a time.
	laterWorkers = 4
)

// schedules watches StreamLater.
type schedules struct {
	c      *Coordinator
	reader *reader.Reader
	stream jetstream.Stream
	pool   *pool.Pool
	ctx    context.Context
	cancel context.CancelFunc
	once   sync.Once

	read    *nats.Conn
	recheck wake.Signal // the waiting messages are to be read again
	wg      sync.WaitGroup
}

func newSchedules(c *Coordinator, read *nats.Conn, stream jetstream.Stream) (*schedules, error) {
	s := &schedules{c: c, stream: stream, pool: pool.New(laterWorkers, 0), read: read, recheck: wake.New()}
	s.ctx, s.cancel = context.WithCancel(context.Background()) //nolint:gosec // stop calls it
	var err error
	s.reader, err = reader.New(reader.Options{
		Conn: read, Stream: subjects.StreamLater, Shard: c.opts.Shard, FromStart: true, Logger: c.log,
		Handle: func(e reader.Entry) { c.contained("schedule", func() { s.onEntry(e) }) },
	})
	return s, err
}

func (s *schedules) start(ctx context.Context) error {
	s.wg.Go(s.run)
	return s.reader.Start(ctx)
}

func (s *schedules) stop(ctx context.Context) error {
	err := s.reader.Stop(ctx)
	s.once.Do(s.cancel)
	s.wg.Wait()
	s.pool.Stop()
	return err
}

// onEntry handles a message from the reader.
func (s *schedules) onEntry(e reader.Entry) {
	if w, cancelled := inbox.CancelledBy(s.c.pub.Proof, &e); cancelled {
		time.AfterFunc(time.Until(time.Unix(0, e.Time).Add(inbox.CancelSettles)), func() {
			s.pool.Run(func() { s.settle(w, e.Seq) })
		})
		return
	}
	if told, displaced := inbox.DisplacedBy(s.c.pub.Proof, &e); displaced {
		s.pool.Run(func() { s.tellDisplaced(told, e.Seq) })
		return
	}
	reason := misplaced(&e, s.c.opts.MaxDelay+clockSlack)
	if by, issued, ok := layout.ParseIssuedTo(envelope.Value(e.Header, layout.HeaderIssuedTo)); ok && reason == "" && s.c.opts.Revoked(by, issued) {
		reason = inbox.BadSchedule // nobody stands by it any more
	}
	if reason != "" {
		e.Data = nil
		s.pool.Run(func() { s.drop(e, reason) })
	}
}

// run reads all waiting messages again when services may have been revoked:
// messages that those have delayed are not delivered.
func (s *schedules) run() {
	for {
		select {
		case <-s.ctx.Done():
			return
		case <-s.recheck:
		}
		if err := s.look(); err != nil && s.ctx.Err() == nil {
			s.c.log.Warn("delayed messages of revoked services are not ended yet, trying again", "err", err)
			time.AfterFunc(retryPause, s.recheck.Set)
		}
	}
}

func (s *schedules) look() error {
	r, err := reader.New(reader.Options{
		Conn: s.read, Stream: subjects.StreamLater, Shard: s.c.opts.Shard, FromStart: true, HeadersOnly: true, Logger: s.c.log,
		Handle: func(e reader.Entry) { s.c.contained("schedule", func() { s.onEntry(e) }) },
	})
	if err != nil {
		return err
	}
	if err := r.Start(s.ctx); err != nil {
		return err
	}
	return r.Stop(context.WithoutCancel(s.ctx))
}

// misplaced returns why a message is never delivered to a device; "" if it will
// be.
func misplaced(e *reader.Entry, maxDelay time.Duration) string {
	if from, _ := layout.DueToInbox(); strings.HasPrefix(e.Subject, strings.TrimSuffix(from, "*.*.*")) {
		return "" // it was due, and is taken into the inbox stream
	}
	key, lane, ok := subjects.ParseLater(e.Subject)
	if _, err := key.Address(); !ok || err != nil {
		return inbox.BadSubject
	}
	at, found := strings.CutPrefix(envelope.Value(e.Header, headerSchedule), "@at ")
	due, err := time.Parse(time.RFC3339Nano, at)
	switch {
	case !found, err != nil, due.After(time.Unix(0, e.Time).Add(maxDelay)):
		return inbox.BadSchedule
	case envelope.Value(e.Header, headerTarget) != layout.Due(key, lane):
		return inbox.BadSchedule
	}
	return ""
}

// Headers of a schedule (ADR-51).
const (
	headerSchedule = "Nats-Schedule"
	headerTarget   = "Nats-Schedule-Target"
)

// waitsOn is for the guard, see [guard.Options].
func (c *Coordinator) waitsOn(ctx context.Context, subject string) (seq uint64, note *nats.Msg, err error) {
	key, _, _ := subjects.ParseLater(subject)
	all := c.all()
	c = all[shard.Of(key.User(), len(all))]
	m, err := c.direct.AtLeader(ctx, subjects.StreamLater, subject, 1)
	if err != nil || m == nil {
		return 0, nil, err
	}
	e := (*reader.Entry)(m)
	if was, cancelled := inbox.CancelledBy(c.pub.Proof, e); cancelled {
		if came, err := was.CameDue(ctx, c.direct); err != nil || came {
			return m.Seq, nil, err
		}
	}
	return m.Seq, inbox.Displaced(c.pub.Proof, e), nil
}

// purgeLater is for the guard, see [guard.Options].
func (c *Coordinator) purgeLater(ctx context.Context, filter string, seq, keep uint64) (uint64, error) {
	all := c.all()
	return all[shard.Of(layout.UserOfLater(filter), len(all))].ops.PurgeLater(ctx, filter, seq, keep)
}

// drop ends a message, and tells services why.
func (s *schedules) drop(e reader.Entry, reason string) {
	s.end(e.Seq, func(ctx context.Context) error {
		return s.c.tellUnreachable(ctx, inbox.NewUnreachable(subjects.StreamLater, e.Subject, e.Seq, e.Header, reason))
	})
}

// settle ends the mark of a cancelled message if it is still there, and tells the
// sender unless the message has come due.
func (s *schedules) settle(w *inbox.Waiting, mark uint64) {
	s.end(mark, func(ctx context.Context) error {
		if _, found, err := s.c.stored(ctx, subjects.StreamLater, mark); err != nil || !found {
			return err
		}
		came, err := w.CameDue(ctx, s.c.direct)
		msg := w.Purged(s.c.pub.Proof)
		if err != nil || came || msg == nil {
			return err
		}
		_, err = s.c.store(ctx, msg)
		return err
	})
}

// tellDisplaced ends the note of a message that another one has replaced.
func (s *schedules) tellDisplaced(msg *nats.Msg, note uint64) {
	s.end(note, func(ctx context.Context) error {
		if msg == nil {
			return nil
		}
		_, err := s.c.store(ctx, msg)
		return err
	})
}

// end removes what is never delivered once tell has told of it, and tries again
// until both are done.
func (s *schedules) end(seq uint64, tell func(context.Context) error) {
	ctx, cancel := context.WithTimeout(s.ctx, routeTimeout)
	defer cancel()
	err := tell(ctx)
	if err == nil {
		err = s.c.remove(ctx, s.stream, seq)
	}
	if err != nil && s.ctx.Err() == nil {
		s.c.log.Warn("message that never comes is not dropped yet, trying again", "seq", seq, "err", err)
		time.AfterFunc(retryPause, func() { s.pool.Run(func() { s.end(seq, tell) }) })
	}
}
