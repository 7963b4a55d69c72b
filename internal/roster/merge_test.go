package roster_test

import (
	"testing"

	"github.com/rccs-io/rccs/internal/roster"
)

// An edge that serves several shards is one. Two that were given one name are two:
// an operator who sees one would not know why their leases end all the time.
func TestTwoEdgesOfOneNameAreTwo(t *testing.T) {
	t.Parallel()
	got := roster.MergeEdges([]roster.Edge{
		{ID: "3", Name: "b", Process: "z", Devices: 1},
		{ID: "1", Name: "a", Process: "x", Devices: 2},
		{ID: "2", Name: "a", Process: "y", Devices: 4},
		{ID: "4", Name: "a", Process: "x", Devices: 8, Unready: "no store", Draining: true},
	})
	if len(got) != 3 || got[0].ID != "1" || got[1].ID != "2" || got[2].ID != "3" {
		t.Fatalf("merged to %+v", got)
	}
	if e := got[0]; e.Devices != 10 || e.Unready != "no store" || !e.Draining {
		t.Errorf("of a process with two leases is left %+v", e)
	}
	if e := got[1]; e.Devices != 4 || e.Unready != "" || e.Draining {
		t.Errorf("the other one of its name is %+v", e)
	}
}
