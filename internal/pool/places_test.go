package pool

import "testing"

func TestARequesterTakesNoPlacesThatOthersNeed(t *testing.T) {
	t.Parallel()
	p := NewPlaces(10, 6)
	flood, ok := p.Take("flood", 5)
	if !ok {
		t.Fatal("the first is refused")
	}
	if _, ok := p.Take("flood", 2); ok {
		t.Error("one requester takes more than its part")
	}
	other, ok := p.Take("other", 20)
	if !ok {
		t.Error("a requester that holds nothing is refused")
	}
	if _, ok := p.Take("flood", 1); ok {
		t.Error("more is taken than there is, by one that holds something")
	}
	other()
	other() // once
	if release, ok := p.Take("flood", 1); !ok {
		t.Error("a requester is refused when there is room again")
	} else {
		release()
	}
	flood()
	if len(p.held) > 0 || p.sum != 0 {
		t.Errorf("%v and %d are remembered of what was given back", p.held, p.sum)
	}
}
