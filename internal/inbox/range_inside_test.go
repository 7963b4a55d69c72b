package inbox

import (
	"slices"
	"testing"
)

// Thousands of devices may find the same damage, and each stores what it has lost.
func TestRangesOfDamageThatMeetAreOne(t *testing.T) {
	t.Parallel()
	var all [][2]uint64
	for from := uint64(10); from < 5000; from += 3 { // each meets the next
		all = withRange(all, [2]uint64{from, from + 2})
	}
	all = withRange(all, [2]uint64{1, 2})
	all = withRange(all, [2]uint64{20, 30}) // within
	if want := [][2]uint64{{1, 2}, {10, 5001}}; !slices.Equal(all, want) {
		t.Errorf("ranges %v, want %v", all, want)
	}
	if all = withRange(all, [2]uint64{3, 9}); !slices.Equal(all, [][2]uint64{{1, 5001}}) {
		t.Errorf("ranges %v, want one", all)
	}
}
