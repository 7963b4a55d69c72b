package deps_test

import (
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

var (
	testInGo = regexp.MustCompile(`(?m)^func ((?:Test|Benchmark|Fuzz)\w+)\(`)
	// testNamed is the name of a test in code, or its beginning with "…".
	testNamed = regexp.MustCompile("`((?:Test|Benchmark|Fuzz)[A-Z]\\w+)(…?)")
	// fileNamed is a file of the repository in code, from its root.
	fileNamed = regexp.MustCompile("`((?:internal|edge|coordinator|auth|client|wire|subjects|cmd|deploy|docs|e2e|js|web|examples|site|tools|\\.ci)/[\\w./-]*\\w\\.(?:go|js|ts|tsx|mjs|md|yaml|yml|json|svg|png|conf|sh))`")
)

// exampleTest is the one that the lesson in CONTRIBUTING.md has its reader write.
const exampleTest = "TestDevicesAreListedWithWhatTheyCanDo"

// Whoever looks for a test, a benchmark or a file that a page names finds it. The
// changelog tells of what was.
func TestTestsAndFilesThatPagesNameExist(t *testing.T) {
	t.Parallel()
	all := testsOfTheTree(t)
	seen := 0
	for _, page := range pages(t) {
		if filepath.Base(page) == "CHANGELOG.md" || strings.Contains(page, "/.stage/") {
			continue
		}
		text := read(t, page)
		for _, m := range testNamed.FindAllStringSubmatch(text, -1) {
			if seen++; m[1] == exampleTest {
				continue
			}
			if !slices.ContainsFunc(all, func(name string) bool { return name == m[1] || m[2] != "" && strings.HasPrefix(name, m[1]) }) {
				t.Errorf("%s: there is no %s", page, m[1])
			}
		}
		for _, m := range fileNamed.FindAllStringSubmatch(text, -1) {
			seen++
			if _, err := os.Stat(filepath.Join("..", "..", m[1])); err != nil {
				t.Errorf("%s: there is no file %s", page, m[1])
			}
		}
	}
	if seen < 100 {
		t.Errorf("only %d names were found: the test does not see the pages", seen)
	}
}

func testsOfTheTree(t *testing.T) (all []string) {
	t.Helper()
	root := filepath.Join("..", "..")
	err := filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case d.IsDir() && path != root && (strings.HasPrefix(d.Name(), ".") || d.Name() == "node_modules"):
			return filepath.SkipDir
		case strings.HasSuffix(path, "_test.go"):
			for _, m := range testInGo.FindAllStringSubmatch(read(t, path), -1) {
				all = append(all, m[1])
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return all
}
