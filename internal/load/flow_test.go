package load

import (
	"errors"
	"testing"
)

// fed is a ledger with one flow of which a number of messages was sent, fed
// with what came.
func fed(sent uint64, cut bool, again bool, came ...uint64) (*ledger, error) {
	l := newLedger()
	f := l.flow("a to b", Name{"u", "b"})
	f.cut.Store(cut)
	for range sent {
		f.next()
	}
	for _, n := range came {
		f.arrive(n, again)
	}
	return l, l.close()
}

// The ledger is what all figures rest on: each way to go wrong must be found.
func TestLedgerFindsWhatIsWrong(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		sent       uint64
		came       []uint64
		cut, again bool
		want       string
	}{
		"right":                      {sent: 3, came: []uint64{1, 2, 3}},
		"nothing":                    {},
		"a duplicate":                {sent: 3, came: []uint64{1, 2, 2, 3}, want: "message 2 of a to b came twice"},
		"a duplicate, later":         {sent: 3, came: []uint64{1, 2, 3, 1}, want: "message 1 of a to b came twice"},
		"a loss":                     {sent: 3, came: []uint64{1, 3}, want: "message 2 of a to b is lost: later ones came"},
		"a loss at the begin":        {sent: 2, came: []uint64{2}, want: "message 1 of a to b is lost: later ones came"},
		"a loss at the end":          {sent: 3, came: []uint64{1, 2}, want: "message 3 of a to b is lost: 3 were sent, 2 came"},
		"all lost":                   {sent: 2, want: "message 1 of a to b is lost: 2 were sent, 0 came"},
		"a swap":                     {sent: 3, came: []uint64{1, 3, 2}, want: "message 2 of a to b came after a later one"},
		"never sent":                 {sent: 2, came: []uint64{1, 2, 3}, want: "message 3 of a to b was never sent"},
		"the first of several":       {sent: 5, came: []uint64{1, 1, 5, 3}, want: "message 1 of a to b came twice"},
		"again, after a cut":         {sent: 3, came: []uint64{1, 2, 1, 2, 3}, cut: true, again: true},
		"again, after a cut, silent": {sent: 3, came: []uint64{1, 2, 1, 3}, cut: true, want: "message 1 of a to b came twice"},
		"again, without a cut":       {sent: 3, came: []uint64{1, 2, 1, 3}, again: true, want: "message 1 of a to b came twice"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			l, err := fed(c.sent, c.cut, c.again, c.came...)
			if c.want == "" {
				if err != nil || !l.complete() {
					t.Errorf("error %v, complete %t", err, l.complete())
				}
				return
			}
			var v *Violation
			if !errors.As(err, &v) || v.Error() != c.want {
				t.Errorf("error %v, want %q", err, c.want)
			}
		})
	}
}

func TestLedgerTellsFlowsApart(t *testing.T) {
	t.Parallel()
	l := newLedger()
	a, b := l.flow("a", Name{}), l.flow("b", Name{})
	a.next()
	b.next()
	b.next()
	a.arrive(1, false)
	b.arrive(1, false)
	select {
	case <-l.broken:
		t.Error("broken when nothing is")
	default:
	}
	b.arrive(1, false)
	<-l.broken
	if err := l.close(); err == nil || err.Error() != "message 1 of b came twice" {
		t.Errorf("error %v", err)
	}
	if l.find(a.id) != a || l.find(b.id) != b || l.find(2) != nil {
		t.Error("flows are not found by their numbers")
	}
}
