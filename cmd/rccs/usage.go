package main

import (
	"fmt"
	"strings"
	"text/template"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

// usage returns the function that prints the usage of a command, from cobra's
// template, with flags as flagUsages has them.
func usage(text string) func(*cobra.Command) error {
	text = strings.NewReplacer(
		".LocalFlags.FlagUsages ", "flagUsages .LocalFlags ", ".InheritedFlags.FlagUsages ", "flagUsages .InheritedFlags ",
	).Replace(text)
	parsed := template.Must(template.New("usage").Funcs(template.FuncMap{
		"flagUsages":              flagUsages,
		"rpad":                    func(s string, width int) string { return fmt.Sprintf("%-*s", width, s) },
		"trimTrailingWhitespaces": func(s string) string { return strings.TrimRight(s, " \n") },
	}).Parse(text))
	return func(c *cobra.Command) error { return parsed.Execute(c.OutOrStderr(), c) }
}

// flagUsages describes flags in 80 columns. A switch stands there by its name
// alone, without the values that nobody gives it.
func flagUsages(flags *pflag.FlagSet) string {
	copied := pflag.NewFlagSet("", pflag.ContinueOnError)
	flags.VisitAll(func(f *pflag.Flag) {
		if f.Value.Type() == "bool" {
			plain := *f
			plain.Value, plain.NoOptDefVal = untyped{f.Value}, ""
			f = &plain
		}
		copied.AddFlag(f)
	})
	return copied.FlagUsagesWrapped(80)
}

// untyped is a flag's value that has no type to show.
type untyped struct{ pflag.Value }

// Type implements [pflag.Value].
func (untyped) Type() string { return "" }
