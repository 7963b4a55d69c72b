package main

import (
	"fmt"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/rccs-io/rccs/internal/audit"
	"github.com/rccs-io/rccs/internal/ops"
	"github.com/rccs-io/rccs/subjects"
)

// polish makes the commands that cobra adds, help and completion, keep to the
// exit statuses of ours, and tells shells what may follow each flag.
func (env *environment) polish(root *cobra.Command) {
	root.InitDefaultHelpCmd()
	root.InitDefaultCompletionCmd()
	for _, cmd := range root.Commands() {
		switch cmd.Name() {
		case "help":
			cmd.RunE = help
		case "completion":
			group(cmd)
		}
	}
	each(root, func(cmd *cobra.Command) {
		cmd.Long = fill(cmd.Long)
		strict(cmd)
		alias(cmd)
		env.completeArguments(cmd)
		env.completeFlags(cmd)
	})
}

// helpWidth is the longest line of help, in columns.
const helpWidth = 80

// fill breaks the lines of a text so that they fit a terminal. Paragraphs with
// columns or with lines that are indented stay as they are.
func fill(text string) string {
	parts := strings.Split(text, "\n\n")
	for i, part := range parts {
		if strings.Contains(part, "  ") {
			continue
		}
		var b strings.Builder
		column := 0
		for word := range strings.FieldsSeq(part) {
			n := utf8.RuneCountInString(word)
			switch {
			case column == 0:
			case column+1+n > helpWidth:
				b.WriteString("\n")
				column = 0
			default:
				b.WriteString(" ")
				column++
			}
			b.WriteString(word)
			column += n
		}
		parts[i] = b.String()
	}
	return strings.Join(parts, "\n\n")
}

// alias gives a command its other common name.
func alias(cmd *cobra.Command) {
	switch cmd.Name() {
	case "ls":
		cmd.Aliases = append(cmd.Aliases, "list")
	case "rm":
		cmd.Aliases = append(cmd.Aliases, "remove", "delete")
	}
}

func each(cmd *cobra.Command, f func(*cobra.Command)) {
	f(cmd)
	for _, sub := range cmd.Commands() {
		each(sub, f)
	}
}

// help is cobra's, but for a topic that does not exist: that is bad usage.
func help(cmd *cobra.Command, args []string) error {
	topic, rest, err := cmd.Root().Find(args)
	if err != nil || len(rest) > 0 {
		return usageError{fmt.Errorf("no help on %q: there is no such command", strings.Join(args, " "))}
	}
	topic.InitDefaultHelpFlag() // so that it is listed
	topic.InitDefaultVersionFlag()
	return topic.Help()
}

// strict makes wrong arguments bad usage, whoever checks them.
func strict(cmd *cobra.Command) {
	check := cmd.Args
	if check == nil {
		return
	}
	cmd.Args = func(cmd *cobra.Command, args []string) error {
		if err := check(cmd, args); err != nil {
			return usageError{err}
		}
		return nil
	}
}

// values are what a flag can be, where that is a short list.
var values = map[string][]string{
	"priority":   {subjects.Low.String(), subjects.Normal.String(), subjects.High.String(), subjects.Critical.String()},
	"lane":       {subjects.Low.String(), subjects.Normal.String(), subjects.High.String(), subjects.Critical.String()},
	"sort":       ops.InboxOrders(),
	"log-level":  {"debug", "info", "warn", "error"},
	"log-format": {formatAuto, formatText, formatJSON},
	"action":     audit.Actions(),
}

// files are the flags whose file's name has an end of its own.
var files = map[string][]string{"creds": {"creds"}, "config": {"conf"}, "tokens": {"tokens", "txt"}, "save": {"json"}}

// completeFlags offers names of files only where a file is meant.
func (env *environment) completeFlags(cmd *cobra.Command) {
	if cmd.ValidArgsFunction == nil && !cmd.HasSubCommands() {
		cmd.ValidArgsFunction = cobra.NoFileCompletions
	}
	// The functions used here fail on a flag that does not exist.
	cmd.LocalFlags().VisitAll(func(f *pflag.Flag) {
		placeholder, _ := pflag.UnquoteUsage(f)
		if has, ok := cmd.GetFlagCompletionFunc(f.Name); ok && has != nil {
			return
		}
		switch offered := env.flagNames(cmd, f.Name); {
		case offered != nil:
			_ = cmd.RegisterFlagCompletionFunc(f.Name, offered)
		case placeholder == "directory":
			_ = cmd.MarkFlagDirname(f.Name)
		case placeholder == "file" || placeholder == "program":
			_ = cmd.MarkFlagFilename(f.Name, files[f.Name]...)
		case f.NoOptDefVal == "": // it takes a value
			_ = cmd.RegisterFlagCompletionFunc(f.Name,
				cobra.FixedCompletions(slices.Clone(values[f.Name]), cobra.ShellCompDirectiveNoFileComp|cobra.ShellCompDirectiveKeepOrder))
		}
	})
}
