package main

import (
	"bytes"
	"encoding/json"
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"strings"
	"testing"
	"unicode/utf8"
)

// FuzzScreen holds what reaches a terminal to what it may: characters that are
// shown, however the text is cut into writes; and JSON means what it meant.
func FuzzScreen(f *testing.F) {
	for _, s := range []string{"a\u009b31mb", "\u202eabc\u2066", "\x1b[2J", "ü\n\tß", "\xff\xc3", `{"a":"` + "\u2028\u061c" + `"}`, "\U000e0041", "\r"} {
		f.Add(s, 1)
	}
	f.Fuzz(func(t *testing.T, text string, cut int) {
		var out bytes.Buffer
		s := newScreen(&out)
		at := 0
		if len(text) > 0 {
			at = int(uint(cut) % uint(len(text)))
		}
		for _, part := range []string{text[:at], text[at:]} {
			if n, err := s.Write([]byte(part)); err != nil || n != len(part) {
				t.Fatalf("wrote %d, %v", n, err)
			}
		}
		for _, r := range out.String() {
			if obeyed(r) {
				t.Fatalf("%q reaches the terminal as %q", text, out.String())
			}
		}
		var before, after any
		if utf8.ValidString(text) && json.Unmarshal([]byte(text), &before) == nil && !strings.ContainsRune(text, '\r') {
			if err := json.Unmarshal(out.Bytes(), &after); err != nil {
				t.Fatalf("%q became %q: %v", text, out.String(), err)
			}
			a, _ := json.Marshal(before)
			b, _ := json.Marshal(after)
			if !bytes.Equal(a, b) {
				t.Fatalf("%s became %s", a, b)
			}
		}
	})
}

// Nothing here writes to the process's own files but through a screen.
func TestTheScreenIsTheOnlyWayToATerminal(t *testing.T) {
	t.Parallel()
	files, err := os.ReadDir(".")
	if err != nil {
		t.Fatal(err)
	}
	for _, file := range files {
		if !strings.HasSuffix(file.Name(), ".go") || strings.HasSuffix(file.Name(), "_test.go") || file.Name() == "main.go" {
			continue
		}
		tree, err := parser.ParseFile(token.NewFileSet(), file.Name(), nil, 0)
		if err != nil {
			t.Fatal(err)
		}
		ast.Inspect(tree, func(n ast.Node) bool {
			switch n := n.(type) {
			case *ast.SelectorExpr:
				x, ok := n.X.(*ast.Ident)
				if ok && x.Name == "os" && (n.Sel.Name == "Stdout" || n.Sel.Name == "Stderr") || ok && x.Name == "fmt" && strings.HasPrefix(n.Sel.Name, "Print") {
					t.Errorf("%s uses %s.%s: write to the environment", file.Name(), x.Name, n.Sel.Name)
				}
			case *ast.CallExpr:
				if name, ok := n.Fun.(*ast.Ident); ok && (name.Name == "print" || name.Name == "println") {
					t.Errorf("%s uses %s", file.Name(), name.Name)
				}
			}
			return true
		})
	}
	var out, err2 bytes.Buffer
	env := &environment{in: strings.NewReader(""), out: &out, err: &err2, lookup: func(string) (string, bool) { return "", false }}
	if status := env.run(t.Context(), []string{"no\x1b[2Jsuch\u009bthing"}); status == exitOK || strings.ContainsAny(out.String()+err2.String(), "\x1b\u009b") {
		t.Errorf("status %d, printed %q and %q", status, out.String(), err2.String())
	}
}
