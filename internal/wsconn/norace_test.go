//go:build !race

package wsconn

import "testing"

// A message allocates gorilla's reader of it on its way in, and nothing on its
// way out.
func TestAllocationsOfAMessage(t *testing.T) { //nolint:paralleltest // counted for the whole process
	c, h := onTape(t)
	for name, path := range map[string]struct {
		run func() bool
		max float64
	}{
		"read": {func() bool {
			before := h.messages
			return c.read() && h.messages == before+1
		}, 1},
		"write": {func() bool { return c.writeRound(controls{}) == nil }, 0},
	} {
		got := testing.AllocsPerRun(1000, func() {
			if !path.run() {
				t.Fatal(name)
			}
		})
		if got > path.max {
			t.Errorf("%s: %.0f allocations a message, limit %.0f", name, got, path.max)
		}
	}
}
