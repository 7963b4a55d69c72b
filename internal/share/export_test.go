package share

import (
	"testing"
	"time"
)

const patience = 90 * time.Second

func (s *Shares) await(tb testing.TB, what string, done func(*table) bool) {
	tb.Helper()
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	deadline := time.After(patience)
	for k := range s.tables {
		t := &s.tables[k]
		for {
			t.mu.Lock()
			ok := done(t)
			t.mu.Unlock()
			if ok {
				break
			}
			select {
			case <-tick.C:
			case <-deadline:
				tb.Fatalf("%s: %s", Kind(k), what)
			}
		}
	}
}

// AwaitBounds returns when the bounds of all streams are known.
func (s *Shares) AwaitBounds(tb testing.TB) {
	tb.Helper()
	s.await(tb, "its bounds are not known", func(t *table) bool {
		s.refreshLocked(t)
		return !t.whole.at.IsZero() && !t.whole.running
	})
}

// AwaitLooks returns when no look is under way and another one may begin.
func (s *Shares) AwaitLooks(tb testing.TB) {
	tb.Helper()
	s.await(tb, "a look goes on", func(t *table) bool {
		for _, l := range t.looked {
			if l.running || time.Since(l.at) < max(lookEvery, lookTimes*l.took) {
				return false
			}
		}
		return true
	})
}
