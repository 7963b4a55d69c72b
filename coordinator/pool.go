package coordinator

import (
	"sync"

	"github.com/rccs-io/rccs/subjects"
)

// pool runs functions on a bounded number of goroutines, which exist only
// while there is work.
type pool struct {
	workers int
	backlog int // how many may wait; 0: no bound
	wg      sync.WaitGroup

	mu      sync.Mutex
	running int
	queue   []func()
	closed  bool
	open    map[subjects.Key]int // of devices: what runs or waits
}

// maxOpen is how much of one device may run or wait in a pool, so that one that
// floods an endpoint takes no place that others need.
const maxOpen = 32

// runFor is run for one device's work; false also when too much of it is under
// way. An empty key is nobody's.
func (p *pool) runFor(k subjects.Key, f func()) bool {
	if k == "" {
		return p.run(f)
	}
	p.mu.Lock()
	if p.open[k] >= maxOpen {
		p.mu.Unlock()
		return false
	}
	if p.open == nil {
		p.open = make(map[subjects.Key]int)
	}
	p.open[k]++
	p.mu.Unlock()
	done := func() {
		p.mu.Lock()
		defer p.mu.Unlock()
		if p.open[k]--; p.open[k] == 0 {
			delete(p.open, k)
		}
	}
	if !p.run(func() { defer done(); f() }) {
		done()
		return false
	}
	return true
}

func newPool(workers, backlog int) *pool { return &pool{workers: workers, backlog: backlog} }

// run has f run soon; false when too much waits, or after stop. It does not
// block.
func (p *pool) run(f func()) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	switch {
	case p.closed:
		return false
	case p.running < p.workers:
		p.running++
		p.wg.Go(func() { p.work(f) })
		return true
	case p.backlog > 0 && len(p.queue) >= p.backlog:
		return false
	}
	p.queue = append(p.queue, f)
	return true
}

func (p *pool) work(f func()) {
	for {
		f()
		p.mu.Lock()
		if len(p.queue) == 0 {
			p.running--
			p.queue = nil
			p.mu.Unlock()
			return
		}
		f = p.queue[0]
		p.queue[0] = nil
		p.queue = p.queue[1:]
		p.mu.Unlock()
	}
}

// stop takes nothing new and waits for what was taken. It is idempotent.
func (p *pool) stop() {
	p.mu.Lock()
	p.closed = true
	p.mu.Unlock()
	p.wg.Wait()
}
