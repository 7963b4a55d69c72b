package inbox

import (
	"context"
	"sync"
)

// fillWorkers bounds how many mailboxes of this process read the store at a
// time once attached.
const fillWorkers = 8

// fillPool runs refills on a bounded number of goroutines that exist only
// while there is work.
type fillPool struct {
	ctx    context.Context
	cancel context.CancelFunc
	wg     sync.WaitGroup

	mu      sync.Mutex
	waiting []*Mailbox
	running int
	stopped bool
}

func newFillPool() *fillPool {
	p := &fillPool{}
	p.ctx, p.cancel = context.WithCancel(context.Background())
	return p
}

// add never blocks; a mailbox is added once until its refill has run.
func (p *fillPool) add(mb *Mailbox) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.stopped {
		return
	}
	p.waiting = append(p.waiting, mb)
	if p.running < fillWorkers {
		p.running++
		p.wg.Go(p.work)
	}
}

func (p *fillPool) work() {
	for {
		p.mu.Lock()
		if len(p.waiting) == 0 || p.stopped {
			p.running--
			p.mu.Unlock()
			return
		}
		mb := p.waiting[0]
		p.waiting[0] = nil
		p.waiting = p.waiting[1:]
		p.mu.Unlock()
		mb.refill(p.ctx)
	}
}

func (p *fillPool) stop() {
	p.mu.Lock()
	p.stopped = true
	p.mu.Unlock()
	p.cancel()
	p.wg.Wait()
}
