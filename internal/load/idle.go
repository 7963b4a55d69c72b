package load

import (
	"context"
	"fmt"
)

// Idle connects devices that do nothing for the duration, and takes what the
// server's memory has grown by. Then one device of each user sends the other
// a message, so that the connections are known to be good.
func Idle(ctx context.Context, opts Options) (*Result, error) {
	r, err := begin(ctx, "idle", opts)
	if err != nil {
		return nil, err
	}
	memory, err := r.idleLoad()
	return r.end(err, append(memory, r.latency.metrics("latency after")...)...)
}

func (r *run) idleLoad() ([]Metric, error) {
	before, err := r.memory("measuring the server's memory")
	if err != nil {
		return nil, err
	}
	start := r.now()
	flows, from, err := r.pairs(Needs(r.scenario, r.opts.Devices))
	if err != nil {
		return nil, err
	}
	n := float64(2 * len(flows))
	all := []Metric{{Name: "connecting", Value: n / (float64(r.now()-start) / 1e9), Unit: "/s", Better: More}}
	r.until("idle", r.opts.Duration)
	if err := r.wait(r.opts.Duration); err != nil {
		return all, err
	}
	after, err := r.memory("measuring the server's memory again")
	if err != nil {
		return all, err
	}
	if r.opts.Target.Memory != nil {
		const kib, mib = 1 << 10, 1 << 20
		all = append(all,
			Metric{Name: "memory a connection", Value: float64(after-before) / kib / n, Unit: "KiB", Better: Less},
			Metric{Name: "memory without", Value: float64(before) / mib, Unit: "MiB", Better: Less},
			Metric{Name: "memory with", Value: float64(after) / mib, Unit: "MiB", Better: Less})
	}
	for i, f := range flows {
		if err := from[i].send(f, r.now()); err != nil {
			return all, r.cause(err)
		}
	}
	return all, r.finish()
}

// memory of the server, 0 when it is not known.
func (r *run) memory(phase string) (int64, error) {
	if r.opts.Target.Memory == nil {
		return 0, nil
	}
	r.step(phase, func() (int, int) { return 0, 0 })
	n, err := r.opts.Target.Memory(r.ctx)
	if err != nil {
		return 0, fmt.Errorf("the server's memory: %w", err)
	}
	return n, nil
}
