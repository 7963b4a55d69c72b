package main

import (
	"bytes"
	"cmp"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

// newReferenceCommand writes what --help says as pages: for the documentation's
// site, and as man pages for packages.
func newReferenceCommand(*environment) *cobra.Command {
	var markdown, man string
	cmd := &cobra.Command{
		Use:   "reference",
		Short: "Write the reference of the commands as pages",
		Long:  "Write what --help of every command says: as one page of Markdown, or as man\npages.",
		Example: `  rccs reference --markdown commands.md
  rccs reference --man ./man     # a page for each command, for packages`,
		Hidden: true,
		Args:   arguments(0, "none"),
		RunE: func(cmd *cobra.Command, _ []string) error {
			all := visible(cmd.Root())
			if markdown != "" {
				if err := os.WriteFile(markdown, markdownPage(all), 0o644); err != nil { //nolint:gosec // for everybody to read
					return err
				}
			}
			for _, c := range all {
				if man == "" {
					break
				}
				name := strings.ReplaceAll(c.CommandPath(), " ", "-") + ".1"
				if err := os.WriteFile(filepath.Join(man, name), manPage(c), 0o644); err != nil { //nolint:gosec // likewise
					return err
				}
			}
			return nil
		},
	}
	cmd.Flags().StringVar(&markdown, "markdown", "", "write a page of Markdown to this `file`")
	cmd.Flags().StringVar(&man, "man", "", "write a man page for each command to this `directory`")
	return cmd
}

// visible are a command and all below it that --help lists.
func visible(c *cobra.Command) []*cobra.Command {
	all := []*cobra.Command{c}
	for _, sub := range c.Commands() {
		if !sub.Hidden && sub.Name() != "help" {
			all = append(all, visible(sub)...)
		}
	}
	return all
}

func markdownPage(all []*cobra.Command) []byte {
	var b bytes.Buffer
	b.WriteString("# Commands\n\nWritten by the program itself. Every flag can be given in the environment: `--nats-listen` is `RCCS_NATS_LISTEN`.\n")
	for _, c := range all {
		fmt.Fprintf(&b, "\n## %s\n\n%s\n\n```\n%s\n```\n", c.CommandPath(), paragraphs(c), c.UseLine())
		if c.Example != "" {
			fmt.Fprintf(&b, "\n```sh\n%s\n```\n", strings.TrimSpace(unindent(c.Example)))
		}
		rows := flagRows(c)
		if len(rows) > 0 {
			b.WriteString("\n| flag | |\n| --- | --- |\n")
		}
		for _, r := range rows {
			fmt.Fprintf(&b, "| `%s` | %s |\n", r[0], strings.ReplaceAll(strings.ReplaceAll(r[1], "|", `\|`), "<", "&lt;"))
		}
	}
	return b.Bytes()
}

// paragraphs returns a command's description as Markdown. What is indented becomes
// a code block.
func paragraphs(c *cobra.Command) string {
	var parts []string
	for part := range strings.SplitSeq(cmp.Or(c.Long, c.Short), "\n\n") {
		if strings.Contains(part, "  ") {
			part = "```\n" + part + "\n```"
		} else {
			part = strings.ReplaceAll(part, "<", "&lt;")
		}
		parts = append(parts, part)
	}
	return strings.Join(parts, "\n\n")
}

func unindent(text string) string { return strings.ReplaceAll("\n"+text, "\n  ", "\n") }

// flagRows are the flags of a command itself, with what they are for.
func flagRows(c *cobra.Command) (rows [][2]string) {
	c.LocalFlags().VisitAll(func(f *pflag.Flag) {
		if f.Hidden || f.Name == "help" {
			return
		}
		value, usage := pflag.UnquoteUsage(f)
		name := "--" + f.Name
		if f.Shorthand != "" {
			name = "-" + f.Shorthand + ", " + name
		}
		if value != "" {
			name += " " + value
		}
		if f.DefValue != "" && f.DefValue != "false" && f.DefValue != "[]" && f.DefValue != "0" {
			usage += " (default " + f.DefValue + ")"
		}
		rows = append(rows, [2]string{name, usage})
	})
	return rows
}

// manPage is a command in the macros of man.
func manPage(c *cobra.Command) []byte {
	var b bytes.Buffer
	name := strings.ReplaceAll(c.CommandPath(), " ", "-")
	fmt.Fprintf(&b, ".TH %s 1 \"\" \"rccs %s\" \"RCCS\"\n.SH NAME\n%s \\- %s\n", strings.ToUpper(roff(name)), roff(version), roff(name), roff(c.Short))
	fmt.Fprintf(&b, ".SH SYNOPSIS\n.B %s\n.SH DESCRIPTION\n.nf\n%s\n.fi\n", roff(c.UseLine()), roff(cmp.Or(c.Long, c.Short)))
	if rows := flagRows(c); len(rows) > 0 {
		b.WriteString(".SH OPTIONS\n")
		for _, r := range rows {
			fmt.Fprintf(&b, ".TP\n.B %s\n%s\n", roff(r[0]), roff(r[1]))
		}
	}
	if c.Example != "" {
		fmt.Fprintf(&b, ".SH EXAMPLES\n.nf\n%s\n.fi\n", roff(strings.Trim(unindent(c.Example), "\n")))
	}
	return b.Bytes()
}

// roff is text in which nothing is a command of roff.
func roff(text string) string {
	text = strings.NewReplacer(`\`, `\\`, "-", `\-`).Replace(text)
	lines := strings.Split(text, "\n")
	for i, line := range lines {
		if strings.HasPrefix(line, ".") || strings.HasPrefix(line, "'") {
			lines[i] = `\&` + line
		}
	}
	return strings.Join(lines, "\n")
}
