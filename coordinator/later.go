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
	"github.com/rccs-io/rccs/internal/pool"
	"github.com/rccs-io/rccs/internal/reader"
	"github.com/rccs-io/rccs/subjects"
)

// What a service publishes for later without a schedule would stay in
// StreamLater for ever. So a coordinator reads that stream, and ends what never
// comes.

const (
	// clockSlack is how much further ahead a stored schedule may lie: clocks
	// differ.
	clockSlack = time.Hour
	// laterWorkers bounds how many such messages are ended at a time.
	laterWorkers = 4
)

// schedules looks after StreamLater.
type schedules struct {
	c      *Coordinator
	reader *reader.Reader
	stream jetstream.Stream
	pool   *pool.Pool
	ctx    context.Context
	cancel context.CancelFunc
	once   sync.Once
}

func newSchedules(c *Coordinator, read *nats.Conn, stream jetstream.Stream) (*schedules, error) {
	s := &schedules{c: c, stream: stream, pool: pool.New(laterWorkers, 0)}
	s.ctx, s.cancel = context.WithCancel(context.Background())
	var err error
	s.reader, err = reader.New(reader.Options{
		Conn: read, Stream: subjects.StreamLater, FromStart: true, Logger: c.log,
		Handle: func(e reader.Entry) { c.contained("schedule", func() { s.onEntry(e) }) },
	})
	return s, err
}

func (s *schedules) stop(ctx context.Context) error {
	err := s.reader.Stop(ctx)
	s.once.Do(s.cancel)
	s.pool.Stop()
	return err
}

// onEntry takes a message from the reader.
func (s *schedules) onEntry(e reader.Entry) {
	if reason := misplaced(&e, s.c.opts.MaxDelay+clockSlack); reason != "" {
		e.Data = nil
		s.pool.Run(func() { s.drop(e, reason) })
	}
}

// misplaced returns why a message never comes to a device, "" when it does.
func misplaced(e *reader.Entry, maxDelay time.Duration) string {
	if from, _ := subjects.DueToInbox(); strings.HasPrefix(e.Subject, strings.TrimSuffix(from, "*.*.*")) {
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
	case envelope.Value(e.Header, headerTarget) != subjects.Due(key, lane):
		return inbox.BadSchedule
	}
	return ""
}

// Headers of a schedule (ADR-51).
const (
	headerSchedule = "Nats-Schedule"
	headerTarget   = "Nats-Schedule-Target"
)

// drop ends a message, and tells services.
func (s *schedules) drop(e reader.Entry, reason string) {
	ctx, cancel := context.WithTimeout(s.ctx, giveWithin)
	defer cancel()
	err := s.c.tellUnreachable(ctx, unreachable(subjects.StreamLater, e.Subject, e.Seq, e.Header, reason))
	if err == nil {
		err = s.c.remove(ctx, s.stream, e.Seq)
	}
	if err != nil && s.ctx.Err() == nil {
		s.c.log.Warn("message that never comes is not dropped yet, trying again", "seq", e.Seq, "err", err)
		time.AfterFunc(retryPause, func() { s.pool.Run(func() { s.drop(e, reason) }) })
	}
}
