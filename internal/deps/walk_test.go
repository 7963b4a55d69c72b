package deps_test

import (
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// The functions that ARCHITECTURE.md lists as a message's way exist, and each is
// named by one before it in the list: a walk through the code finds them in that
// order.
func TestWalksOfTheArchitectureAreInTheCode(t *testing.T) {
	t.Parallel()
	funcs := functions(t)
	walks := walksOf(read(t, filepath.Join("..", "..", "ARCHITECTURE.md")))
	if len(walks) < 3 {
		t.Fatalf("%d walks found, want those of a device's message, a service's publish, and from the store to a socket", len(walks))
	}
	for what, walk := range walks {
		for _, fault := range follow(funcs, walk) {
			t.Errorf("%s: %s", what, fault)
		}
	}
}

// A newcomer finds each package in ARCHITECTURE.md, with a word on what it is for.
func TestEachPackageIsInTheArchitecture(t *testing.T) {
	t.Parallel()
	text := read(t, filepath.Join("..", "..", "ARCHITECTURE.md"))
	dirs, err := os.ReadDir("..")
	if err != nil {
		t.Fatal(err)
	}
	for _, d := range dirs {
		if name := "internal/" + d.Name(); d.IsDir() && !strings.Contains(text, "`"+name+"`") {
			t.Errorf("ARCHITECTURE.md does not name %s", name)
		}
	}
}

func TestWalkRulesBite(t *testing.T) {
	t.Parallel()
	funcs := []function{
		{path: "edge", recv: "conn", name: "send", uses: map[string]bool{"Start": true}},
		{path: "internal/send", recv: "Intake", name: "Start", uses: map[string]bool{}},
		{path: "internal/send", name: "Check", uses: map[string]bool{}},
	}
	for walk, want := range map[string]int{
		"conn.send send.Intake.Start":          0,
		"conn.send JetStream send.Check":       0, // what stands between is no call
		"conn.send send.Check":                 1, // exists, and is not called
		"conn.send Intake.Begin":               1, // does not exist
		"edge.conn.send internal.Intake.Start": 1, // another package
	} {
		if got := follow(funcs, strings.Fields(walk)); len(got) != want {
			t.Errorf("%s: %q, want %d faults", walk, got, want)
		}
	}
}

var (
	walkRow  = regexp.MustCompile(`(?m)^\| ([^|]+) \| (.* → .*) \|$`)
	walkStep = regexp.MustCompile("`([^`]+)`|JetStream")
)

// walksOf are the steps of each row whose cell has arrows.
func walksOf(page string) map[string][]string {
	walks := make(map[string][]string)
	for _, row := range walkRow.FindAllStringSubmatch(page, -1) {
		for _, step := range walkStep.FindAllString(row[2], -1) {
			walks[row[1]] = append(walks[row[1]], strings.Trim(step, "`"))
		}
	}
	return walks
}

// function is one of the tree, or a method of an interface, which uses nothing.
type function struct {
	path, recv, name string
	uses             map[string]bool // names that stand in its body
}

// is reports whether a step, such as wsconn.Conn.read, means the function.
func (f *function) is(step string) bool {
	parts := strings.Split(step, ".")
	last := len(parts) - 1
	return f.name == parts[last] && !slices.ContainsFunc(parts[:last], func(part string) bool {
		return part != f.recv && part != filepath.Base(f.path)
	})
}

// follow returns what is wrong with a walk. A step that is a package, or
// JetStream, is where calls end: what comes behind it is called from elsewhere.
func follow(funcs []function, walk []string) (faults []string) {
	var before []function
	for _, step := range walk {
		if step == "JetStream" || slices.ContainsFunc(funcs, func(f function) bool { return filepath.Base(f.path) == step }) {
			before = nil
			continue
		}
		var these []function
		called := len(before) == 0
		for _, f := range funcs {
			if f.is(step) {
				these = append(these, f)
				called = called || slices.ContainsFunc(before, func(b function) bool { return b.uses[f.name] })
			}
		}
		switch {
		case len(these) == 0:
			faults = append(faults, step+" is no function")
		case !called:
			faults = append(faults, step+" is called by none before it")
		}
		before = append(before, these...)
	}
	return faults
}

// functions are those of the tree, without tests.
func functions(t *testing.T) (all []function) {
	t.Helper()
	root, fset := filepath.Join("..", ".."), token.NewFileSet()
	err := filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case d.IsDir() && path != root && (strings.HasPrefix(d.Name(), ".") || slices.Contains(elsewhere, d.Name())):
			return filepath.SkipDir
		case d.IsDir() || filepath.Ext(path) != ".go" || strings.HasSuffix(path, "_test.go"):
			return nil
		}
		file, err := parser.ParseFile(fset, path, nil, 0)
		if err != nil {
			return err
		}
		rel, err := filepath.Rel(root, filepath.Dir(path))
		all = append(all, functionsOf(filepath.ToSlash(rel), file)...)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return all
}

func functionsOf(path string, file *ast.File) (all []function) {
	for _, decl := range file.Decls {
		switch d := decl.(type) {
		case *ast.FuncDecl:
			all = append(all, function{path: path, recv: receiver(d), name: d.Name.Name, uses: namesIn(d)})
		case *ast.GenDecl:
			for _, spec := range d.Specs {
				of, ok := spec.(*ast.TypeSpec)
				if !ok {
					continue
				}
				methods, ok := of.Type.(*ast.InterfaceType)
				if !ok {
					continue
				}
				for _, m := range methods.Methods.List {
					for _, name := range m.Names {
						all = append(all, function{path: path, recv: of.Name.Name, name: name.Name})
					}
				}
			}
		}
	}
	return all
}

func receiver(d *ast.FuncDecl) string {
	if d.Recv == nil {
		return ""
	}
	of := d.Recv.List[0].Type
	if p, ok := of.(*ast.StarExpr); ok {
		of = p.X
	}
	if p, ok := of.(*ast.IndexExpr); ok {
		of = p.X
	}
	name, _ := of.(*ast.Ident)
	return name.Name
}

func namesIn(d *ast.FuncDecl) map[string]bool {
	names := make(map[string]bool)
	if d.Body != nil {
		ast.Inspect(d.Body, func(n ast.Node) bool {
			if id, ok := n.(*ast.Ident); ok {
				names[id.Name] = true
			}
			return true
		})
	}
	return names
}
