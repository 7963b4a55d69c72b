package coordinator

import (
	"container/heap"
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/rccs-io/rccs/internal/inbox"
	"github.com/rccs-io/rccs/internal/layout"
	"github.com/rccs-io/rccs/internal/pool"
	"github.com/rccs-io/rccs/internal/reader"
	"github.com/rccs-io/rccs/internal/wake"
	"github.com/rccs-io/rccs/subjects"
)

const (
	deadlineWorkers = 8
	// deadlineGrace is how long after a deadline it is checked. By then the
	// device's cursor is up to date.
	deadlineGrace = time.Second
	// deadlineAgain is when a deadline is checked again that could not be
	// decided: the device has the message and may acknowledge it, or the store
	// did not answer.
	deadlineAgain = 5 * time.Second
	// checkTimeout bounds one check.
	checkTimeout = 15 * time.Second
	// deadlineBatch bounds the deadlines that are due and handed to the workers,
	// where devices take turns.
	deadlineBatch = 65_536
)

// deadlines tells senders when their messages have expired. Every stored deadline
// is in memory as well, some 200 bytes each. Only messages that end at a known
// time and whose senders want acknowledgements have one.
type deadlines struct {
	c      *Coordinator
	log    *slog.Logger
	reader *reader.Reader
	stream jetstream.Stream
	expire *inbox.Expirer
	pool   *pool.Pool
	kick   wake.Signal // an earlier deadline has come
	ctx    context.Context
	cancel context.CancelFunc
	wg     sync.WaitGroup

	mu   sync.Mutex
	due  dueHeap
	open int // handed to the workers
}

// deadline is one entry.
type deadline struct {
	seq  uint64 // in the stream of deadlines
	key  subjects.Key
	look time.Time
	inbox.Deadline
}

func newDeadlines(c *Coordinator, read *nats.Conn, stream jetstream.Stream) (*deadlines, error) {
	d := &deadlines{
		c: c, log: c.log, stream: stream, expire: inbox.NewExpirer(c.direct, stream.CachedInfo().Config.Replicas, c.pub),
		pool: pool.New(deadlineWorkers, 0), kick: wake.New(),
	}
	d.ctx, d.cancel = context.WithCancel(context.Background())
	var err error
	d.reader, err = reader.New(reader.Options{
		Conn: read, Stream: layout.StreamDeadline, Shard: c.opts.Shard, FromStart: true, Handle: func(e reader.Entry) { c.contained("deadline", func() { d.onEntry(e) }) }, Logger: c.log,
	})
	return d, err
}

func (d *deadlines) start(ctx context.Context) error {
	if err := d.reader.Start(ctx); err != nil {
		return err
	}
	d.wg.Go(d.run)
	return nil
}

// stop gives up the checks that are under way: their entries are in the stream,
// and are checked after the next start.
func (d *deadlines) stop(ctx context.Context) error {
	err := d.reader.Stop(ctx)
	d.cancel()
	d.wg.Wait()
	d.pool.Stop()
	return err
}

// onEntry handles an entry from the reader.
func (d *deadlines) onEntry(e reader.Entry) {
	one := &deadline{seq: e.Seq}
	var ok bool
	if one.key, ok = layout.ParseDeadline(e.Subject); !ok {
		return // not below the stream's subjects
	}
	if err := json.Unmarshal(e.Data, &one.Deadline); err != nil {
		d.log.Warn("unreadable deadline dropped", "seq", e.Seq, "err", err)
		one.Deadline = inbox.Deadline{} // checked at once, and removed
	}
	one.look = one.At.Add(deadlineGrace)
	d.push(one)
}

func (d *deadlines) push(one *deadline) {
	d.mu.Lock()
	heap.Push(&d.due, one)
	first := d.due[0] == one
	d.mu.Unlock()
	if first {
		d.kick.Set()
	}
}

// run hands due deadlines to the workers.
func (d *deadlines) run() {
	timer := time.NewTimer(time.Hour)
	defer timer.Stop()
	for {
		timer.Reset(d.dispatch(time.Now()))
		select {
		case <-d.ctx.Done():
			return
		case <-d.kick:
		case <-timer.C:
		}
	}
}

// dispatch hands out what is due at now, and returns how long until more is.
func (d *deadlines) dispatch(now time.Time) time.Duration {
	d.mu.Lock()
	defer d.mu.Unlock()
	for len(d.due) > 0 && d.open < deadlineBatch {
		if left := d.due[0].look.Sub(now); left > 0 {
			return left
		}
		one := heap.Pop(&d.due).(*deadline)
		d.open++
		d.pool.RunInTurn(string(one.key), func() { d.look(one) })
	}
	return time.Hour // or until kicked
}

func (d *deadlines) look(one *deadline) {
	err := errPanicked
	var again bool
	d.c.contained("deadline", func() { again, err = d.decide(one) })
	if err != nil && d.ctx.Err() == nil {
		d.log.Warn("deadline not decided, trying again", "device", string(one.key), "seq", one.Seq, "err", err)
	}
	d.mu.Lock()
	d.open--
	d.mu.Unlock()
	if err != nil || again {
		one.look = time.Now().Add(deadlineAgain)
		d.push(one)
	}
	d.kick.Set() // there is room for another
}

// decide tells the sender if the message has expired, and removes the entry.
// again: it could not be decided yet.
func (d *deadlines) decide(one *deadline) (again bool, err error) {
	ctx, cancel := context.WithTimeout(d.ctx, checkTimeout)
	defer cancel()
	if one.Seq > 0 {
		// Another coordinator may have decided it.
		if _, there, err := d.c.stored(ctx, layout.StreamDeadline, one.seq); err != nil || !there {
			return false, err
		}
		fate, err := d.expire.Expire(ctx, one.key, &one.Deadline, d.c.roster.Online(one.key))
		switch {
		case err != nil:
			return true, fmt.Errorf("coordinator: deadline: %w", err)
		case fate == inbox.InFlight:
			return true, nil
		}
		d.c.metrics.deadlines.Inc()
	}
	return false, d.c.remove(ctx, d.stream, one.seq)
}

// count returns how many deadlines are still open.
func (d *deadlines) count() int {
	d.mu.Lock()
	defer d.mu.Unlock()
	return len(d.due) + d.open
}

// dueHeap is ordered by when to check.
type dueHeap []*deadline

func (h dueHeap) Len() int           { return len(h) }
func (h dueHeap) Less(i, j int) bool { return h[i].look.Before(h[j].look) }
func (h dueHeap) Swap(i, j int)      { h[i], h[j] = h[j], h[i] }
func (h *dueHeap) Push(x any)        { *h = append(*h, x.(*deadline)) }
func (h *dueHeap) Pop() any {
	old := *h
	last := old[len(old)-1]
	old[len(old)-1] = nil
	*h = old[:len(old)-1]
	return last
}
