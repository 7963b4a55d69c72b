package chaos_test

import (
	"fmt"
	"maps"
	"sync"
	"time"
)

// stream is the numbered messages of one device to another in one lane.
type stream struct {
	from, to string
	lane     uint8
}

func (s stream) String() string { return fmt.Sprintf("%s to %s, lane %d", s.from, s.to, s.lane) }

// book is what was accepted and what was handed on, and what is wrong with it.
type book struct {
	mu       sync.Mutex
	accepted map[stream]int // the next number to be accepted
	arrived  map[stream]int // the next number to arrive
	wrong    []string
	slowest  time.Duration // acceptance of a message, since the last look
}

func newBook() *book { return &book{accepted: map[stream]int{}, arrived: map[stream]int{}} }

// accept notes that number n was accepted, after it took so long.
func (b *book) accept(s stream, n int, took time.Duration) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if n != b.accepted[s] {
		b.blame("%s: %d was accepted, want %d", s, n, b.accepted[s])
	}
	b.accepted[s] = n + 1
	b.slowest = max(b.slowest, took)
}

// arrive notes that number n was handed on.
func (b *book) arrive(s stream, n int) {
	b.mu.Lock()
	defer b.mu.Unlock()
	switch want := b.arrived[s]; {
	case n < want:
		b.blame("%s: %d came again, or late: %d was next", s, n, want)
		return
	case n > want:
		b.blame("%s: %d came where %d was next", s, n, want)
	}
	b.arrived[s] = n + 1
}

// mostWrong bounds what is told of one run.
const mostWrong = 20

func (b *book) blame(format string, args ...any) {
	if len(b.wrong) < mostWrong {
		b.wrong = append(b.wrong, fmt.Sprintf(format, args...))
	}
}

// missing says what was accepted and has not arrived.
func (b *book) missing() (list []string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for s, n := range b.accepted {
		if got := b.arrived[s]; got < n {
			list = append(list, fmt.Sprintf("%s: %d of %d", s, got, n))
		}
	}
	return list
}

// totals are the messages accepted and handed on.
func (b *book) totals() (accepted, arrived int) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, n := range b.accepted {
		accepted += n
	}
	for _, n := range b.arrived {
		arrived += n
	}
	return accepted, arrived
}

// marks are the numbers accepted so far, to see later which streams have gone
// on.
func (b *book) marks() map[stream]int {
	b.mu.Lock()
	defer b.mu.Unlock()
	return maps.Clone(b.accepted)
}

// beyond says whether every stream of marks has gone on, and all of it arrived.
func (b *book) beyond(marks map[stream]int) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	for s, n := range marks {
		if b.accepted[s] <= n || b.arrived[s] <= n {
			return false
		}
	}
	return true
}

func (b *book) errors() []string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return append([]string(nil), b.wrong...)
}

// takeSlowest is the slowest acceptance since it was asked last.
func (b *book) takeSlowest() time.Duration {
	b.mu.Lock()
	defer b.mu.Unlock()
	d := b.slowest
	b.slowest = 0
	return d
}

// gap notes that a device was told of a loss: here nothing is old or too much.
func (b *book) gap(name string, g any) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.blame("%s was told of a gap: %+v", name, g)
}
