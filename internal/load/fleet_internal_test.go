package load

import (
	"context"
	"fmt"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"time"
)

// Names are the names of n devices: "left" and "right" of user after user.
func Names(n int) []Name {
	names := make([]Name, n)
	for i := range names {
		names[i] = Name{User: fmt.Sprintf("user%05d", i/2), Device: "left"}
		if i%2 == 1 {
			names[i].Device = "right"
		}
	}
	return names
}

// Fleet is a number of connected devices, in pairs of a sender and a receiver,
// that can be put under load again and again. The benchmarks
// use it, to measure the server in between.
type Fleet struct {
	run   *run
	flows []*flow
	from  []*device
	stop  atomic.Bool
	close func() error

	mu    sync.Mutex
	times []time.Duration // that the messages of a pace took; nil at other times
}

// Connect connects the devices of a fleet. On an error none stays connected.
func Connect(opts Options) (*Fleet, error) {
	r, err := begin(context.Background(), "throughput", opts)
	if err != nil {
		return nil, err
	}
	var f *Fleet
	r.measure = func(_ *flow, _ int64, took time.Duration) { f.note(took) }
	f = &Fleet{run: r, close: sync.OnceValue(func() error {
		_, err := r.end(context.Cause(r.ctx))
		return err
	})}
	f.flows, f.from, err = r.pairs(Needs(r.scenario, r.opts.Devices))
	if err != nil {
		_, err = r.end(r.cause(err))
		return nil, err
	}
	for i, flow := range f.flows {
		flow.then = func(arrival) error {
			if f.stop.Load() {
				return nil
			}
			return f.from[i].send(flow, r.now())
		}
	}
	return f, nil
}

// Saturated is what a load did.
type Saturated struct {
	Messages uint64 // sent, and received once and in order
	Elapsed  time.Duration
}

// Saturate keeps Options.Window messages under way in each of the first pairs,
// for the time given and until all have arrived. One load runs at a time.
func (f *Fleet) Saturate(pairs int, during time.Duration) (Saturated, error) {
	if pairs < 1 || pairs > len(f.flows) {
		return Saturated{}, fmt.Errorf("load: %d pairs: the fleet has %d", pairs, len(f.flows))
	}
	r := f.run
	f.stop.Store(false)
	start, before := r.now(), r.ledger.arrived.Load()
	for range r.opts.Window {
		for i, flow := range f.flows[:pairs] {
			if err := f.from[i].send(flow, r.now()); err != nil {
				return Saturated{}, r.cause(err)
			}
		}
	}
	err := r.wait(during)
	f.stop.Store(true)
	if err == nil {
		err = r.finish()
	}
	if err == nil {
		err = r.ledger.close()
	}
	return Saturated{Messages: r.ledger.arrived.Load() - before, Elapsed: time.Duration(r.last.Load() - start)}, err
}

// Pace sends messages at a fixed rate, in each pair in turn, for the time given,
// and returns how long each took when all have arrived. One load runs at a time.
func (f *Fleet) Pace(rate int, during time.Duration) ([]time.Duration, error) {
	return f.pace(rate, during, func(i int) int { return i % len(f.flows) })
}

// Sample is Pace with each message in a pair taken at random.
func (f *Fleet) Sample(rate int, during time.Duration) ([]time.Duration, error) {
	return f.pace(rate, during, func(int) int { return rand.IntN(len(f.flows)) })
}

func (f *Fleet) pace(rate int, during time.Duration, pair func(i int) int) ([]time.Duration, error) {
	r := f.run
	f.stop.Store(true) // what arrives brings nothing
	f.mu.Lock()
	f.times = make([]time.Duration, 0, int(during.Seconds()*float64(rate))+1)
	f.mu.Unlock()
	err := r.pace(rate, during, func(i int, at int64) error {
		i = pair(i)
		return f.from[i].send(f.flows[i], at)
	})
	if err == nil {
		err = r.finish()
	}
	if err == nil {
		err = r.ledger.close()
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	times := f.times
	f.times = nil
	return times, err
}

// note notes how long a message took, if that is asked for.
func (f *Fleet) note(took time.Duration) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.times != nil {
		f.times = append(f.times, took)
	}
}

// Close disconnects all devices, and returns what had gone wrong until then.
// Calls after the first return the same.
func (f *Fleet) Close() error { return f.close() }
