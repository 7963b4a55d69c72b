package chaos_test

import (
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/rccs-io/rccs/wire"
)

// flow is the numbered messages of one device to another in one lane.
type flow struct {
	from, to string
	lane     uint8
}

func (f flow) String() string { return fmt.Sprintf("%s to %s, lane %d", f.from, f.to, f.lane) }

// ledger holds what was accepted and what arrived, and what is wrong with it.
type ledger struct {
	mu      sync.Mutex
	flows   map[flow]*account
	reasons []string // of gaps that devices may be told of by now
	wrong   []string
	longest time.Duration // that a flow was without an acceptance, since it was asked last
}

// account is that of one flow.
type account struct {
	seqs  []uint64  // of each number that was accepted, at its recipient
	since time.Time // of the last acceptance; zero: the sender pauses
	times []int     // how often each number arrived
	under []uint64  // the sequence under which each number arrived first
	next  int       // is above all numbers that arrived
	gaps  []toldGap // that the recipient was told of
	tally
}

// toldGap is a gap, and the number that was to be accepted next when it was told:
// sequences may be given out again.
type toldGap struct {
	wire.Gap
	next int
}

// tally is what the report counts.
type tally struct {
	accepted, delivered, told, silent, redelivered, unflagged, reordered int
}

func (t tally) minus(o tally) tally {
	return tally{
		t.accepted - o.accepted, t.delivered - o.delivered, t.told - o.told, t.silent - o.silent,
		t.redelivered - o.redelivered, t.unflagged - o.unflagged, t.reordered - o.reordered,
	}
}

func (t tally) plus(o tally) tally {
	return t.minus(tally{}.minus(o))
}

func newLedger() *ledger { return &ledger{flows: map[flow]*account{}} }

func (l *ledger) accountLocked(f flow) *account {
	a := l.flows[f]
	if a == nil {
		a = &account{}
		l.flows[f] = a
	}
	return a
}

// accept notes that number n was accepted, under the sequence seq of its
// recipient's inbox.
func (l *ledger) accept(f flow, n int, seq uint64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	a := l.accountLocked(f)
	if n != len(a.seqs) {
		l.blameLocked("%s: %d was accepted, want %d", f, n, len(a.seqs))
		return
	}
	a.seqs = append(a.seqs, seq)
	a.accepted++
	if !a.since.IsZero() {
		l.longest = max(l.longest, time.Since(a.since))
	}
	a.since = time.Now()
}

// pause notes that nobody sends from here on.
func (l *ledger) pause() {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, a := range l.flows {
		a.since = time.Time{}
	}
}

// arrive notes that number n came; flagged: marked as one that may have come
// before.
func (l *ledger) arrive(f flow, n int, seq uint64, flagged bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	a := l.accountLocked(f)
	if n < 0 || n > len(a.seqs) { // one may be on its way
		l.blameLocked("%s: %d came, and was never sent", f, n)
		return
	}
	for len(a.times) <= n {
		a.times, a.under = append(a.times, 0), append(a.under, seq)
	}
	a.times[n]++
	switch {
	case a.times[n] > 1 && flagged:
		a.redelivered++
	case a.times[n] > 1:
		a.redelivered++
		a.unflagged++
		l.blameLocked("%s: %d came %d times, first under %d, now under %d, and not marked as redelivered",
			f, n, a.times[n], a.under[n], seq)
	case n < a.next:
		a.reordered++
		a.delivered++
		l.blameLocked("%s: %d came late, after %d", f, n, a.next-1)
	default:
		a.delivered++
		a.next = n + 1
	}
}

// allow has devices be told of gaps for a reason from here on.
func (l *ledger) allow(reason string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.reasons = append(l.reasons, reason)
}

// gap notes that a device was told of a loss.
func (l *ledger) gap(device string, g wire.Gap) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if !slices.Contains(l.reasons, g.Reason) {
		l.blameLocked("%s was told of a gap, and nothing was to be lost: %+v", device, g)
	}
	for f, a := range l.flows {
		if f.to == device && laneNames[f.lane] == g.Lane {
			a.gaps = append(a.gaps, toldGap{g, len(a.seqs)})
		}
	}
}

// maxWrong bounds what is told of one run.
const maxWrong = 20

func (l *ledger) blameLocked(format string, args ...any) {
	if len(l.wrong) < maxWrong {
		l.wrong = append(l.wrong, fmt.Sprintf(format, args...))
	}
}

// toldOf reports whether a gap that the recipient was told of covers number n.
func (a *account) toldOf(n int) bool {
	return slices.ContainsFunc(a.gaps, func(g toldGap) bool { return g.From <= a.seqs[n] && a.seqs[n] <= g.To && n <= g.next })
}

// lost counts the numbers below end that did not arrive.
func (a *account) lost(end int) (told, silent []int) {
	for n := range min(end, len(a.seqs)) {
		if n < len(a.times) && a.times[n] > 0 {
			continue
		}
		if a.toldOf(n) {
			told = append(told, n)
		} else {
			silent = append(silent, n)
		}
	}
	return told, silent
}

// missing says what was accepted and neither has arrived nor is told lost.
func (l *ledger) missing() (list []string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for f, a := range l.flows {
		if _, silent := a.lost(len(a.seqs)); len(silent) > 0 {
			list = append(list, fmt.Sprintf("%s: %d of %d, from %d on", f, len(silent), len(a.seqs), silent[0]))
		}
	}
	return list
}

// total sums up all flows. A number above which nothing has arrived is on its
// way, unless final.
func (l *ledger) total(final bool) (sum tally) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for f, a := range l.flows {
		end := a.next
		if final {
			end = len(a.seqs)
		}
		told, silent := a.lost(end)
		if len(silent) > 0 {
			l.blameLocked("%s: %d are lost and nobody is told, the first is %s", f, len(silent), a.around(silent[0]))
		}
		t := a.tally
		t.told, t.silent = len(told), len(silent)
		sum = sum.plus(t)
	}
	return sum
}

// around says where a number that did not arrive stands: the sequences of it and of
// those beside it, and what the recipient was told last of gaps.
func (a *account) around(n int) string {
	from, to := max(n-2, 0), min(n+3, len(a.seqs))
	s := fmt.Sprintf("%d; %d to %d were accepted under the sequences %v", n, from, to-1, a.seqs[from:to])
	for _, g := range a.gaps[max(len(a.gaps)-4, 0):] {
		s += fmt.Sprintf("; a gap before %d: %+v", g.next, g.Gap)
	}
	return s
}

// marks are how many were accepted so far, to see later which flows have gone on.
func (l *ledger) marks() map[flow]int {
	l.mu.Lock()
	defer l.mu.Unlock()
	marks := make(map[flow]int, len(l.flows))
	for f, a := range l.flows {
		marks[f] = len(a.seqs)
	}
	return marks
}

// behind names a flow of which nothing beyond its mark was accepted and has
// arrived; "": there is none.
func (l *ledger) behind(marks map[flow]int) string {
	l.mu.Lock()
	defer l.mu.Unlock()
	for f, n := range marks {
		if a := l.flows[f]; len(a.seqs) <= n || a.next <= n {
			return fmt.Sprintf("%s: %d accepted, %d arrived, want beyond %d", f, len(a.seqs), a.next, n)
		}
	}
	return ""
}

// accepted is how many were accepted for a device.
func (l *ledger) acceptedFor(device string) (n int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for f, a := range l.flows {
		if f.to == device {
			n += len(a.seqs)
		}
	}
	return n
}

func (l *ledger) errors() []string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return slices.Clone(l.wrong)
}

// takeLongest is the longest time that a flow was without an acceptance since it
// was asked last.
func (l *ledger) takeLongest() time.Duration {
	l.mu.Lock()
	defer l.mu.Unlock()
	d := l.longest
	for _, a := range l.flows {
		if !a.since.IsZero() {
			d = max(d, time.Since(a.since))
		}
	}
	l.longest = 0
	return d
}
