// Package wake tells a goroutine that there is something to do, without waiting for
// it. However often it is told before it looks, it looks once.
package wake

// Signal wakes the goroutine that receives from it.
type Signal chan struct{}

// New returns a signal that nobody has given yet.
func New() Signal { return make(Signal, 1) }

// Set wakes the goroutine now, or when it waits the next time. It is safe for
// concurrent use.
func (s Signal) Set() {
	select {
	case s <- struct{}{}:
	default: // it comes anyway
	}
}
