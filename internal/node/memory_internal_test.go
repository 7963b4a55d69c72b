package node

import "testing"

// What a storm of registrations needed is given back, and what a busy process
// will need again in a moment is not.
func TestMemoryIsGivenBackWhenThereIsMuchOfItAndLittleGoesOn(t *testing.T) {
	t.Parallel()
	const mib = 1 << 20
	for _, c := range []struct {
		what        string
		before, now memory
		want        bool
	}{
		{"after a storm", memory{total: 900 * mib}, memory{live: 80 * mib, objects: 120 * mib, free: 40 * mib, total: 901 * mib}, true},
		{"in a storm", memory{total: 800 * mib}, memory{live: 80 * mib, objects: 120 * mib, free: 40 * mib, total: 900 * mib}, false},
		{"garbage alone", memory{total: 900 * mib}, memory{live: 80 * mib, objects: 140 * mib, total: 901 * mib}, true},
		{"kept for the next collection alone", memory{total: 900 * mib}, memory{live: 80 * mib, objects: 80 * mib, free: 60 * mib, total: 900 * mib}, true},
		{"just given back", memory{total: 900 * mib}, memory{live: 80 * mib, objects: 81 * mib, free: 3 * mib, total: 901 * mib}, false},
		{"little of much", memory{total: 9000 * mib}, memory{live: 4000 * mib, objects: 4500 * mib, free: 400 * mib, total: 9001 * mib}, false},
		{"a small process", memory{total: 90 * mib}, memory{live: 8 * mib, objects: 15 * mib, free: 8 * mib, total: 90 * mib}, false},
		{"a collection that found more alive than there is now", memory{total: 90 * mib}, memory{live: 80 * mib, objects: 79 * mib, free: 1 * mib, total: 90 * mib}, false},
	} {
		if got := c.now.worthGivingBack(c.before); got != c.want {
			t.Errorf("%s: %v", c.what, got)
		}
	}
}

// The names of the runtime's figures are known to it: one that is not panics.
func TestMemoryIsRead(t *testing.T) {
	t.Parallel()
	if m := lookAtMemory(); m.objects == 0 || m.total < m.objects {
		t.Errorf("%+v", m)
	}
}
