package coordinator

import (
	"context"
	"fmt"
	"hash/maphash"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/rccs-io/rccs/internal/envelope"
	"github.com/rccs-io/rccs/internal/epoch"
	"github.com/rccs-io/rccs/internal/inbox"
	"github.com/rccs-io/rccs/internal/layout"
	"github.com/rccs-io/rccs/internal/pool"
	"github.com/rccs-io/rccs/internal/reader"
	"github.com/rccs-io/rccs/subjects"
)

const (
	routeWorkers = 32 // one service has half of them at most
	// routeBytes bounds the bodies that are kept while their messages wait for a
	// worker. Bodies past it are read again.
	routeBytes = 64 << 20
)

// router gives out the messages of the route stream. One worker at a time gives
// out the messages of one user, and those that one sender has sent to the user in
// the order of storage. A message that finds no device stays. Later ones may pass
// it only because they are for other devices. Services take turns, see senders;
// all devices are one sender.
type router struct {
	c       *Coordinator
	log     *slog.Logger
	reader  *reader.Reader
	stream  jetstream.Stream
	keeps   time.Duration // how long the stream keeps a message; 0: for ever
	again   uint64        // a message up to it may have been given out before: it was restored
	pool    *pool.Pool
	ctx     context.Context // of the work; ends when stop has waited long enough
	cancel  context.CancelFunc
	held    atomic.Int64 // bytes of bodies
	seed    maphash.Seed // divides the users into parts
	senders *senders
	sent    senderLog
	saving  sync.WaitGroup
	heard   *nats.Subscription // what is published; set by start
	began   time.Time          // when that began to be heard; set by start

	mu     sync.Mutex
	users  map[string]*queue
	closed bool
	wait   map[string]int64 // bytes that wait, by sender; see admit
}

func newRouter(c *Coordinator, read *nats.Conn, stream jetstream.Stream) (*router, error) {
	r := &router{
		c: c, log: c.log, stream: stream, keeps: stream.CachedInfo().Config.MaxAge, again: epoch.RedeliverUpTo(stream.CachedInfo()),
		pool: pool.New(routeWorkers, 0), users: make(map[string]*queue), wait: make(map[string]int64), seed: maphash.MakeSeed(),
	}
	r.senders = &senders{seed: r.seed, most: maxSenders, late: r.heardLate}
	r.ctx, r.cancel = context.WithCancel(context.Background())
	var err error
	r.reader, err = reader.New(reader.Options{
		Conn: read, Stream: layout.StreamRoute, Shard: c.opts.Shard, FromStart: true, Handle: func(e reader.Entry) { c.contained("route", func() { r.onEntry(e) }) }, Logger: c.log,
	})
	return r, err
}

// start returns when everything stored has been read.
func (r *router) start(ctx context.Context) error {
	var err error
	r.began = time.Now()
	if r.heard, err = r.c.core.Subscribe(r.c.opts.Shard.Subject(layout.PublishedRoutes()), r.onPublish); err == nil {
		err = r.heard.SetPendingLimits(maxSenders, heardBytes)
	}
	if err != nil {
		return fmt.Errorf("coordinator: subscribe: %w", err)
	}
	r.loadSenders(ctx)
	r.saving.Go(r.keepSenders)
	return r.reader.Start(ctx)
}

// stop waits, until ctx ends, for what is being given out.
func (r *router) stop(ctx context.Context) error {
	if r.heard != nil {
		_ = r.heard.Unsubscribe()
	}
	err := r.reader.Stop(ctx)
	r.mu.Lock()
	r.closed = true
	for _, q := range r.users {
		q.timer.Stop()
	}
	r.mu.Unlock()
	defer context.AfterFunc(ctx, r.cancel)()
	r.pool.Stop()
	r.cancel()
	r.saving.Wait()
	r.mu.Lock()
	for _, q := range r.users { // whoever works the shard now counts them
		r.c.metrics.waiting.Sub(float64(len(q.waiting)))
	}
	r.mu.Unlock()
	if r.c.core.IsConnected() {
		r.saveSenders(ctx)
	}
	return err
}

// onEntry handles a message from the reader.
func (r *router) onEntry(e reader.Entry) {
	m, err := newRouted(e, r.keeps)
	if err != nil {
		r.log.Debug("message names no route", "subject", e.Subject, "seq", e.Seq, "err", err)
		r.sent.add(e.Seq, devices) // of nobody, which is as good
		r.c.metrics.routed.WithLabelValues(routedBad).Inc()
		r.pool.Run(func() { r.dropUnreadable(e) })
		return
	}
	m.proof, m.again = r.c.pub.Proof, m.seq <= r.again
	if header := envelope.BadHeader(e.Header); header != "" && !m.acceptedByEdge {
		r.c.tell.BadHeader(&inbox.BadHeader{
			Subject: e.Subject, Seq: e.Seq, At: e.Time, ID: envelope.ID(e.Header), Header: header, User: subjects.Escape(string(m.user)),
		})
	}
	switch {
	case m.acceptedByEdge:
		m.sender = devices
	case time.Since(m.stored) < time.Second:
		m.sender = r.senders.await(m, e.Data)
	default:
		m.sender = r.senders.of(m, e.Data)
	}
	if m.sender == unknown {
		m.sender = r.sent.of(m.seq)
	}
	if m.sender == unknown && m.stored.After(r.began) {
		m.sender = r.senders.expect(m, e.Data)
	}
	if m.sender != unknown {
		r.sent.add(m.seq, m.sender)
	}
	r.hold(m, e.Data)
	r.mu.Lock()
	defer r.mu.Unlock()
	if m.heard != "" {
		m.sender = m.heard
	}
	q := r.queueLocked(m.user)
	m.fresh = true
	q.fresh.add(m)
	r.runLocked(q, m.sender)
}

// heardLate gives a message its sender. It was read before it was heard.
func (r *router) heardLate(m *routed, sender string) {
	defer r.sent.add(m.seq, sender)
	r.mu.Lock()
	defer r.mu.Unlock()
	m.heard = sender
	q := r.users[subjects.Escape(string(m.user))]
	if q != nil && m.fresh && m.sender == unknown {
		q.fresh.heard(m, sender)
		r.runLocked(q, sender)
	}
}

// later has f run by a worker after a while, unless the router has stopped.
func (r *router) later(d time.Duration, f func()) {
	time.AfterFunc(d, func() { r.pool.Run(f) })
}

// hold keeps a message's body, if there is room.
func (r *router) hold(m *routed, body []byte) {
	if r.held.Add(int64(len(body))) > routeBytes {
		r.held.Add(-int64(len(body)))
		return
	}
	m.body, m.kept = body, true
}

// release forgets a message's body.
func (r *router) release(m *routed) {
	if m.kept {
		r.held.Add(-int64(len(m.body)))
		m.body, m.kept = nil, false
	}
}

// counts returns how many messages have not been looked at, and how many users
// have any message here.
func (r *router) counts() (fresh, users int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, q := range r.users {
		fresh += q.fresh.len()
	}
	return fresh, len(r.users)
}
