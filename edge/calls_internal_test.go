package edge

import (
	"strconv"
	"testing"
)

// However many requesters there are, a device has so many requests to answer and no
// more; one that floods it leaves room for others.
func TestRequestsOfManyToADeviceAreBounded(t *testing.T) {
	t.Parallel()
	var c calls
	ask := func(who string) bool {
		if !c.mayAskLocked(who) {
			return false
		}
		c.addLocked(&served{id: strconv.Itoa(len(c.serving)), who: who})
		return true
	}
	flood, others := 0, 0
	for range maxServing {
		if ask("flood") {
			flood++
		}
	}
	for n := range 3 * maxServing {
		if ask("requester " + strconv.Itoa(n)) {
			others++
		}
	}
	if flood != maxServingOf || flood+others != 2*maxServing {
		t.Errorf("%d of one requester and %d of others are open, want %d and %d in all", flood, others, maxServingOf, 2*maxServing)
	}
}
