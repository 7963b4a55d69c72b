package chaos_test

import (
	"strings"
	"testing"
)

// A checker that finds nothing must be able to.
func TestTheCheckerFindsWhatIsWrong(t *testing.T) {
	t.Parallel()
	s := stream{from: "a", to: "b", lane: 1}
	for name, c := range map[string]struct {
		arrives []int
		wrong   string // in what is blamed
		missing bool
	}{
		"all well":  {[]int{0, 1, 2, 3}, "", false},
		"a loss":    {[]int{0, 1, 3}, "3 came where 2 was next", false},
		"the last":  {[]int{0, 1, 2}, "", true},
		"a repeat":  {[]int{0, 1, 1, 2, 3}, "1 came again", false},
		"a swap":    {[]int{0, 2, 1, 3}, "2 came where 1", false},
		"unasked":   {[]int{0, 1, 2, 3, 7}, "7 came where 4", false},
		"nothing":   {nil, "", true},
		"the first": {[]int{1, 2, 3}, "1 came where 0", false},
	} {
		b := newBook()
		for n := range 4 {
			b.accept(s, n, 0)
		}
		for _, n := range c.arrives {
			b.arrive(s, n)
		}
		wrong := strings.Join(b.errors(), "; ")
		if (c.wrong == "") != (wrong == "") || !strings.Contains(wrong, c.wrong) {
			t.Errorf("%s: blamed %q, want %q", name, wrong, c.wrong)
		}
		if got := len(b.missing()) > 0; got != c.missing {
			t.Errorf("%s: missing %v", name, b.missing())
		}
	}
}
