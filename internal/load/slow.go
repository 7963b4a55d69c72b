package load

import (
	"context"
	"fmt"
	"sync/atomic"
	"time"
)

// Slow has some devices stop reading while messages go on being sent to them
// as to all, and takes the latency of the others: first while all read, then
// while some do not. At the end those read again, and get all that they were
// sent.
func Slow(ctx context.Context, opts Options) (*Result, error) {
	r, err := begin(ctx, "slow", opts)
	if err != nil {
		return nil, err
	}
	s := &slow{run: r, before: newMeter(), late: make(map[Name]bool)}
	r.measure, r.mayLose = s.measure, s.stops
	catchUp, err := s.load()
	metrics := append(s.before.metrics("all read"), r.latency.metrics("some stopped")...)
	if was := s.before.p99(); was > 0 {
		metrics = append(metrics, Metric{
			Name: "p99, stopped to all read", Value: float64(r.latency.p99()) / float64(was), Unit: "times", Better: Less,
		})
	}
	return r.end(err, append(metrics, catchUp...)...)
}

type slow struct {
	*run
	before  *meter        // latency while all read
	late    map[Name]bool // who stops; not changed once they are connected
	stopped atomic.Bool
}

func (s *slow) stops(name Name) bool { return s.late[name] }

func (s *slow) measure(f *flow, at int64, took time.Duration) {
	switch {
	case s.late[f.to] || at < s.from.Load():
	case !s.stopped.Load():
		s.before.record(took, f.id)
	default:
		s.latency.record(took, f.id)
	}
}

func (s *slow) load() ([]Metric, error) {
	accounts := s.opts.Target.Accounts[:Needs(s.scenario, s.opts.Devices)]
	for i := range s.opts.Stopped {
		s.late[accounts[2*i+1].Name] = true
	}
	flows, from, err := s.pairs(len(accounts))
	if err != nil {
		return nil, err
	}
	send := func(i int, at int64) error {
		i %= len(flows)
		return from[i].send(flows[i], at)
	}
	s.from.Store(s.now() + int64(s.opts.Warmup))
	s.until("all read", s.opts.Warmup+s.opts.Duration)
	if err := s.pace(s.opts.Rate, s.opts.Warmup+s.opts.Duration, send); err != nil {
		return nil, err
	}
	if err := s.finish(); err != nil {
		return nil, err
	}
	resume := s.stop()
	defer resume()
	s.stopped.Store(true)
	s.until(fmt.Sprint(s.opts.Stopped, " have stopped reading"), s.opts.Duration)
	if err := s.pace(s.opts.Rate, s.opts.Duration, send); err != nil {
		return nil, err
	}
	start := s.now()
	resume()
	if err := s.returned(flows, accounts); err != nil {
		return nil, err
	}
	took := time.Duration(max(s.last.Load()-start, 0))
	return []Metric{
		{Name: "catching up", Value: took.Seconds(), Unit: "s", Better: Less},
		{Name: "connections lost", Value: float64(s.lostCount.Load()), Better: Less},
	}, s.wait(repeatWindow)
}

// stop has them stop reading.
func (s *slow) stop() (resume func()) {
	var all []func()
	s.mu.Lock()
	defer s.mu.Unlock()
	for d := range s.live {
		if s.late[d.name] {
			all = append(all, d.stopReading())
		}
	}
	return func() {
		for _, resume := range all {
			resume()
		}
	}
}

// returned waits until all has arrived. A server may have ended connections
// that took nothing for long: those devices come back.
func (s *slow) returned(flows []*flow, accounts []Account) error {
	s.step("reading again", func() (int, int) { return int(s.ledger.arrived.Load()), int(s.ledger.sent.Load()) }) //nolint:gosec // counts of messages
	s.waits.Store(true)
	for _, f := range flows {
		if s.late[f.to] {
			f.cut.Store(true) // from here on a connection may be lost at any time
		}
	}
	var wrong error
	var looked time.Time
	err := s.await(func() bool {
		if time.Since(looked) >= reconnectEvery {
			looked = time.Now()
			wrong = s.reconnect(accounts)
		}
		return wrong != nil || s.ledger.complete()
	}, &s.ledger.arrived)
	if wrong != nil {
		return wrong
	}
	return err
}

// reconnectEvery is how long a device waits, at least, whose connection is lost
// again.
const reconnectEvery = 100 * time.Millisecond

// reconnect has the devices that stopped and are not connected come back.
func (s *slow) reconnect(accounts []Account) error {
	s.mu.Lock()
	connected := make(map[Name]bool, len(s.live))
	for d := range s.live {
		connected[d.name] = true
	}
	s.mu.Unlock()
	for _, a := range accounts {
		if !s.late[a.Name] || connected[a.Name] {
			continue
		}
		if _, err := s.connect(a); err != nil {
			return err
		}
	}
	return nil
}
