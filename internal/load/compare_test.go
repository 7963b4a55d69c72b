package load_test

import (
	"slices"
	"strings"
	"testing"

	"github.com/rccs-io/rccs/internal/load"
)

func TestCompare(t *testing.T) {
	t.Parallel()
	metric := func(name string, value float64, better string) load.Metric {
		return load.Metric{Name: name, Value: value, Unit: "ms", Better: better}
	}
	a := &load.Result{
		Scenario: "latency", Settings: []load.Setting{{"devices", "10"}, {"rate", "5"}},
		Metrics: []load.Metric{
			metric("p50", 10, load.Less), metric("p99", 10, load.Less), metric("max", 10, load.Less), metric("rate", 10, load.More),
			metric("slower", 10, load.More), metric("neither", 10, ""), metric("gone", 10, load.Less), metric("from 0", 0, load.Less), metric("stays 0", 0, load.Less),
		},
	}
	b := &load.Result{
		Scenario: "latency", Settings: []load.Setting{{"devices", "20"}, {"rate", "5"}, {"new", "x"}},
		Metrics: []load.Metric{
			metric("p50", 5, load.Less), metric("p99", 20, load.Less), metric("max", 11, load.Less), metric("rate", 20, load.More),
			metric("slower", 8, load.More), metric("neither", 30, ""), metric("from 0", 3, load.Less), metric("stays 0", 0, load.Less), metric("added", 1, load.Less),
		},
	}
	c, err := load.Compare(a, b, 0.1)
	if err != nil {
		t.Fatal(err)
	}
	want := map[string]struct {
		ratio   float64
		verdict load.Verdict
	}{
		"p50": {0.5, load.BetterNow}, "p99": {2, load.WorseNow}, "max": {1.1, load.Same}, "rate": {2, load.BetterNow}, "slower": {0.8, load.WorseNow},
		"neither": {3, load.NoVerdict}, "gone": {0, load.NoVerdict}, "from 0": {0, load.WorseNow}, "stays 0": {0, load.Same}, "added": {0, load.NoVerdict},
	}
	if len(c.Changes) != len(want) {
		t.Errorf("%d changes, want %d", len(c.Changes), len(want))
	}
	for _, m := range c.Changes {
		if w := want[m.Name]; m.Ratio != w.ratio || m.Verdict != w.verdict {
			t.Errorf("%s: %v, %q, want %v, %q", m.Name, m.Ratio, m.Verdict, w.ratio, w.verdict)
		}
	}
	if got := c.Worse(); !slices.Equal(got, []string{"p99", "slower", "from 0"}) {
		t.Errorf("worse: %q", got)
	}
	if want := []load.SettingChange{{"devices", "10", "20"}, {"new", "-", "x"}}; !slices.Equal(c.Differ, want) {
		t.Errorf("settings: %v, want %v", c.Differ, want)
	}
}

func TestWhatCannotBeCompared(t *testing.T) {
	t.Parallel()
	fine, other := &load.Result{Scenario: "latency"}, &load.Result{Scenario: "storm"}
	failed := &load.Result{Scenario: "latency", Failed: "message 3 came twice"}
	for want, c := range map[string]struct{ a, b *load.Result }{
		"nothing in common": {fine, other},
		"not results":       {&load.Result{}, &load.Result{}},
		"the first result":  {failed, fine},
		"the second result": {fine, failed},
	} {
		if _, err := load.Compare(c.a, c.b, 0.1); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("error %v, want one with %q", err, want)
		}
	}
}
