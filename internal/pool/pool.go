// Package pool runs functions on a bounded number of goroutines, which exist
// only while there is work. A pool also bounds how much work may wait, and how much
// one requester may have under way.
//
// A pool is fair: requesters whose work waits take turns, one function each, and
// none of them runs on more than half of the workers. So a requester that floods a
// pool makes another wait for one function of its own at most.
//
// It is for work that waits for something else, such as the store. All methods
// may be called from any goroutine; only Stop blocks.
package pool

import (
	"slices"
	"sync"
)

// Pool runs functions. Make one with [New].
type Pool struct {
	workers int
	backlog int // how many may wait; 0: no bound
	wg      sync.WaitGroup

	mu      sync.Mutex
	running int
	waiting int
	stopped bool
	turns   []*line          // those with something that waits, in the order of their turns
	lines   map[string]*line // by requester: those with something under way
}

// line is what one requester has under way.
type line struct {
	requester string // empty: nobody's, which is not bounded
	queue     []func()
	running   int
}

const (
	// maxOpen is how much of one requester may run or wait, where that is bounded.
	maxOpen = 32
	// maxFirsts is how many requesters may have their first function wait beyond
	// a full backlog: more than come together when a server is there again.
	maxFirsts = 64 << 10
)

// New makes a pool of so many workers. backlog bounds how many functions may wait
// for one; 0 is no bound. Beyond it 65,536 more may wait, each the first of its
// requester.
func New(workers, backlog int) *Pool {
	return &Pool{workers: workers, backlog: backlog, lines: make(map[string]*line)}
}

// Run has f run soon; false when too much waits, or after Stop.
func (p *Pool) Run(f func()) bool { return p.RunInTurn("", f) }

// RunFor is Run for one requester's work; false also when it has too much under
// way. What others have waiting does not count against one that has nothing
// waiting, up to the bound of [New]. An empty name is nobody's.
func (p *Pool) RunFor(requester string, f func()) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.runLocked(requester, maxOpen, f)
}

// RunInTurn is RunFor without the bound of what a requester may have under way:
// for work that exists already, and must be done, and for services, which ask for
// many at once. In a full pool it refuses requesters that have something waiting.
func (p *Pool) RunInTurn(requester string, f func()) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.runLocked(requester, 0, f)
}

func (p *Pool) runLocked(requester string, most int, f func()) bool {
	if p.stopped {
		return false
	}
	l := p.lines[requester]
	if l == nil {
		l = &line{requester: requester}
	}
	full := p.backlog > 0 && p.waiting >= p.backlog
	switch {
	case requester != "" && most > 0 && l.running+len(l.queue) >= most:
		return false
	case p.running < p.workers && p.mayLocked(l):
		p.running++
		l.running++
		p.wg.Go(func() { p.work(l, f) })
	case full && (requester == "" || len(l.queue) > 0 || p.waiting >= p.backlog+maxFirsts):
		return false
	default:
		if len(l.queue) == 0 {
			p.turns = append(p.turns, l)
		}
		l.queue = append(l.queue, f)
		p.waiting++
	}
	p.lines[requester] = l
	return true
}

// mayLocked reports whether another function of a requester may run.
func (p *Pool) mayLocked(l *line) bool {
	return l.requester == "" || l.running < max(p.workers/2, 1)
}

func (p *Pool) work(l *line, f func()) {
	for f != nil {
		f()
		l, f = p.next(l)
	}
}

// next is what the worker does that has just done something of a line; nil: it
// ends.
func (p *Pool) next(done *line) (l *line, f func()) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if done.running--; done.running == 0 && len(done.queue) == 0 {
		delete(p.lines, done.requester)
	}
	for i, l := range p.turns {
		if !p.mayLocked(l) {
			continue // what it has running takes the next of it
		}
		p.leaveLocked(i)
		f := l.queue[0]
		l.queue[0] = nil
		if l.queue = l.queue[1:]; len(l.queue) > 0 {
			p.turns = append(p.turns, l)
		} else {
			l.queue = nil
		}
		p.waiting--
		l.running++
		return l, f
	}
	p.running--
	return nil, nil
}

// leaveLocked takes a line out of the turns: most often the first.
func (p *Pool) leaveLocked(i int) {
	if i > 0 {
		p.turns = slices.Delete(p.turns, i, i+1)
		return
	}
	p.turns[0] = nil
	if p.turns = p.turns[1:]; len(p.turns) == 0 {
		p.turns = nil
	}
}

// Stop takes nothing new and waits for what was taken. It is idempotent.
func (p *Pool) Stop() {
	p.mu.Lock()
	p.stopped = true
	p.mu.Unlock()
	p.wg.Wait()
}
