package clock

import (
	"testing"
	"time"
)

// Messages are read late, and the clock of who stores them is set, or another server
// stores them.
func TestAStoresClockThatIsSetAheadCountsForAsLongAsItKeepsIDs(t *testing.T) {
	t.Parallel()
	const window = 2 * time.Minute
	s := WatchStore()
	began := s.began.UnixNano()
	for _, at := range []struct {
		stored, read, set time.Duration // since the beginning, and how wrong the clock is
		want              bool
	}{
		{0, 0, 0, false},
		{time.Minute, time.Minute, 4 * time.Second, false}, // as a time service does
		{2 * time.Minute, 10 * time.Minute, 0, false},      // the reader was away
		{9 * time.Minute, 10 * time.Minute, 0, false},
		{10 * time.Minute, 10 * time.Minute, 0, false},
		{time.Hour, time.Hour, time.Hour, true},
		{time.Hour + time.Second, time.Hour + time.Second, time.Hour, true},
		{time.Hour + time.Minute, time.Hour + time.Minute, 0, true}, // right again, but what was forgotten is
		{time.Hour + window, time.Hour + window, 0, false},
		{2 * time.Hour, 2 * time.Hour, time.Hour, true}, // and ahead again
		{3 * time.Hour, 3 * time.Hour, 0, false},
		{3*time.Hour + time.Second, 3*time.Hour + time.Second, -time.Minute, false},
		{3*time.Hour + 2*time.Second, 3*time.Hour + 2*time.Second, 0, true}, // from behind, which is ahead as well
	} {
		if got := s.stored(began+int64(at.stored+at.set), int64(at.read), window); got != at.want {
			t.Errorf("stored after %s and read after %s, set ahead by %s: %t, want %t", at.stored, at.read, at.set, got, at.want)
		}
	}
}

func TestAStoreWhoseClockIsAheadFromTheBeginningMayHaveForgotten(t *testing.T) {
	t.Parallel()
	s := WatchStore()
	if s.Within() || !s.Stored(time.Now().Add(time.Hour).UnixNano(), time.Hour) || !s.Within() {
		t.Error("not noticed")
	}
}

func BenchmarkStored(b *testing.B) {
	s := WatchStore()
	for b.Loop() {
		s.Stored(s.last, time.Minute)
	}
}
