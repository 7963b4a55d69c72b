package chaos_test

import (
	"strings"
	"testing"

	"github.com/rccs-io/rccs/wire"
)

// A checker that finds nothing must be able to.
func TestTheCheckerFindsWhatIsWrong(t *testing.T) {
	t.Parallel()
	f := flow{from: "a", to: "b", lane: 1}
	gap := func(from, to uint64) []wire.Gap {
		return []wire.Gap{{Lane: "normal", From: from, To: to, Count: 1, Reason: wire.ReasonPurged}}
	}
	for name, c := range map[string]struct {
		arrives []int // negative: -n-1, marked as redelivered
		gaps    []wire.Gap
		wrong   string // in what is blamed
		want    tally
	}{
		"all well":               {[]int{0, 1, 2, 3}, nil, "", tally{accepted: 4, delivered: 4}},
		"a loss":                 {[]int{0, 1, 3}, nil, "the first is 2", tally{accepted: 4, delivered: 3, silent: 1}},
		"a loss that is told":    {[]int{0, 1, 3}, gap(102, 102), "", tally{accepted: 4, delivered: 3, told: 1}},
		"another is told":        {[]int{0, 1, 3}, gap(103, 103), "the first is 2", tally{accepted: 4, delivered: 3, silent: 1}},
		"the last":               {[]int{0, 1, 2}, nil, "the first is 3", tally{accepted: 4, delivered: 3, silent: 1}},
		"a repeat":               {[]int{0, 1, 1, 2, 3}, nil, "1 came 2 times", tally{accepted: 4, delivered: 4, redelivered: 1, unflagged: 1}},
		"a repeat that says so":  {[]int{0, 1, -2, 2, 3}, nil, "", tally{accepted: 4, delivered: 4, redelivered: 1}},
		"a swap":                 {[]int{0, 2, 1, 3}, nil, "1 came late", tally{accepted: 4, delivered: 4, reordered: 1}},
		"unasked":                {[]int{0, 1, 2, 3, 7}, nil, "7 came, and was never sent", tally{accepted: 4, delivered: 4}},
		"nothing":                {nil, nil, "4 are lost", tally{accepted: 4, silent: 4}},
		"the first":              {[]int{1, 2, 3}, nil, "the first is 0", tally{accepted: 4, delivered: 3, silent: 1}},
		"a gap without a reason": {[]int{0, 1, 2, 3}, []wire.Gap{{Lane: "normal", From: 1, To: 1, Reason: wire.ReasonDamaged}}, "told of a gap", tally{accepted: 4, delivered: 4}},
	} {
		l := newLedger()
		l.allow(wire.ReasonPurged)
		for n := range 4 {
			l.accept(f, n, uint64(100+n))
		}
		for _, n := range c.arrives {
			l.arrive(f, max(n, -n-1), 0, n < 0)
		}
		for _, g := range c.gaps {
			l.gap("b", g)
		}
		if got := l.total(true); got != c.want {
			t.Errorf("%s: counted %+v, want %+v", name, got, c.want)
		}
		wrong := strings.Join(l.errors(), "; ")
		if (c.wrong == "") != (wrong == "") || !strings.Contains(wrong, c.wrong) {
			t.Errorf("%s: blamed %q, want %q", name, wrong, c.wrong)
		}
		if missing := l.missing(); (len(missing) > 0) != (c.want.silent > 0) {
			t.Errorf("%s: missing %v", name, missing)
		}
	}
}
