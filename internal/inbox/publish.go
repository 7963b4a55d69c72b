package inbox

import (
	"cmp"
	"context"
	"fmt"
	"log/slog"
	"strconv"
	"sync"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/rccs-io/rccs/internal/direct"
	"github.com/rccs-io/rccs/internal/proof"
	"github.com/rccs-io/rccs/internal/shard"
)

// Bounds of a publisher. A caller past them waits.
const (
	publishMessages = 16384
	publishBytes    = 64 << 20
	// resendAfter is how long a message may be unacknowledged before it is sent
	// again: a stream that changes its leader loses what was under way. The wait
	// doubles each time, so that a store that is only slow gets little more to
	// do.
	resendAfter = 2 * time.Second
)

// publishTimeout is how long the store may take to answer. Tests on busy machines
// wait longer.
var publishTimeout = 10 * time.Second

// Dial makes a NATS connection with further options.
type Dial func(opts ...nats.Option) (*nats.Conn, error)

// Publisher stores messages in JetStream without waiting for one before it sends
// the next, and keeps their order. nats.go's PublishMsgAsync does the same with a
// future, two channels and a timer a message; this calls a function with the
// answer. It reconnects by itself: after a reconnect by nats.go, new messages
// could overtake those that were lost with the old connection. Here everything
// unacknowledged is sent again, in order, before anything new. That is safe
// because the store drops a repeated Nats-Msg-Id.
type Publisher struct {
	// Proof is the tenant's key. Who reads messages uses it too. Set it before
	// the publisher is used.
	Proof *proof.Key
	// Shard is where the messages of users are stored. Set it before the
	// publisher is used.
	Shard shard.Shard

	dial Dial
	log  *slog.Logger
	base string // the prefix of reply subjects
	lost chan *nats.Conn
	quit chan struct{}
	wg   sync.WaitGroup

	// sendMu orders what is written to the connection; taken before mu.
	sendMu sync.Mutex
	nc     *nats.Conn

	mu      sync.Mutex
	room    sync.Cond
	pending []pendingPublish // pending[i] has number first+i; a part of space
	space   []pendingPublish
	first   uint64
	reply   []byte // the last reply subject
	count   int    // accepted and not acknowledged
	bytes   int
	closed  bool

	readMu   sync.Mutex
	read     *direct.Client // nil until it is needed
	readConn *nats.Conn
}

// pendingPublish is a message, or a batch, that was sent. done is nil once it has
// been acknowledged.
type pendingPublish struct {
	msg   *nats.Msg
	batch []*nats.Msg // instead of msg
	size  int         // of their data
	done  func(Receipt, error)
	at    time.Time
	again uint8 // how often it was sent again on one connection
	twice bool  // it was sent again, on the same connection or another
}

// keptPending is how many entries space may keep while nothing is pending.
const keptPending = 4096

// NewPublisher connects.
func NewPublisher(dial Dial, log *slog.Logger) (*Publisher, error) {
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	p := &Publisher{dial: dial, log: log, lost: make(chan *nats.Conn), quit: make(chan struct{})}
	p.room.L = &p.mu
	nc, err := p.open()
	if err != nil {
		return nil, err
	}
	p.nc = nc
	p.wg.Go(p.watch)
	return p, nil
}

// open connects, reports when the connection is lost, and subscribes to the
// acknowledgements.
func (p *Publisher) open() (*nats.Conn, error) {
	nc, err := p.dial(nats.NoReconnect(), nats.ClosedHandler(func(nc *nats.Conn) {
		select {
		case p.lost <- nc:
		case <-p.quit:
		}
	}))
	if err != nil {
		return nil, fmt.Errorf("inbox: publisher: %w", err)
	}
	if p.base == "" {
		p.base = nc.NewInbox() + "."
	}
	sub, err := nc.Subscribe(p.base+"*", p.receive)
	if err == nil {
		err = sub.SetPendingLimits(-1, -1) // bounded by what is unacknowledged
	}
	if err != nil {
		nc.Close()
		return nil, fmt.Errorf("inbox: publisher: %w", err)
	}
	return nc, nil
}

// Publish sends msg and calls done once, when the store has answered or the
// publish has failed, from another goroutine or from this one. done must not
// block. Publish blocks while too much is unacknowledged. Until done is called,
// msg and its data belong to the publisher; after that too, unless
// [Receipt.Free].
func (p *Publisher) Publish(msg *nats.Msg, done func(Receipt, error)) {
	p.send(pendingPublish{msg: msg, size: len(msg.Data), done: done})
}

// wait publishes msg and waits for the store's answer.
func (p *Publisher) wait(ctx context.Context, msg *nats.Msg) error {
	stored := newAwaited()
	p.Publish(msg, stored.add())
	return stored.wait(ctx)
}

// awaited gathers the answers to several publishes.
type awaited struct{ answers []chan error }

func newAwaited() *awaited { return &awaited{} }

// add returns the done function of one more publish.
func (a *awaited) add() func(Receipt, error) {
	answer := make(chan error, 1)
	a.answers = append(a.answers, answer)
	return func(_ Receipt, err error) { answer <- err }
}

// wait waits for all answers and returns the first error among them.
func (a *awaited) wait(ctx context.Context) error {
	var first error
	for _, answer := range a.answers {
		select {
		case err := <-answer:
			first = cmp.Or(first, err)
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	return first
}

// send sends a message, or a batch, which gets one answer.
func (p *Publisher) send(f pendingPublish) {
	p.lockWithRoom(f.size)
	if p.closed {
		p.mu.Unlock()
		p.sendMu.Unlock()
		f.done(Receipt{}, ErrStopped)
		return
	}
	defer p.sendMu.Unlock()
	last := f.msg
	if f.batch != nil {
		last = f.batch[len(f.batch)-1]
	}
	if !p.Shard.Alone() {
		f.address(p.Shard)
	}
	p.reply = strconv.AppendUint(append(p.reply[:0], p.base...), p.first+uint64(len(p.pending)), 36)
	last.Reply = string(p.reply)
	f.at = time.Now()
	p.count++
	p.bytes += f.size
	p.pushLocked(f)
	p.mu.Unlock()
	// An error here means that the connection is down. The message waits in
	// pending for the next one.
	if err := f.write(p.nc); err != nil {
		p.log.Debug("publish waits for a connection", "subject", last.Subject, "err", err)
	}
}

// address has what is sent stored in a shard.
func (f *pendingPublish) address(s shard.Shard) {
	if f.msg != nil {
		s.Address(f.msg)
	}
	for _, msg := range f.batch {
		s.Address(msg)
	}
}

// pushLocked appends to pending. Acknowledged entries are cut off at its front,
// so now and then the rest is moved to the beginning of space. append would
// allocate anew each time.
func (p *Publisher) pushLocked(f pendingPublish) {
	if len(p.pending) == cap(p.pending) {
		if 2*len(p.pending) >= len(p.space) {
			p.space = make([]pendingPublish, 2*len(p.pending)+64)
		}
		n := copy(p.space, p.pending)
		clear(p.space[n:])
		p.pending = p.space[:n]
	}
	p.pending = append(p.pending, f)
}

// write writes the message, or all of the batch.
func (f *pendingPublish) write(nc *nats.Conn) error {
	if f.batch == nil {
		return nc.PublishMsg(f.msg)
	}
	Seal(f.batch...)
	for _, msg := range f.batch {
		if err := nc.PublishMsg(msg); err != nil {
			return err
		}
	}
	return nil
}

// lockWithRoom takes both locks when there is room for a message, or the publisher
// has stopped.
func (p *Publisher) lockWithRoom(size int) {
	full := func() bool {
		return !p.closed && p.count > 0 && (p.count >= publishMessages || p.bytes+size > publishBytes)
	}
	for {
		p.sendMu.Lock()
		p.mu.Lock()
		if !full() {
			return
		}
		p.sendMu.Unlock() // for who sends again what waits
		for full() {
			p.room.Wait()
		}
		p.mu.Unlock()
	}
}

// Connected reports whether there is a connection now.
func (p *Publisher) Connected() bool {
	p.sendMu.Lock()
	defer p.sendMu.Unlock()
	return p.nc.IsConnected()
}

// Unacknowledged returns how many messages the store has not answered for.
func (p *Publisher) Unacknowledged() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.count
}

// Backlog returns how many messages wait for the store's answer, and for how long
// the oldest has waited.
func (p *Publisher) Backlog() (messages int, oldest time.Duration) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.count == 0 || len(p.pending) == 0 {
		return 0, 0
	}
	return p.count, time.Since(p.pending[0].at) // the first is never an acknowledged one
}

// Stop ends the publisher. What is not acknowledged fails with ErrStopped.
func (p *Publisher) Stop() {
	p.mu.Lock()
	if p.closed {
		p.mu.Unlock()
		return
	}
	p.closed = true
	pending := p.pending
	p.pending, p.space, p.count, p.bytes = nil, nil, 0, 0
	p.room.Broadcast()
	p.mu.Unlock()
	close(p.quit)
	p.wg.Wait()
	p.stopReader()
	p.sendMu.Lock()
	p.nc.Close()
	p.sendMu.Unlock()
	for _, f := range pending {
		if f.done != nil {
			f.done(Receipt{}, ErrStopped)
		}
	}
}

// receive handles the store's answers.
func (p *Publisher) receive(m *nats.Msg) {
	n, err := strconv.ParseUint(m.Subject[len(p.base):], 36, 64)
	if err != nil {
		return
	}
	receipt, err := parseAck(m)
	f := p.take(n)
	if f.done == nil {
		return
	}
	if stream, ok := beingStored(m, err); ok {
		p.lookFor(&f, stream, err)
		return
	}
	receipt.Free = !f.twice
	f.done(receipt, err)
}

// take removes a pendingPublish and returns it. done is nil if it was removed
// before.
func (p *Publisher) take(n uint64) (taken pendingPublish) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if n < p.first || n >= p.first+uint64(len(p.pending)) {
		return taken
	}
	f := &p.pending[n-p.first]
	if f.done == nil {
		return taken
	}
	p.count--
	p.bytes -= f.size
	taken, *f = *f, pendingPublish{}
	landed := 0
	for landed < len(p.pending) && p.pending[landed].done == nil {
		landed++
	}
	p.pending = p.pending[landed:]
	p.first += uint64(landed)
	if len(p.pending) == 0 && len(p.space) > keptPending {
		p.pending, p.space = nil, nil
	}
	p.room.Broadcast()
	return taken
}
