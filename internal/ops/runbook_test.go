package ops_test

import (
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
)

// Whoever gets a finding looks for its words. So docs/runbook.md has each check
// of the doctor as a heading, and the words of each finding.
func TestEveryFindingOfTheDoctorIsInTheRunbook(t *testing.T) {
	t.Parallel()
	page, err := os.ReadFile("../../docs/runbook.md")
	if err != nil {
		t.Fatal(err)
	}
	runbook := strings.Join(strings.Fields(string(page)), " ")
	files, err := filepath.Glob("*.go")
	if err != nil {
		t.Fatal(err)
	}
	checks, findings := 0, 0
	for _, file := range files {
		if strings.HasSuffix(file, "_test.go") {
			continue
		}
		parsed, err := parser.ParseFile(token.NewFileSet(), file, nil, 0)
		if err != nil {
			t.Fatal(err)
		}
		ast.Inspect(parsed, func(n ast.Node) bool {
			switch n := n.(type) {
			case *ast.CompositeLit: // {"server", d.server}
				if len(n.Elts) != 2 {
					return true
				}
				method, ok := n.Elts[1].(*ast.SelectorExpr)
				if !ok || text(method.X) != "d" {
					return true
				}
				checks++
				if name := text(n.Elts[0]); !strings.Contains(string(page), "\n### "+name+"\n") {
					t.Errorf("the runbook has no heading %q", "### "+name)
				}
			case *ast.CallExpr:
				method, ok := n.Fun.(*ast.SelectorExpr)
				if !ok || text(method.X) != "d" || method.Sel.Name != "note" && method.Sel.Name != "fill" && method.Sel.Name != "skew" {
					return true
				}
				what := n.Args[min(2, len(n.Args)-1)]
				if method.Sel.Name != "note" {
					what = n.Args[1]
				}
				all := fixedWords(what)
				if len(all) == 0 {
					return true // an error's own words, or a name
				}
				findings++
				for _, words := range all {
					if !strings.Contains(runbook, words) {
						t.Errorf("%s: the runbook does not have the words %q of a finding", file, words)
					}
				}
			}
			return true
		})
	}
	if checks < 12 || findings < 18 {
		t.Errorf("%d checks and %d findings were found", checks, findings)
	}
}

// text is a name or the value of a literal.
func text(e ast.Expr) string {
	switch e := e.(type) {
	case *ast.Ident:
		return e.Name
	case *ast.BasicLit:
		s, _ := strconv.Unquote(e.Value)
		return s
	}
	return ""
}

var verbs = regexp.MustCompile(`%[a-z%]`)

// fixedWords are the runs of fixed words in an expression, but for short ones,
// which stand in any text.
func fixedWords(e ast.Expr) (all []string) {
	ast.Inspect(e, func(n ast.Node) bool {
		lit, ok := n.(*ast.BasicLit)
		if !ok {
			return true
		}
		for _, part := range verbs.Split(text(lit), -1) {
			if part = strings.Trim(strings.Join(strings.Fields(part), " "), " :;,"); len(part) >= 10 {
				all = append(all, part)
			}
		}
		return true
	})
	return all
}
