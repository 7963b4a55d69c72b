package inbox

import (
	"testing"

	"github.com/rccs-io/rccs/internal/natstest"
	"github.com/rccs-io/rccs/subjects"
)

// The store is not asked which lanes have something new when a sweep has all that
// the device may lack; when it lacks some of one lane, the store is.
func TestTheStoreIsAskedForWhatNoSweepHas(t *testing.T) {
	t.Parallel()
	h := threeCopies(t, natstest.Server(t))
	const from, to, floor = 10, 20, 30 // a sweep of 10 to 19; the tail begins at 30
	mailbox := func(positions [subjects.Lanes]uint64) *Mailbox {
		mb := &Mailbox{hub: h}
		for n, pos := range positions {
			mb.lanes[n].readPos = pos
		}
		return mb
	}
	if h.sweptFor(mailbox([subjects.Lanes]uint64{9, 9, 9, 9}), floor) {
		t.Error("without a sweep the store is not asked")
	}
	h.sweeps.current = &sweep{from: from, to: to}
	for _, c := range []struct {
		positions [subjects.Lanes]uint64
		swept     bool
	}{
		{[subjects.Lanes]uint64{9, 9, 9, 9}, true},
		{[subjects.Lanes]uint64{18, 9, 15, 9}, true},
		{[subjects.Lanes]uint64{29, 9, 15, 40}, true}, // two lanes go on in the tail
		{[subjects.Lanes]uint64{9, 8, 9, 9}, false},   // 9 was not swept
		{[subjects.Lanes]uint64{9, 9, 9, 19}, false},  // nor was 20
	} {
		if got := h.sweptFor(mailbox(c.positions), floor); got != c.swept {
			t.Errorf("lanes at %v: served by the sweep: %v, want %v", c.positions, got, c.swept)
		}
	}
}
