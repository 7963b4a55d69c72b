package load

import (
	"context"
	"time"
)

// Latency sends messages at a fixed rate, from one device of each user to the
// other, and takes the time from when each was due to its arrival.
func Latency(ctx context.Context, opts Options) (*Result, error) {
	r, err := begin(ctx, "latency", opts)
	if err != nil {
		return nil, err
	}
	late := newMeter()
	err = r.latencyLoad(late)
	return r.end(err, append(r.latency.metrics("latency"), Metric{
		Name: "sent late p99", Value: float64(late.p99()) / float64(time.Millisecond), Unit: "ms",
	})...)
}

func (r *run) latencyLoad(late *meter) error {
	flows, from, err := r.pairs(Needs(r.scenario, r.opts.Devices))
	if err != nil {
		return err
	}
	r.from.Store(r.now() + int64(r.opts.Warmup))
	r.until("sending", r.opts.Warmup+r.opts.Duration)
	err = r.pace(r.opts.Rate, r.opts.Warmup+r.opts.Duration, func(i int, at int64) error {
		late.record(time.Duration(r.now()-at), uint64(i)) //nolint:gosec // counts up from 0
		i %= len(flows)
		return from[i].send(flows[i], at)
	})
	if err != nil {
		return err
	}
	return r.finish()
}

// pairs connects the first accounts, and has a flow in each pair, from the
// device beside it.
func (r *run) pairs(n int) (flows []*flow, from []*device, err error) {
	all, err := r.connectAll(r.opts.Target.Accounts[:n])
	if err != nil {
		return nil, nil, err
	}
	for i := 0; i+1 < len(all); i += 2 {
		flows = append(flows, r.pair(all[i].name, all[i+1].name))
		from = append(from, all[i])
	}
	return flows, from, nil
}
