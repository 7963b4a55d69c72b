package clock

import (
	"testing"
	"time"
)

// Only a jump ahead makes a store forget, and only what it had when the clock
// jumped.
func TestAClockThatIsSetAheadCountsForAsLongAsAStoreKeepsIDs(t *testing.T) {
	t.Parallel()
	const window = 2 * time.Minute
	a := Watch()
	began := a.began.UnixNano()
	for _, at := range []struct {
		mono, set time.Duration
		want      bool
	}{
		{0, 0, false},
		{time.Hour, 0, false},
		{time.Hour + time.Second, 4 * time.Second, false}, // as a time service does
		{time.Hour + 2*time.Second, time.Hour, true},
		{time.Hour + 3*time.Second, time.Hour, true},
		{time.Hour + time.Minute, 0, true}, // right again, but what was forgotten is
		{time.Hour + 2*time.Second + window, 0, false},
		{2 * time.Hour, -time.Minute, false},
		{2*time.Hour + time.Second, 0, true}, // from behind, which is ahead as well
		{2*time.Hour + time.Second + window, 0, false},
	} {
		if got := a.within(began+int64(at.mono+at.set), int64(at.mono), window); got != at.want {
			t.Errorf("after %s, set ahead by %s: %t, want %t", at.mono, at.set, got, at.want)
		}
	}
}

func TestAClockThatNobodySetsIsNotAhead(t *testing.T) {
	t.Parallel()
	a := Watch()
	for range 1000 {
		if a.Within(time.Hour) {
			t.Fatal("ahead")
		}
	}
}

func BenchmarkWithin(b *testing.B) {
	a := Watch()
	for b.Loop() {
		a.Within(time.Minute)
	}
}
