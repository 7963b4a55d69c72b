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
	want uint64 // the number of the next message

	load atomic.Pointer[load]
}

// load is one run.
type load struct {
	endless bool // a message that arrives is followed by another, until stop
	stop    atomic.Bool
	sent    atomic.Uint64
	arrived atomic.Uint64
	settled chan struct{} // may have become true that all arrived; buffered
}

// Result is what a load did.
type Result struct {
	Messages uint64 // sent, and received once and in order
	Elapsed  time.Duration
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

// begin gives the load to the pairs it is for, when the one before has settled.
func (f *Fleet) begin(pairs int, l *load) (*load, error) {
	if pairs < 1 || pairs > len(f.pairs) {
		return nil, fmt.Errorf("bench: %d pairs of a fleet of %d devices: want at most half as many", pairs, len(f.devices))
	}
	l.settled = make(chan struct{}, 1)
	for _, p := range f.pairs {
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
	p.frame = p.appendMessage(p.frame[:0], p.sent)
	return p.sender.write(p.frame)
}

// arrived checks a message, and has the next one follow.
func (p *pair) arrived(a arrival) error {
	if a.n != p.want {
		return fmt.Errorf("message %d came instead of %d: %s", a.n, p.want, fault(a.n, p.want))
	}
	p.want++
	l := p.load.Load()
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
