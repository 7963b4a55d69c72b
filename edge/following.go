package edge

import (
	"slices"
	"sync"

	"github.com/rccs-io/rccs/internal/topic"
)

// following has the topics whose messages a connection writes. A subscription is
// entered when its answer is queued, so that none of its messages is written
// before. No other lock is taken while mu is held.
type following struct {
	mu    sync.Mutex
	all   []*topic.Subscription
	ready []*topic.Subscription // those of them that may have something
}

func (f *following) enter(s *topic.Subscription) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.all = append(f.all, s)
	f.ready = append(f.ready, s)
}

// mark notes that subscriptions may have messages, and reports whether any of
// them is still followed.
func (f *following) mark(subs ...*topic.Subscription) (followed bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, s := range subs {
		if !slices.Contains(f.all, s) {
			continue
		}
		followed = true
		if !slices.Contains(f.ready, s) {
			f.ready = append(f.ready, s)
		}
	}
	return followed
}

// takeReady returns the subscriptions that may have messages, and forgets that.
func (f *following) takeReady() []*topic.Subscription {
	f.mu.Lock()
	defer f.mu.Unlock()
	ready := f.ready
	f.ready = nil
	return ready
}

func (f *following) remove(s *topic.Subscription) {
	f.mu.Lock()
	defer f.mu.Unlock()
	is := func(other *topic.Subscription) bool { return other == s }
	f.all = slices.DeleteFunc(f.all, is)
	f.ready = slices.DeleteFunc(f.ready, is)
}

// drop removes all subscriptions and returns them.
func (f *following) drop() []*topic.Subscription {
	f.mu.Lock()
	defer f.mu.Unlock()
	all := f.all
	f.all, f.ready = nil, nil
	return all
}
