package load

import (
	"context"
	"sync/atomic"
	"time"
)

// Throughput keeps a window of messages under way in each pair of devices: one
// that arrives is followed by another.
func Throughput(ctx context.Context, opts Options) (*Result, error) {
	r, err := begin(ctx, "throughput", opts)
	if err != nil {
		return nil, err
	}
	rate, err := r.throughputLoad()
	return r.end(err, append([]Metric{rate}, r.latency.metrics("latency")...)...)
}

func (r *run) throughputLoad() (Metric, error) {
	flows, from, err := r.pairs(Needs(r.scenario, r.opts.Devices))
	if err != nil {
		return Metric{}, err
	}
	var stop atomic.Bool
	for i, f := range flows {
		f.then = func(arrival) error {
			if stop.Load() {
				return nil
			}
			return from[i].send(f, r.now())
		}
	}
	r.from.Store(r.now() + int64(r.opts.Warmup))
	r.until("warming up", r.opts.Warmup)
	for range r.opts.Window {
		for i, f := range flows {
			if err := from[i].send(f, r.now()); err != nil {
				return Metric{}, r.cause(err)
			}
		}
	}
	rate, err := r.rate(&stop)
	if err != nil {
		return rate, err
	}
	return rate, r.finish()
}

// rate is how many messages arrive a second, after the warm-up and for the
// duration.
func (r *run) rate(stop *atomic.Bool) (Metric, error) {
	defer stop.Store(true)
	if err := r.wait(r.opts.Warmup); err != nil {
		return Metric{}, err
	}
	start, before := time.Now(), r.ledger.arrived.Load()
	r.until("measuring", r.opts.Duration)
	err := r.wait(r.opts.Duration)
	n := r.ledger.arrived.Load() - before
	return Metric{Name: "messages", Value: float64(n) / time.Since(start).Seconds(), Unit: "/s", Better: More}, err
}
