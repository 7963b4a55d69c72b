package deps_test

import (
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// subject is what begins like a subject of ours. The WebSocket subprotocol
// rccs.v1 does not: its second token has a digit.
var subject = regexp.MustCompile(`^rccs\.[a-z]+(\.|$)`)

// inspect returns what a source file contains that it must not. path is
// relative to the root of the repository.
func inspect(fset *token.FileSet, path string, file *ast.File) []string {
	var faults []string
	fault := func(n ast.Node, format string, v ...any) {
		faults = append(faults, fmt.Sprintf("%s:%d: %s", path, fset.Position(n.Pos()).Line, fmt.Sprintf(format, v...)))
	}
	test := strings.HasSuffix(path, "_test.go")
	clock := importName(file, "time")
	ast.Inspect(file, func(n ast.Node) bool {
		switch n := n.(type) {
		case *ast.CallExpr:
			if skips(n) && path != "internal/need/need.go" {
				fault(n, "a test is skipped: package need does it, by name and counted")
			}
		case *ast.SelectorExpr:
			if x, ok := n.X.(*ast.Ident); ok && test && x.Name == clock && n.Sel.Name == "Sleep" {
				fault(n, "a test sleeps: wait on a channel, poll a condition with a deadline, or use testing/synctest")
			}
		case *ast.BasicLit:
			if n.Kind != token.STRING || test || strings.HasPrefix(path, "subjects/") || strings.HasPrefix(path, "internal/layout/") {
				return true
			}
			if s, err := strconv.Unquote(n.Value); err == nil && subject.MatchString(s) && s != "rccs.token." {
				fault(n, "%q is a subject: packages subjects and layout are the only places that build them", s)
			}
		}
		return true
	})
	return faults
}

// skips reports whether a call skips a test of package testing. One of rapid's
// skips no test, but a step of one.
func skips(call *ast.CallExpr) bool {
	fun, ok := call.Fun.(*ast.SelectorExpr)
	if !ok || !slices.Contains([]string{"Skip", "Skipf", "SkipNow"}, fun.Sel.Name) {
		return false
	}
	x, ok := fun.X.(*ast.Ident)
	if !ok || x.Obj == nil {
		return false
	}
	param, ok := x.Obj.Decl.(*ast.Field)
	if !ok {
		return false
	}
	kind := param.Type
	if p, ok := kind.(*ast.StarExpr); ok {
		kind = p.X
	}
	of, ok := kind.(*ast.SelectorExpr)
	if !ok {
		return false
	}
	from, ok := of.X.(*ast.Ident)
	return ok && from.Name == "testing"
}

// importName is the name by which a file knows a package, "" when it does not.
func importName(file *ast.File, path string) string {
	for _, spec := range file.Imports {
		if spec.Path.Value != strconv.Quote(path) {
			continue
		}
		if spec.Name != nil {
			return spec.Name.Name
		}
		return path[strings.LastIndexByte(path, '/')+1:]
	}
	return ""
}

// elsewhere are directories that hold no source of ours.
var elsewhere = []string{"bin", "data", "node_modules", "testdata", "tools"}

func TestSource(t *testing.T) {
	t.Parallel()
	root := filepath.Join("..", "..")
	fset, files := token.NewFileSet(), 0
	err := filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if d.IsDir() {
			if path != root && (strings.HasPrefix(d.Name(), ".") || slices.Contains(elsewhere, d.Name())) {
				return filepath.SkipDir
			}
			return nil
		}
		if filepath.Ext(path) != ".go" {
			return nil
		}
		file, err := parser.ParseFile(fset, path, nil, 0)
		if err != nil {
			return err
		}
		rel, err := filepath.Rel(root, path)
		if err != nil {
			return err
		}
		files++
		for _, fault := range inspect(fset, filepath.ToSlash(rel), file) {
			t.Error(fault)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if files < 20 {
		t.Fatalf("only %d files seen: the walk missed the tree", files)
	}
}

// The rules themselves must be able to fail.
func TestSourceRulesBite(t *testing.T) {
	t.Parallel()
	const sleep = `package p; import "time"; func f() { time.Sleep(1) }`
	const literal = `package p; const s = "rccs.inbox." + "x"`
	for name, c := range map[string]struct {
		path, source string
		faults       int
	}{
		"test sleeps":              {"edge/a_test.go", sleep, 1},
		"test sleeps in disguise":  {"edge/a_test.go", `package p; import clock "time"; var f = clock.Sleep`, 1},
		"program sleeps":           {"edge/a.go", sleep, 0},
		"skip":                     {"edge/a_test.go", `package p; import "testing"; func TestX(t *testing.T) { t.Skip("x") }`, 1},
		"skip in a subtest":        {"edge/a_test.go", `package p; import "testing"; func f(b testing.TB) { g(func() { b.Skipf("x") }) }`, 1},
		"skip in need":             {"internal/need/need.go", `package need; import "testing"; func f(tb testing.TB) { tb.Skip("x") }`, 0},
		"step of rapid":            {"edge/a_test.go", `package p; import "pgregory.net/rapid"; func f(t *rapid.T) { t.Skip("x") }`, 0},
		"another's Sleep":          {"edge/a_test.go", `package p; func f(time T) { time.Sleep(1) }`, 0},
		"subject":                  {"edge/a.go", literal, 1},
		"subject of one family":    {"edge/a.go", "package p; const s = `rccs.topic`", 1},
		"subject in subjects":      {"subjects/a.go", literal, 0},
		"subject in layout":        {"internal/layout/a.go", literal, 0},
		"subject in a test":        {"edge/a_test.go", literal, 0},
		"subject in a help text":   {"cmd/rccs/a.go", `package p; const s = "nats pub rccs.inbox.alice.phone.normal"`, 0},
		"a token's subprotocol":    {"edge/a.go", `package p; const s = "rccs.token."`, 0},
		"subprotocol, not subject": {"edge/a.go", `package p; const s = "rccs.v1"`, 0},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			fset := token.NewFileSet()
			file, err := parser.ParseFile(fset, c.path, c.source, 0)
			if err != nil {
				t.Fatal(err)
			}
			if faults := inspect(fset, c.path, file); len(faults) != c.faults {
				t.Errorf("faults %q, want %d", faults, c.faults)
			}
		})
	}
}
