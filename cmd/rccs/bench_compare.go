package main

import (
	"encoding/json"
	"fmt"
	"os"
	"strings"

	"github.com/spf13/cobra"

	"github.com/rccs-io/rccs/internal/load"
)

type compareFlags struct {
	tolerance    uint
	strict, json bool
}

func newCompareCommand(env *environment) *cobra.Command {
	var f compareFlags
	cmd := &cobra.Command{
		Use:   "compare A.json B.json",
		Short: "Set one result beside another",
		Long: `Print the figures of two results of one scenario, the older first, and which of
them have become better or worse. On a machine that others use as well, figures
vary by a tenth and more from run to run: compare several.`,
		Example: `  rccs bench latency --save before.json
  rccs bench latency --save after.json
  rccs bench compare before.json after.json
  rccs bench compare before.json after.json --tolerance 25 --strict`,
		Args:              arguments(2, "the files A.json and B.json that --save or --json wrote"),
		ValidArgsFunction: cobra.FixedCompletions([]cobra.Completion{"json"}, cobra.ShellCompDirectiveFilterFileExt),
		RunE:              func(_ *cobra.Command, args []string) error { return env.compare(&f, args[0], args[1]) },
	}
	flags := cmd.Flags()
	flags.UintVar(&f.tolerance, "tolerance", 10, "ignore a change of less than `percent`")
	flags.BoolVar(&f.strict, "strict", false, "end with status 1 when a figure has become worse")
	flags.BoolVarP(&f.json, "json", "j", false, "print JSON")
	return cmd
}

func (env *environment) compare(f *compareFlags, first, second string) error {
	a, err := readResult(first)
	if err != nil {
		return err
	}
	b, err := readResult(second)
	if err != nil {
		return err
	}
	c, err := load.Compare(a, b, float64(f.tolerance)/100)
	if err != nil {
		return err
	}
	if f.json {
		err = env.json(c)
	} else {
		for _, s := range c.Differ {
			env.note("not the same load: %s is %s and %s", s.Name, s.A, s.B)
		}
		err = env.table(compareTable(c))
	}
	if worse := c.Worse(); err == nil && f.strict && len(worse) > 0 {
		return fmt.Errorf("worse by more than %d %%: %s", f.tolerance, strings.Join(worse, ", "))
	}
	return err
}

func compareTable(c *load.Comparison) *table {
	t := newTable(column{title: "METRIC"}, column{title: "A", right: true}, column{title: "B", right: true},
		column{title: "B/A", right: true}, column{title: "B IS"})
	value := func(m *load.Metric) string {
		if m == nil {
			return "-"
		}
		return m.String()
	}
	for _, m := range c.Changes {
		ratio := "-"
		if m.Ratio > 0 {
			ratio = fmt.Sprintf("%.2f", m.Ratio)
		}
		t.row(m.Name, value(m.A), value(m.B), ratio, string(m.Verdict))
	}
	return t
}

func readResult(path string) (*load.Result, error) {
	data, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	r := new(load.Result)
	if err := json.Unmarshal(data, r); err != nil {
		return nil, fmt.Errorf("%s: not a result of 'rccs bench': %w", path, err)
	}
	return r, nil
}
