package api

import (
	"context"
	"errors"
	"math"
	"sync"
	"sync/atomic"
	"time"

	"github.com/rccs-io/rccs/internal/ops"
	"github.com/rccs-io/rccs/internal/wake"
	"github.com/rccs-io/rccs/subjects"
)

// Counters are what the process has counted since it started.
type Counters struct {
	Connections                    int
	Received, Delivered, Acked     float64
	StoredToWritten, StoredToAcked Histogram
}

// Histogram is how long something took, in buckets.
type Histogram struct {
	// Bounds are the upper ones in seconds; Counts how many lie at or below
	// each, cumulative.
	Bounds []float64
	Counts []uint64
}

// quantile is one of what came since before, in milliseconds; nil when nothing
// did.
func (h Histogram) quantile(before Histogram, q float64) *float64 {
	n := len(h.Counts)
	if n == 0 {
		return nil
	}
	was := func(i int) uint64 {
		if i < len(before.Counts) {
			return before.Counts[i]
		}
		return 0
	}
	all := h.Counts[n-1] - was(n-1)
	if all == 0 {
		return nil
	}
	rank := q * float64(all)
	lower, below := 0.0, 0.0
	for i := range n {
		at := float64(h.Counts[i] - was(i))
		if at >= rank && at > below {
			upper := h.Bounds[i]
			if math.IsInf(upper, 1) {
				upper = lower
			}
			ms := (lower + (upper-lower)*(rank-below)/(at-below)) * 1000
			return &ms
		}
		lower, below = h.Bounds[i], at
	}
	ms := lower * 1000
	return &ms
}

// Percentiles are of one second; null when nothing came in it.
type Percentiles struct {
	P50 *float64 `json:"p50"`
	P99 *float64 `json:"p99"`
}

// Stats is one second of the installation.
type Stats struct {
	At                    time.Time   `json:"at"`
	Connections           int         `json:"connections"`
	DevicesOnline         int         `json:"devicesOnline"`
	ReceivedPerSecond     float64     `json:"receivedPerSecond"`
	DeliveredPerSecond    float64     `json:"deliveredPerSecond"`
	AcknowledgedPerSecond float64     `json:"acknowledgedPerSecond"`
	StoredToWrittenMs     Percentiles `json:"storedToWrittenMs"`
	StoredToAckedMs       Percentiles `json:"storedToAckedMs"`
	Unacknowledged        uint64      `json:"unacknowledged"`
	StoredBytes           uint64      `json:"storedBytes"`
	StorageLimit          int64       `json:"storageLimit"`
}

const (
	// statsKept is how many seconds are remembered.
	statsKept = 3600
	// roomEvery is how often the store is asked how much it holds, in seconds;
	// roomIdle the same while nobody looks.
	roomEvery = 10
	roomIdle  = 60
	// liveBuffer is how many messages may wait for a slow console.
	liveBuffer = 1024
)

// live takes the statistics of the default tenant, and of each other one that
// somebody has looked at, from then on.
type live struct {
	a  *API
	wg sync.WaitGroup

	mu       sync.Mutex
	samplers map[string]*sampler
}

func newLive(a *API) *live { return &live{a: a, samplers: make(map[string]*sampler)} }

func (l *live) wait() { l.wg.Wait() }

// of is the sampler of a tenant, which it starts.
func (l *live) of(tenant string) *sampler {
	l.mu.Lock()
	defer l.mu.Unlock()
	s := l.samplers[tenant]
	if s == nil {
		s = &sampler{a: l.a, tenant: tenant, unasked: roomIdle, news: make(chan struct{})}
		l.samplers[tenant] = s
		if l.a.ctx.Err() == nil {
			l.wg.Go(s.run)
		}
	}
	return s
}

// sampler takes the statistics of one tenant.
type sampler struct {
	a      *API
	tenant string

	before  Counters // of run
	taken   time.Time
	unasked int // seconds since the store was asked

	watched atomic.Int64 // by so many

	mu     sync.Mutex
	kept   []Stats
	news   chan struct{} // closed and replaced with each
	stored uint64        // bytes; of the last time that the store was asked
	limit  int64
}

func (s *sampler) run() {
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	for {
		s.sample()
		select {
		case <-tick.C:
		case <-s.a.ctx.Done():
			return
		}
	}
}

func (s *sampler) sample() {
	t, ok := s.a.opts.Tenant(s.tenant)
	if !ok {
		return
	}
	if s.unasked++; s.unasked > roomIdle || s.unasked > roomEvery && s.watched.Load() > 0 {
		s.unasked = 0
		s.ask(t)
	}
	now := time.Now()
	stat := Stats{At: now.UTC()}
	if s.a.opts.Stats != nil {
		c := s.a.opts.Stats()
		if took := now.Sub(s.taken).Seconds(); !s.taken.IsZero() && took > 0 {
			stat.ReceivedPerSecond = (c.Received - s.before.Received) / took
			stat.DeliveredPerSecond = (c.Delivered - s.before.Delivered) / took
			stat.AcknowledgedPerSecond = (c.Acked - s.before.Acked) / took
			stat.StoredToWrittenMs = percentiles(c.StoredToWritten, s.before.StoredToWritten)
			stat.StoredToAckedMs = percentiles(c.StoredToAcked, s.before.StoredToAcked)
		}
		stat.Connections, s.before = c.Connections, c
	}
	s.taken = now
	stat.DevicesOnline = t.Directory().Online()
	if s.a.opts.Unacknowledged != nil {
		stat.Unacknowledged = s.a.opts.Unacknowledged(s.tenant)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	stat.StoredBytes, stat.StorageLimit = s.stored, s.limit
	if s.kept = append(s.kept, stat); len(s.kept) > statsKept {
		s.kept = append(s.kept[:0], s.kept[len(s.kept)-statsKept:]...)
	}
	close(s.news)
	s.news = make(chan struct{})
}

func percentiles(now, before Histogram) Percentiles {
	return Percentiles{P50: now.quantile(before, 0.5), P99: now.quantile(before, 0.99)}
}

// ask asks the store in the background; what it last said stays while it does
// not answer.
func (s *sampler) ask(t *Tenant) {
	s.a.live.wg.Go(func() {
		ctx, cancel := context.WithTimeout(s.a.ctx, roomEvery*time.Second)
		defer cancel()
		stored, limit, err := t.Ops.Room(ctx)
		if err != nil {
			return
		}
		s.mu.Lock()
		defer s.mu.Unlock()
		s.stored, s.limit = stored, limit
	})
}

// history is what is kept, and what is closed when there is more.
func (s *sampler) history() ([]Stats, chan struct{}) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return append([]Stats{}, s.kept...), s.news
}

// last is the newest, and what is closed when there is a newer one.
func (s *sampler) last() (*Stats, chan struct{}) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.kept) == 0 {
		return nil, s.news
	}
	stat := s.kept[len(s.kept)-1]
	return &stat, s.news
}

// follow writes statistics, and with a scope what flows, until ctx ends.
func (l *live) follow(ctx context.Context, t *Tenant, f *flushed, history bool, scope *subjects.Scope, payload bool) error {
	s := l.of(t.Name)
	s.watched.Add(1)
	defer s.watched.Add(-1)
	if history {
		kept, _ := s.history()
		if err := f.json("history", "", kept); err != nil {
			return err
		}
	}
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	var tails sync.WaitGroup
	defer tails.Wait()
	defer cancel(nil)
	if scope != nil {
		tails.Go(func() { cancel(l.tail(ctx, t, f, *scope, payload)) })
	}
	for {
		stat, news := s.last()
		if stat != nil {
			if err := f.json("stats", "", stat); err != nil {
				return err
			}
		}
		select {
		case <-news:
		case <-ctx.Done():
			if err := context.Cause(ctx); !errors.Is(err, context.Canceled) {
				return err
			}
			return nil
		}
	}
}

// missedFlows are messages that a slow console did not get.
type missedFlows struct {
	From  uint64 `json:"from"`
	To    uint64 `json:"to"`
	Count uint64 `json:"count"`
}

// tail writes what flows. What comes while the client is slow and liveBuffer
// wait is dropped, and told as a gap.
func (l *live) tail(ctx context.Context, t *Tenant, f *flushed, scope subjects.Scope, payload bool) error {
	q := &flowQueue{more: wake.New()}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	var reading sync.WaitGroup
	defer reading.Wait()
	defer cancel()
	failed := make(chan error, 1)
	reading.Go(func() {
		failed <- t.Ops.Tail(ctx, ops.TailOptions{Scope: scope, Payload: payload, Each: func(flow *ops.Flow) error { q.put(flow); return nil }})
	})
	for {
		flows, gap := q.take()
		for _, flow := range flows {
			if err := f.json("message", "", flow); err != nil {
				return err
			}
		}
		if gap.Count > 0 {
			if err := f.json("gap", "", gap); err != nil {
				return err
			}
		}
		select {
		case <-q.more:
		case err := <-failed:
			return err
		}
	}
}

// flowQueue is what waits to be written to one console.
type flowQueue struct {
	more wake.Signal

	mu    sync.Mutex
	flows []*ops.Flow
	gap   missedFlows
}

func (q *flowQueue) put(f *ops.Flow) {
	q.mu.Lock()
	if len(q.flows) < liveBuffer && q.gap.Count == 0 {
		q.flows = append(q.flows, f)
	} else {
		if q.gap.Count++; q.gap.From == 0 {
			q.gap.From = f.Seq
		}
		q.gap.To = max(q.gap.To, f.Seq)
	}
	q.mu.Unlock()
	q.more.Set()
}

func (q *flowQueue) take() ([]*ops.Flow, missedFlows) {
	q.mu.Lock()
	defer q.mu.Unlock()
	flows, gap := q.flows, q.gap
	q.flows, q.gap = nil, missedFlows{}
	return flows, gap
}
