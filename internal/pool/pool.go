// Package pool runs functions on a bounded number of goroutines, which exist
// only while there is work. What is to be bounded besides, a pool bounds too: how
// much may wait, and how much one requester may have under way.
//
// It is for work that waits for something else, such as the store. All methods
// may be called from any goroutine; only RunOrWait blocks, and Stop.
package pool

import "sync"

// Pool runs functions. Make one with [New].
type Pool struct {
	workers int
	backlog int // how many may wait; 0: no bound
	wg      sync.WaitGroup

	mu      sync.Mutex
	free    sync.Cond // a worker has ended, or the pool is stopped
	running int
	queue   []func()
	stopped bool
	open    map[string]int // by requester: what runs or waits
}

// maxOpen is how much of one requester may run or wait, so that one that floods
// an endpoint takes no place that others need.
const maxOpen = 32

// New makes a pool of so many workers. backlog bounds how many functions may wait
// for one; 0 is no bound.
func New(workers, backlog int) *Pool {
	p := &Pool{workers: workers, backlog: backlog}
	p.free.L = &p.mu
	return p
}

// Run has f run soon; false when too much waits, or after Stop.
func (p *Pool) Run(f func()) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.runLocked(f)
}

// RunOrWait is Run, but waits for a free worker where Run would have f wait. It
// is for a caller that holds back what comes next; false after Stop.
func (p *Pool) RunOrWait(f func()) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	for p.running == p.workers && !p.stopped {
		p.free.Wait()
	}
	return p.runLocked(f)
}

// RunFor is Run for one requester's work; false also when it has too much under
// way. An empty name is nobody's.
func (p *Pool) RunFor(requester string, f func()) bool {
	if requester == "" {
		return p.Run(f)
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.open[requester] >= maxOpen || !p.runLocked(func() { defer p.done(requester); f() }) {
		return false
	}
	if p.open == nil {
		p.open = make(map[string]int)
	}
	p.open[requester]++
	return true
}

func (p *Pool) done(requester string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.open[requester]--; p.open[requester] == 0 {
		delete(p.open, requester)
	}
}

func (p *Pool) runLocked(f func()) bool {
	switch {
	case p.stopped:
		return false
	case p.running < p.workers:
		p.running++
		p.wg.Go(func() { p.work(f) })
	case p.backlog > 0 && len(p.queue) >= p.backlog:
		return false
	default:
		p.queue = append(p.queue, f)
	}
	return true
}

func (p *Pool) work(f func()) {
	for {
		f()
		p.mu.Lock()
		if len(p.queue) == 0 {
			p.running--
			p.queue = nil
			p.free.Signal()
			p.mu.Unlock()
			return
		}
		f = p.queue[0]
		p.queue[0] = nil
		p.queue = p.queue[1:]
		p.mu.Unlock()
	}
}

// Stop takes nothing new and waits for what was taken. It is idempotent.
func (p *Pool) Stop() {
	p.mu.Lock()
	p.stopped = true
	p.free.Broadcast()
	p.mu.Unlock()
	p.wg.Wait()
}
