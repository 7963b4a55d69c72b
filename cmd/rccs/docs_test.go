package main

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

// Each command and each flag that a page shows exists, so that whoever copies it
// is understood.
func TestDocumentationShowsCommandsThatExist(t *testing.T) {
	t.Parallel()
	var pages []string
	for _, pattern := range []string{"../../*.md", "../../docs/*.md", "../../docs/adr/*.md", "../../deploy/*.md", "../../deploy/*/*.md", "../../examples/*.md", "../../site/*.md"} {
		found, err := filepath.Glob(pattern)
		if err != nil {
			t.Fatal(err)
		}
		pages = append(pages, found...)
	}
	all := map[string]bool{}
	for _, cmd := range tree() {
		cmd.Flags().VisitAll(func(f *pflag.Flag) { all[f.Name] = true })
	}
	root := newRootCommand(console{}.environment(strings.NewReader(""), nil, nil))
	seen := 0
	for _, page := range pages {
		if filepath.Base(page) == "CHANGELOG.md" {
			continue // it tells of what was
		}
		text, err := os.ReadFile(page)
		if err != nil {
			t.Fatal(err)
		}
		for _, line := range shownCommands(string(text)) {
			seen++
			if problem := understood(root, line); problem != "" {
				t.Errorf("%s: rccs %s: %s", page, line, problem)
			}
		}
		for _, m := range bareFlag.FindAllStringSubmatch(string(text), -1) {
			if !all[m[1]] && !foreignFlags[m[1]] {
				t.Errorf("%s: no command has the flag --%s", page, m[1])
			}
		}
	}
	if seen < 150 {
		t.Errorf("only %d commands found in %d pages", seen, len(pages))
	}
}

// Each page begins with whom it is for, so that others can skip it.
func TestEachPageSaysWhomItIsFor(t *testing.T) {
	t.Parallel()
	pages, err := filepath.Glob("../../docs/*.md")
	if err != nil || len(pages) < 20 {
		t.Fatalf("%d pages, %v", len(pages), err)
	}
	for _, page := range pages {
		text, err := os.ReadFile(page)
		if err != nil {
			t.Fatal(err)
		}
		if !forWhom.Match(text) {
			t.Errorf("%s does not begin with its title and a line such as *For operators.*", page)
		}
	}
}

var forWhom = regexp.MustCompile(`\A# [^\n]+\n\n\*For [^\n]+\*\n\n`)

var (
	code     = regexp.MustCompile("(?s)```[^\n]*\n(.*?)```|`([^`\n]+(?:\n[^`\n]+)?)`")
	command  = regexp.MustCompile(`(?m)(^|--context |save |[\s("'$])(?:\./|/usr/)?(?:bin/)?rccs ((?:[^|;&#<>()\n]|\\\n)*)`)
	bareFlag = regexp.MustCompile("`--([a-z0-9-]+)")
	// foreign are command lines of programs to which rccs is a name: of a
	// namespace, or of a release.
	foreign = regexp.MustCompile(`(?m)(?:kubectl|helm) (?:[^\n]*\\\n)*[^\n]*`)
	// foreignFlags are those of other programs.
	foreignFlags = map[string]bool{"save": true, "enable-feature": true, "help": true, "version": true}
)

// prose are words after the name of the program, or a server of this name, that
// are no command: of messages, and of what is signed.
var prose = map[string]bool{"has": true, "is": true, "found": true, "renew": true, "seal": true, "serve:": true}

// shownCommands are the command lines of rccs in code of a page, without the
// program.
func shownCommands(text string) (lines []string) {
	for _, m := range code.FindAllStringSubmatch(text, -1) {
		for _, c := range command.FindAllStringSubmatch(foreign.ReplaceAllString(m[1]+m[2], ""), -1) {
			line := strings.Join(strings.Fields(strings.ReplaceAll(c[2], "\\\n", " ")), " ")
			switch before := c[1]; before {
			case "--context ", "save ": // the name of a context of nats
				continue
			case "'", `"`:
				line, _, _ = strings.Cut(line, before)
			}
			if !prose[strings.Split(line+" ", " ")[0]] {
				lines = append(lines, line)
			}
		}
	}
	return lines
}

// placeholderWord stands for something else in a command line.
var placeholderWord = regexp.MustCompile(`^([A-Z…\[.]|rccs$)`)

// understood returns what is wrong with a command line; "" when nothing is.
func understood(root *cobra.Command, line string) string {
	words := strings.Fields(line)
	if len(words) == 0 || placeholderWord.MatchString(words[0]) || !regexp.MustCompile(`^[a-z-]`).MatchString(words[0]) {
		return ""
	}
	cmd, rest, err := root.Find(words)
	if err != nil {
		return err.Error()
	}
	if cmd == root && !strings.HasPrefix(words[0], "-") {
		return "no such command"
	}
	for _, word := range rest {
		name, isFlag := strings.CutPrefix(strings.TrimRight(strings.Trim(word, `"',.[]`), "`"), "--")
		name, _, _ = strings.Cut(name, "=")
		if isFlag && name != "" && name != "help" && name != "version" && cmd.Flag(name) == nil {
			return "no flag --" + name
		}
	}
	return ""
}
