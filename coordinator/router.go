package coordinator

import (
	"context"
	"fmt"
	"hash/maphash"
	"log/slog"
	"slices"
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
	"github.com/rccs-io/rccs/internal/roster"
	"github.com/rccs-io/rccs/internal/send"
	"github.com/rccs-io/rccs/subjects"
)

// Bounds and patience of the router.
const (
	routeWorkers = 32 // one service has half of them at most
	// routeBytes bounds the bodies that are kept while their messages wait for a
	// worker. Bodies past it are read again.
	routeBytes = 64 << 20
	// passMost is how many messages of a user are done before other users have
	// their turn.
	passMost = 256
	// passFresh is how many fresh messages of a user are taken at once, and how many
	// of those that wait are done before a sender that has come meanwhile has its
	// turn.
	passFresh = 16
	// recheck is how old our knowledge of a message may be. An older one is
	// looked up before it is given out: another coordinator may have given it out
	// so long ago that the inbox stream no longer knows its id. It is half the
	// dedup window.
	recheck = time.Minute
	// noDevicePatience is how old a message must be before the router believes
	// that there is no device for it. A device that registered just before the
	// message was sent may not be known here yet.
	noDevicePatience = 2 * time.Second
	// noDevicePause is how often the router looks for one until then.
	noDevicePause = 50 * time.Millisecond
	// retryPause is how long after a failure a user's messages are tried again.
	retryPause = time.Second
	// unknownPause is how often the router looks for the record of a device that
	// came online, which is read from another bucket.
	unknownPause = 20 * time.Millisecond
	// unknownPatience is for how long it does so.
	unknownPatience = 5 * time.Second
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

// queue has the messages for one user that are stored and not given out yet.
type queue struct {
	user subjects.UserID
	key  subjects.Key // any of the user, for the roster

	// Guarded by router.mu.
	fresh   lines
	again   bool            // look at waiting messages, too
	queued  map[string]bool // the senders in whose turns a worker will come
	running bool            // a worker is there
	timer   *time.Timer
	came    map[subjects.Key]time.Time // came online, and may not be in the roster yet
	adopted map[string]send.Task       // tasks for which another coordinator has not made the second step

	// Of the worker.
	waiting []*routed
	seen    []sighting // the devices when waiting messages were looked at last
	moves   map[string]*move
	looked  map[string]send.Task // entries of tasks that were read in this pass
	next    time.Time            // when to look again; zero: when something happens
}

// sighting is what decides whether a message that waited has to wait on.
type sighting struct {
	id     subjects.DeviceID
	online bool
	record *roster.Record
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
	if r.heard, err = r.c.core.Subscribe(r.c.opts.Shard.Subject(layout.PublishedRoutes()), r.hear); err == nil {
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
	if header := envelope.BadHeader(e.Header); header != "" && !m.promised {
		r.c.tell.BadHeader(&inbox.BadHeader{
			Subject: e.Subject, Seq: e.Seq, At: e.Time, ID: envelope.ID(e.Header), Header: header, User: subjects.Escape(string(m.user)),
		})
	}
	switch {
	case m.promised:
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

func (r *router) queueLocked(user subjects.UserID) *queue {
	token := subjects.Escape(string(user))
	q := r.users[token]
	if q == nil {
		q = &queue{user: user, key: subjects.Address{User: user, Device: "-"}.Key(), moves: make(map[string]*move), queued: make(map[string]bool)}
		q.timer = time.AfterFunc(time.Hour, func() { r.wake(token) })
		q.timer.Stop()
		r.users[token] = q
	}
	return q
}

// runLocked has a worker come to a queue in the turn of a sender. If one is
// there, that one sees to it.
func (r *router) runLocked(q *queue, sender string) {
	if !q.running && !r.closed && !q.queued[sender] {
		if r.pool.RunInTurn(sender, func() { r.work(q, sender) }) {
			q.queued[sender] = true
		}
	}
}

// wake has a user's waiting messages looked at.
func (r *router) wake(token string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if q := r.users[token]; q != nil {
		q.again = true
		r.runLocked(q, "")
	}
}

// changed is the roster's callback for a change of a device.
func (r *router) changed(c roster.Change) {
	if !c.Came {
		return
	}
	_, known := r.c.roster.Device(c.Key)
	r.mu.Lock()
	defer r.mu.Unlock()
	q := r.users[c.Key.User()]
	if q == nil {
		a, err := c.Key.Address()
		if known || err != nil {
			return // nothing waits
		}
		// A message that comes before the record would wait, and nobody would
		// look at it again.
		q = r.queueLocked(a.User)
	}
	if q.came == nil {
		q.came = make(map[subjects.Key]time.Time)
	}
	q.came[c.Key] = time.Now()
	q.again = true
	r.runLocked(q, "")
}

// review has waiting messages looked at, those of one part of the users. parts is
// how many parts there are.
func (r *router) review(part, parts uint64) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for token, q := range r.users {
		if maphash.String(r.seed, token)%parts == part%parts {
			q.again = true
			r.runLocked(q, "")
		}
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

// work gives out some of a user's messages, and then lets other users and other
// senders have their turn.
func (r *router) work(q *queue, sender string) {
	r.mu.Lock()
	delete(q.queued, sender)
	if q.running { // one that came in another's turn
		r.mu.Unlock()
		return
	}
	if r.closed || len(q.fresh) == 0 && !q.again {
		r.restLocked(q)
		r.mu.Unlock()
		return
	}
	q.running = true
	fresh, again := q.fresh.take(passFresh), q.again
	q.again = false
	for _, m := range fresh {
		m.fresh = false
	}
	for _, m := range q.waiting {
		if m.sender == unknown {
			m.sender = m.heard
		}
	}
	r.mu.Unlock()
	r.pass(q, fresh, again)
	r.mu.Lock()
	defer r.mu.Unlock()
	q.running = false
	for _, l := range q.fresh {
		r.runLocked(q, l.sender)
	}
	r.runLocked(q, sender) // also to come to rest
}

// restLocked sets the timer of an idle queue, or drops the queue.
func (r *router) restLocked(q *queue) {
	q.timer.Stop()
	if len(q.queued) > 0 {
		return // a worker will come
	}
	if len(q.waiting) == 0 && len(q.moves) == 0 && len(q.came) == 0 {
		delete(r.users, q.key.User())
		return
	}
	if !q.next.IsZero() && !r.closed {
		q.timer.Reset(max(time.Until(q.next), time.Millisecond))
	}
}

// soon has the queue looked at again at a time, or earlier.
func (q *queue) soon(at time.Time) {
	if q.next.IsZero() || at.Before(q.next) {
		q.next = at
	}
}

// pass tries to give out fresh messages. If the user's devices have changed or
// again is set, it also tries those that wait. All of them meet the same devices,
// so that of two messages for the same device the earlier one goes first.
func (r *router) pass(q *queue, fresh []*routed, again bool) {
	q.next = time.Time{}
	r.takeAdopted(q)
	devices := r.c.roster.User(q.key)
	r.greet(q, devices)
	before := len(q.waiting)
	todo, still := q.take(fresh, again || q.news(devices))
	todo, senders := inTurns(todo)
	behind := make(map[string]bool) // senders of which a message is held
	last := lastOf(todo, senders)
	done := 0
	var full []*routed // for which there is no room to wait
	for i, m := range todo {
		if behind[m.sender] || senders == 1 && len(behind) > 0 {
			still = append(still, m)
			continue
		}
		v, err := held, errPanicked
		r.c.contained("route", func() { v, err = r.give(q, m, devices) })
		if err != nil {
			if r.ctx.Err() == nil {
				r.log.Warn("routing interrupted, trying again", "user", q.user, "seq", m.seq, "err", err)
			}
			// Later messages keep their place, and have not been looked at.
			q.soon(time.Now().Add(retryPause))
			still = append(still, todo[i:]...)
			q.seen = nil
			break
		}
		if v == held {
			behind[m.sender] = true
			still = append(still, m)
			q.seen = nil
			continue
		}
		r.release(m)
		if v == waits {
			if r.admit(m) {
				q.await(m)
				still = append(still, m)
			} else {
				full = append(full, m)
			}
			continue
		}
		r.left(m)
		if done++; i+1 < len(todo) && (done == passMost || done >= passFresh && r.newcomer(q, last, i)) {
			q.soon(time.Now())
			still = append(still, todo[i+1:]...)
			q.seen = nil
			break
		}
	}
	if left := r.endFull(full); len(left) > 0 {
		q.soon(time.Now().Add(retryPause))
		still, q.seen = append(still, left...), nil
	}
	q.waiting = still
	r.c.metrics.waiting.Add(float64(len(still) - before))
	r.finishMoves(q)
}

// lastOf returns the index of the last message of each sender.
func lastOf(todo []*routed, senders int) map[string]int {
	last := make(map[string]int, senders)
	for i, m := range todo {
		last[m.sender] = i
	}
	return last
}

// take empties the queue. It returns the messages to look at, which are fresh and,
// if all is set, those that waited; and the messages that go on waiting.
func (q *queue) take(fresh []*routed, all bool) (todo, still []*routed) {
	waiting := q.waiting
	q.waiting, q.looked = nil, make(map[string]send.Task)
	if all {
		return append(waiting, fresh...), nil
	}
	for _, m := range waiting {
		q.await(m)
	}
	return fresh, waiting
}

// newcomer reports whether a sender has fresh messages and none among those of the
// pass that come behind the index at.
func (r *router) newcomer(q *queue, last map[string]int, at int) bool {
	if _, ok := last[unknown]; ok {
		return false // there are no turns
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.ContainsFunc(q.fresh, func(l *line) bool {
		n, ok := last[l.sender]
		return !ok || n <= at
	})
}

// news reports whether the devices differ from those at the last pass.
func (q *queue) news(devices []roster.Device) bool {
	same := len(devices) == len(q.seen) && q.seen != nil
	for i := range devices {
		d := &devices[i]
		same = same && q.seen[i] == sighting{d.ID, d.Online, d.Record}
	}
	if same {
		return false
	}
	q.seen = make([]sighting, len(devices))
	for i := range devices {
		q.seen[i] = sighting{devices[i].ID, devices[i].Online, devices[i].Record}
	}
	return true
}

// greet looks whether devices that came online are known by now.
func (r *router) greet(q *queue, devices []roster.Device) {
	known := make(map[subjects.Key]bool, len(devices))
	for i := range devices {
		known[devices[i].Key] = true
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	for key, at := range q.came {
		if known[key] || time.Since(at) > unknownPatience {
			delete(q.came, key)
			continue
		}
		q.soon(time.Now().Add(unknownPause))
	}
}
