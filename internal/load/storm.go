package load

import (
	"context"
	"math"
	"sync/atomic"
	"time"
)

// The probe beside a storm.
const (
	probeRate  = 100 // messages a second
	probeQuiet = 2 * time.Second
)

// Storm has devices that missed messages come back all at once, and takes the
// time until each has what it missed. One more pair of devices, which stays
// connected, measures what others notice of it.
func Storm(ctx context.Context, opts Options) (*Result, error) {
	r, err := begin(ctx, "storm", opts)
	if err != nil {
		return nil, err
	}
	s := &storm{run: r, each: newMeter(), before: newMeter()}
	r.measure = s.measure
	metrics, err := s.load()
	return r.end(err, metrics...)
}

type storm struct {
	*run
	each   *meter // of each device, from its first byte to the last it missed
	before *meter // the probe's latency, when nothing else is there
	probe  *flow
	flows  []*flow
	began  atomic.Int64 // when the storm began; 0: it has not
	dialed []atomic.Int64
	got    atomic.Uint64 // of what was missed; the probe's messages go on anyway
	whole  atomic.Int64  // devices that have all
}

// measure counts the latency of the probe; that of what waited says nothing.
func (s *storm) measure(f *flow, at int64, took time.Duration) {
	switch began := s.began.Load(); {
	case f != s.probe:
	case began == 0 || at < began:
		s.before.record(took, f.id)
	case s.whole.Load() < int64(len(s.flows)):
		s.latency.record(took, f.id)
	}
}

func (s *storm) load() ([]Metric, error) {
	accounts := s.opts.Target.Accounts[:Needs(s.scenario, s.opts.Devices)]
	probe, err := s.connectAll(accounts[:2])
	if err != nil {
		return nil, err
	}
	s.probe = s.pair(probe[0].name, probe[1].name)
	if err := s.miss(accounts[2:]); err != nil {
		return nil, err
	}
	probing, probed := make(chan struct{}), make(chan error, 1)
	go func() {
		probed <- s.paceUntil(probing, time.Second/probeRate, math.MaxInt, func(_ int, at int64) error {
			return probe[0].send(s.probe, at)
		})
	}()
	s.until("quiet before the storm", probeQuiet)
	err = s.wait(probeQuiet)
	var metrics []Metric
	if err == nil {
		metrics, err = s.storm(accounts[2:])
	}
	close(probing)
	if e := <-probed; err == nil {
		err = e
	}
	if err == nil {
		err = s.finish()
	}
	metrics = append(metrics, s.each.metrics("device")...)
	metrics = append(metrics, s.latency.metrics("probe")...)
	return append(metrics, Metric{Name: "quiet probe p99", Value: float64(s.before.p99()) / float64(time.Millisecond), Unit: "ms", Better: Less}), err
}

// miss registers the devices, and has the other device of each one's user send
// it what it will have missed.
func (s *storm) miss(accounts []Account) error {
	n := len(accounts) / 2
	s.flows, s.dialed = make([]*flow, n), make([]atomic.Int64, n)
	var done atomic.Int64
	s.step("sending what will be missed", func() (int, int) { return int(done.Load()), n })
	return s.run.each(n, func(i int) error {
		feeder, away := accounts[2*i], accounts[2*i+1]
		d, err := s.connect(away) // only a device that has registered can be sent to
		if err != nil {
			return err
		}
		s.disconnect(d)
		s.flows[i] = s.pair(feeder.Name, away.Name)
		s.flows[i].then = func(arrival) error { s.missed(i); return nil }
		if err := s.feed(feeder, s.flows[i]); err != nil {
			return err
		}
		done.Add(1)
		return nil
	})
}

// feed sends what is missed, and waits until it is stored.
func (s *storm) feed(a Account, f *flow) error {
	d, err := s.connect(a)
	if err != nil {
		return err
	}
	for range s.opts.Missed {
		if err := d.send(f, s.now()); err != nil {
			return s.cause(err)
		}
	}
	// A message to itself is stored behind the others: when it has come, they
	// are.
	stored := make(chan struct{})
	self := s.pair(a.Name, a.Name)
	self.then = func(arrival) error { close(stored); return nil }
	if err := d.send(self, s.now()); err != nil {
		return s.cause(err)
	}
	select {
	case <-stored:
	case <-s.ctx.Done():
		return context.Cause(s.ctx)
	case <-time.After(s.opts.Patience):
		return &Violation{Flow: self.name, N: 1, What: "did not come in time"}
	}
	if s.opts.Target.Forget {
		if err := s.forget(s.ctx, d); err != nil {
			return err
		}
	}
	s.disconnect(d)
	return nil
}

// missed is called for each message that a device had missed.
func (s *storm) missed(i int) {
	s.got.Add(1)
	if s.flows[i].arrived.Load() < uint64(s.opts.Missed) { //nolint:gosec // checked to be above 0
		return
	}
	s.each.record(time.Duration(s.now()-s.dialed[i].Load()), uint64(i)) //nolint:gosec // an index
	s.whole.Add(1)
}

// storm connects all, and waits until each has what it missed.
func (s *storm) storm(accounts []Account) ([]Metric, error) {
	n := int64(len(s.flows))
	s.step("storm", func() (int, int) { return int(s.whole.Load()), int(n) })
	s.waits.Store(true)
	start := s.now()
	s.began.Store(start)
	err := s.run.each(int(n), func(i int) error {
		s.dialed[i].Store(s.now())
		_, err := s.connect(accounts[2*i+1])
		return err
	})
	if err != nil {
		return nil, err
	}
	connected := time.Duration(s.now() - start)
	if err := s.await(func() bool { return s.whole.Load() >= n }, &s.got); err != nil {
		return nil, err
	}
	took := time.Duration(s.now() - start)
	return []Metric{
		{Name: "all connected", Value: connected.Seconds(), Unit: "s", Better: Less},
		{Name: "last message", Value: took.Seconds(), Unit: "s", Better: Less},
		{Name: "devices", Value: float64(n) / took.Seconds(), Unit: "/s", Better: More},
		{Name: "missed messages", Value: float64(n) * float64(s.opts.Missed) / took.Seconds(), Unit: "/s", Better: More},
	}, nil
}
