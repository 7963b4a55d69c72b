package node_test

import (
	"context"
	"io"
	"net/http"
	"slices"
	"strings"
	"testing"

	"github.com/rccs-io/rccs/auth"
	"github.com/rccs-io/rccs/internal/backbone"
	"github.com/rccs-io/rccs/internal/layout"
	"github.com/rccs-io/rccs/internal/node"
	"github.com/rccs-io/rccs/internal/ops"
	"github.com/rccs-io/rccs/internal/testkit"
)

// Whichever stream or bucket somebody deletes, /readyz says so, with what to do, and
// so does the doctor.
func TestAMissingStreamIsSaidByReadyzAndByTheDoctor(t *testing.T) {
	t.Parallel()
	n := start(t, t.TempDir())
	s := storeOf(t, n, auth.DefaultTenant)
	ready := func() string {
		r, err := http.Get("http://" + n.AdminAddr().String() + "/readyz") //nolint:noctx // it ends with the test
		testkit.Check(t, err)
		defer func() { _ = r.Body.Close() }()
		body, err := io.ReadAll(r.Body)
		testkit.Check(t, err)
		return r.Status + " " + string(body)
	}
	testkit.Eventually(t, "/readyz to be well before", func() bool { return strings.HasPrefix(ready(), "200 ") })
	t.Cleanup(func() { // a node cannot stop without them
		testkit.Check(t, backbone.Ensure(context.WithoutCancel(t.Context()), s.js, backbone.Plan{}))
	})
	testkit.Check(t, s.js.DeleteStream(t.Context(), layout.StreamCursor))
	testkit.Eventually(t, "/readyz to name the one that is missing", func() bool {
		got := ready()
		return strings.HasPrefix(got, "503 ") && strings.Contains(got, "stream RCCS_CURSOR is missing: "+ops.MakeAnew)
	})
	for _, name := range backbone.Streams() {
		if name != layout.StreamCursor {
			testkit.Check(t, s.js.DeleteStream(t.Context(), name))
		}
	}
	names := slices.Sorted(slices.Values(backbone.Streams()))
	testkit.Eventually(t, "/readyz to name all that are missing", func() bool {
		return strings.Contains(ready(), "streams "+strings.Join(names, ", ")+" are missing: ")
	})
	found, err := node.Differences(t.Context(), s.js)
	testkit.Check(t, err)
	var missing []string
	for _, d := range found {
		if d.Missing {
			missing = append(missing, d.Stream)
		}
	}
	if slices.Sort(missing); !slices.Equal(missing, names) {
		t.Errorf("the doctor misses %q of %q", missing, names)
	}
}
