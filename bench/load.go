package bench

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"time"
)

// pair is a sender and its receiver.
type pair struct {
	// Static after construction.
	fleet            *Fleet
	sender, receiver *device
	prefix           string // of the ids of its messages

	mu    sync.Mutex
	sent  uint64
	frame []byte

	// Owned by the receiver's read loop.
	want    uint64 // the number of the next message
	latency []int64

	load atomic.Pointer[load]
}

// load is one run.
type load struct {
	endless bool // a message that arrives is followed by another, until stop
	timed   bool // latencies are kept
	stop    atomic.Bool
	sent    atomic.Uint64
	arrived atomic.Uint64
	settled chan struct{} // may have become true that all arrived; buffered
}

// Result is what a load did.
type Result struct {
	Messages uint64 // sent, and received once and in order
	Elapsed  time.Duration
	Latency  Samples // of each message, from before its write to its receipt; [Fleet.Pace] only
	Late     Samples // of each message, from when it was due to its write; [Fleet.Pace] only
}

// Rate is messages a second.
func (r Result) Rate() float64 { return float64(r.Messages) / r.Elapsed.Seconds() }

// Saturate keeps inflight messages under way in each of the first pairs of the
// fleet, for the time given and until all have arrived.
func (f *Fleet) Saturate(ctx context.Context, pairs, inflight int, during time.Duration) (Result, error) {
	l, err := f.begin(pairs, &load{endless: true})
	if err != nil {
		return Result{}, err
	}
	start := time.Now()
	for range inflight {
		for _, p := range f.pairs[:pairs] {
			if err := p.send(l); err != nil {
				return Result{}, err
			}
		}
	}
	end := time.NewTimer(during)
	defer end.Stop()
	select {
	case <-end.C:
	case <-f.failed:
	case <-ctx.Done():
	}
	l.stop.Store(true)
	err = f.settle(ctx, l)
	return Result{Messages: l.arrived.Load(), Elapsed: time.Since(start)}, err
}

// Pace sends rate messages a second, pair after pair, for the time given, and
// waits until all have arrived. It does not wait for one before it sends the
// next, so a server that stalls is seen in full.
func (f *Fleet) Pace(ctx context.Context, rate int, during time.Duration) (Result, error) {
	l, err := f.begin(len(f.pairs), &load{timed: true})
	if err != nil {
		return Result{}, err
	}
	start := time.Now()
	gap := time.Second / time.Duration(rate)
	total := int(during / gap)
	late := make(Samples, 0, total)
	tick := time.NewTicker(gap)
	defer tick.Stop()
	for i := 0; i < total; {
		select {
		case <-tick.C:
		case <-f.failed:
			return Result{}, f.err
		case <-ctx.Done():
			return Result{}, ctx.Err()
		}
		for ; i < total && time.Since(start) >= time.Duration(i)*gap; i++ {
			late = append(late, int64(time.Since(start)-time.Duration(i)*gap))
			if err := f.pairs[i%len(f.pairs)].send(l); err != nil {
				return Result{}, err
			}
		}
	}
	err = f.settle(ctx, l)
	r := Result{Messages: l.arrived.Load(), Elapsed: time.Since(start), Late: late.sorted()}
	for _, p := range f.pairs {
		r.Latency = append(r.Latency, p.latency...)
	}
	r.Latency = r.Latency.sorted()
	return r, err
}

// begin gives the load to the pairs it is for, when the one before has settled.
func (f *Fleet) begin(pairs int, l *load) (*load, error) {
	if pairs < 1 || pairs > len(f.pairs) {
		return nil, fmt.Errorf("bench: %d pairs of a fleet of %d devices: want at most half as many", pairs, len(f.devices))
	}
	l.settled = make(chan struct{}, 1)
	for _, p := range f.pairs {
		p.latency = p.latency[:0] // nothing is under way
		p.load.Store(l)
	}
	return l, f.Err()
}

// settle waits until all that was sent has arrived.
func (f *Fleet) settle(ctx context.Context, l *load) error {
	late := time.NewTimer(f.opts.Patience)
	defer late.Stop()
	for l.arrived.Load() < l.sent.Load() {
		select {
		case <-l.settled:
		case <-f.failed:
			return f.err
		case <-ctx.Done():
			return ctx.Err()
		case <-late.C:
			return fmt.Errorf("bench: %d messages were sent, %d arrived, and no more came in %s",
				l.sent.Load(), l.arrived.Load(), f.opts.Patience)
		}
	}
	return f.Err()
}

// send sends the pair's next message.
func (p *pair) send(l *load) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.sent++
	l.sent.Add(1)
	p.frame = p.appendMessage(p.frame[:0], p.sent, p.fleet.now())
	return p.sender.write(p.frame)
}

// arrived checks a message, and has the next one follow.
func (p *pair) arrived(a arrival) error {
	if a.n != p.want {
		return fmt.Errorf("message %d came instead of %d: %s", a.n, p.want, fault(a.n, p.want))
	}
	p.want++
	l := p.load.Load()
	if l.timed {
		p.latency = append(p.latency, p.fleet.now()-a.at)
	}
	if l.endless && !l.stop.Load() {
		if err := p.send(l); err != nil {
			return err
		}
	}
	// Counted after its successor: the load has not settled in between.
	if n := l.arrived.Add(1); !l.endless || l.stop.Load() {
		if n >= l.sent.Load() {
			select {
			case l.settled <- struct{}{}:
			default:
			}
		}
	}
	return nil
}

func fault(got, want uint64) string {
	if got < want {
		return "it came twice, or late"
	}
	return "some were lost or overtaken"
}
