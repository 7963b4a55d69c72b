package load

import (
	"fmt"
	"sync"
	"sync/atomic"
)

// Violation is a message that did not arrive once and in order. It is the first
// that was seen.
type Violation struct {
	Flow string // from whom to whom
	N    uint64 // which message of the flow, from 1
	What string // what became of it
}

// Error implements error.
func (v *Violation) Error() string {
	return fmt.Sprintf("message %d of %s %s", v.N, v.Flow, v.What)
}

// flow is what one sender sends to one receiver in one lane, or one topic to
// one subscriber: within it there is an order.
type flow struct {
	// Static after construction.
	id     uint64
	name   string
	ledger *ledger
	to     Name
	// then, if set, is called for each message that arrived, in the receiver's
	// goroutine.
	then func(a arrival) error

	sent, arrived atomic.Uint64
	// cut is set when the receiver's connection was lost: what it had not
	// acknowledged then comes again, marked as such, and that is right.
	cut atomic.Bool

	mu      sync.Mutex
	last    uint64              // the highest that came
	missing map[uint64]struct{} // below last, and did not come
}

// ledger keeps the flows of a run, and the first thing that is wrong in them.
type ledger struct {
	broken chan struct{} // closed with the first violation

	sent, arrived, again atomic.Uint64

	mu    sync.Mutex
	flows []*flow
	first *Violation
	// jump is the flow whose first violation may be a loss or a swap: that shows
	// when the message comes after all, or does not.
	jump *flow
}

func newLedger() *ledger { return &ledger{broken: make(chan struct{})} }

// flow adds one.
func (l *ledger) flow(name string, to Name) *flow {
	l.mu.Lock()
	defer l.mu.Unlock()
	f := &flow{id: uint64(len(l.flows)), name: name, ledger: l, to: to}
	l.flows = append(l.flows, f)
	return f
}

// find is the flow of a number, or nil.
func (l *ledger) find(id uint64) *flow {
	l.mu.Lock()
	defer l.mu.Unlock()
	if id >= uint64(len(l.flows)) {
		return nil
	}
	return l.flows[id]
}

// next counts a message that is about to be sent, and gives its number.
func (f *flow) next() uint64 {
	f.ledger.sent.Add(1)
	return f.sent.Add(1)
}

// maxMissing bounds what is remembered of one flow that has gone wrong.
const maxMissing = 1 << 16

// arrive enters a message that came, and returns whether it is new. again says
// that the server marked it as one that it may have sent before.
func (f *flow) arrive(n uint64, again bool) bool {
	fresh, wrong := f.enter(n, again)
	if wrong != nil {
		f.ledger.report(f, wrong)
	}
	switch {
	case fresh:
		f.arrived.Add(1)
		f.ledger.arrived.Add(1)
	case wrong == nil:
		f.ledger.again.Add(1)
	}
	return fresh
}

func (f *flow) enter(n uint64, again bool) (fresh bool, wrong *Violation) {
	f.mu.Lock()
	defer f.mu.Unlock()
	switch {
	case n == 0 || n > f.sent.Load():
		return false, &Violation{Flow: f.name, N: n, What: "was never sent"}
	case n == f.last+1:
		f.last = n
		return true, nil
	case n > f.last:
		wrong = &Violation{Flow: f.name, N: f.last + 1, What: fmt.Sprintf("had not come when message %d came", n)}
		if f.missing == nil {
			f.missing = make(map[uint64]struct{})
		}
		for m := f.last + 1; m < n && len(f.missing) < maxMissing; m++ {
			f.missing[m] = struct{}{}
		}
		f.last = n
		return true, wrong
	}
	if _, ok := f.missing[n]; ok {
		delete(f.missing, n)
		return true, nil // the jump over it was told
	}
	if again && f.cut.Load() {
		return false, nil
	}
	return false, &Violation{Flow: f.name, N: n, What: "came twice"}
}

func (l *ledger) report(f *flow, v *Violation) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.first != nil {
		return
	}
	l.first = v
	if v.What != "came twice" && v.N > 0 {
		l.jump = f
	}
	close(l.broken)
}

// complete reports whether all that was sent has arrived.
func (l *ledger) complete() bool { return l.arrived.Load() >= l.sent.Load() }

// close is called when no more will come. It returns the first violation; that
// something never came is one.
func (l *ledger) close() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.first != nil {
		if f := l.jump; f != nil {
			l.first.What = f.fate(l.first.N)
		}
		return l.first
	}
	for _, f := range l.flows {
		if sent, arrived := f.sent.Load(), f.arrived.Load(); arrived < sent {
			f.mu.Lock()
			n := f.last + 1
			f.mu.Unlock()
			l.first = &Violation{Flow: f.name, N: n, What: fmt.Sprintf("is lost: %d were sent, %d came", sent, arrived)}
			return l.first
		}
	}
	return nil
}

// fate is what became of a message that another one overtook.
func (f *flow) fate(n uint64) string {
	f.mu.Lock()
	defer f.mu.Unlock()
	if n > f.sent.Load() {
		return "was never sent"
	}
	if _, ok := f.missing[n]; ok {
		return "is lost: later ones came"
	}
	return "came after a later one"
}
