//go:build !race

package edge

import "testing"

// What a message may allocate here: on its way in the strings of its envelope,
// and the names under which it is stored; on its way out nothing. Package wsconn
// has the same test of its part.
func TestAllocationsOfAMessage(t *testing.T) { //nolint:paralleltest // counted for the whole process
	for name, path := range map[string]struct {
		run func()
		max float64
	}{
		"read":  {readPath(t), 2},
		"write": {writePath(t), 0},
	} {
		if got := testing.AllocsPerRun(1000, path.run); got > path.max {
			t.Errorf("%s: %.0f allocations a message, limit %.0f", name, got, path.max)
		}
	}
}
