package load

import (
	"errors"
	"fmt"
	"math"
	"slices"
)

// Change is one metric of two results.
type Change struct {
	Name    string  `json:"name"`
	A       *Metric `json:"a"` // nil where the result does not have it
	B       *Metric `json:"b"`
	Ratio   float64 `json:"ratio,omitempty"` // B to A; 0 where that has no meaning
	Verdict Verdict `json:"verdict,omitempty"`
}

// Verdict says what a change is worth.
type Verdict string

// Verdicts. Same is a change within the tolerance.
const (
	BetterNow Verdict = "better"
	WorseNow  Verdict = "worse"
	Same      Verdict = "same"
	NoVerdict Verdict = "" // of a metric of which neither is better
)

// Comparison is two results side by side.
type Comparison struct {
	Changes []Change `json:"changes"`
	// Differ are the settings that are not the same, with both values: the
	// figures are then not of the same load.
	Differ []SettingChange `json:"differ,omitempty"`
}

// SettingChange is a setting that two results do not share.
type SettingChange struct {
	Name string `json:"name"`
	A    string `json:"a"`
	B    string `json:"b"`
}

// Compare sets b beside a, which is older. A metric that has changed by no
// more than the tolerance, 0.1 for a tenth, is the same.
func Compare(a, b *Result, tolerance float64) (*Comparison, error) {
	switch {
	case a.Scenario != b.Scenario:
		return nil, fmt.Errorf("load: results of %q and of %q have nothing in common: compare two of one scenario", a.Scenario, b.Scenario)
	case a.Scenario == "":
		return nil, errors.New("load: not results of a bench: want files that --json wrote")
	case a.Failed != "":
		return nil, fmt.Errorf("load: the first result is of a run that failed, its figures mean nothing: %s", a.Failed)
	case b.Failed != "":
		return nil, fmt.Errorf("load: the second result is of a run that failed, its figures mean nothing: %s", b.Failed)
	case !(tolerance >= 0): // not a number either
		return nil, fmt.Errorf("load: a tolerance of %v: want 0 or more", tolerance)
	}
	c := &Comparison{Differ: differ(a.Settings, b.Settings)}
	for i := range a.Metrics {
		c.Changes = append(c.Changes, change(&a.Metrics[i], find(b.Metrics, a.Metrics[i].Name), tolerance))
	}
	for i := range b.Metrics {
		if m := &b.Metrics[i]; find(a.Metrics, m.Name) == nil {
			c.Changes = append(c.Changes, Change{Name: m.Name, B: m})
		}
	}
	return c, nil
}

// Worse are the names of what has become worse.
func (c *Comparison) Worse() (names []string) {
	for _, m := range c.Changes {
		if m.Verdict == WorseNow {
			names = append(names, m.Name)
		}
	}
	return names
}

func find(all []Metric, name string) *Metric {
	i := slices.IndexFunc(all, func(m Metric) bool { return m.Name == name })
	if i < 0 {
		return nil
	}
	return &all[i]
}

func change(a, b *Metric, tolerance float64) Change {
	c := Change{Name: a.Name, A: a, B: b}
	if b == nil || a.Unit != b.Unit {
		return c
	}
	if a.Value != 0 {
		c.Ratio = b.Value / a.Value
	}
	grew := b.Value > a.Value
	switch {
	case a.Better == "":
	case math.Abs(b.Value-a.Value) <= tolerance*math.Abs(a.Value):
		c.Verdict = Same
	case grew == (a.Better == More):
		c.Verdict = BetterNow
	default:
		c.Verdict = WorseNow
	}
	return c
}

func differ(a, b []Setting) (all []SettingChange) {
	value := func(of []Setting, name string) string {
		i := slices.IndexFunc(of, func(s Setting) bool { return s.Name == name })
		if i < 0 {
			return "-"
		}
		return of[i].Value
	}
	seen := make(map[string]bool)
	for _, s := range slices.Concat(a, b) {
		if x, y := value(a, s.Name), value(b, s.Name); x != y && !seen[s.Name] {
			all = append(all, SettingChange{Name: s.Name, A: x, B: y})
		}
		seen[s.Name] = true
	}
	return all
}
