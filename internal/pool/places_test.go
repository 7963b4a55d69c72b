package pool

import (
	"fmt"
	"testing"
)

func TestARequesterTakesNoPlacesThatOthersNeed(t *testing.T) {
	t.Parallel()
	p := NewPlaces(10, 6)
	flood, ok := p.TryAcquire("flood", 5)
	if !ok {
		t.Fatal("the first is refused")
	}
	if _, ok := p.TryAcquire("flood", 2); ok {
		t.Error("one requester takes more than its part")
	}
	other, ok := p.TryAcquire("other", 8)
	if !ok {
		t.Error("a requester that holds nothing is refused")
	}
	if _, ok := p.TryAcquire("flood", 1); ok {
		t.Error("more is taken than there is, by one that holds something")
	}
	other()
	other() // once
	if release, ok := p.TryAcquire("flood", 1); !ok {
		t.Error("a requester is refused when there is room again")
	} else {
		release()
	}
	flood()
	if len(p.held) > 0 || p.sum != 0 {
		t.Errorf("%v and %d are remembered of what was given back", p.held, p.sum)
	}
}

// Requesters that each hold one thing have a bound too, and are served again when
// there is room.
func TestPlacesOfManyRequestersAreBounded(t *testing.T) {
	t.Parallel()
	p := NewPlaces(10, 6)
	var taken []func()
	for n := range 30 {
		if release, ok := p.TryAcquire(fmt.Sprint("requester ", n), 1); ok {
			taken = append(taken, release)
		}
	}
	if len(taken) != 20 {
		t.Errorf("%d of 30 requesters hold a place, want twice the total of 10", len(taken))
	}
	for _, release := range taken {
		release()
	}
	large, ok := p.TryAcquire("large", 50)
	if !ok {
		t.Error("a thing larger than all places is refused while nobody holds any")
	}
	if _, ok := p.TryAcquire("small", 1); ok {
		t.Error("another is served beside it")
	}
	large()
	if _, ok := p.TryAcquire("small", 1); !ok {
		t.Error("a requester is refused when there is room again")
	}
}
