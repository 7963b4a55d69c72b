package deps_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/rccs-io/rccs/internal/need"
)

// make test-fast tests the packages that differ from main and, after them, those
// that import them: of a chain of three, a change of the first reaches the second, and one of
// a test no other. With no difference it tests all.
func TestWhatMakeTestFastTests(t *testing.T) {
	t.Parallel()
	need.Program(t, "git")
	dir := t.TempDir()
	write := func(name, text string) {
		t.Helper()
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	run := func(name string, args ...string) string {
		t.Helper()
		cmd := exec.CommandContext(t.Context(), name, args...)
		cmd.Dir, cmd.Env = dir, append(os.Environ(), "BASE=")
		out, err := cmd.CombinedOutput()
		if err != nil {
			t.Fatalf("%s %q: %v: %s", name, args, err, out)
		}
		return strings.Join(strings.Fields(string(out)), " ")
	}
	script, err := os.ReadFile("../../tools/changed.sh")
	if err != nil {
		t.Fatal(err)
	}
	write("tools/changed.sh", string(script))
	write("go.mod", "module m\n\ngo 1.26.0\n")
	write("README.md", "1")
	write("a/a.go", "package a\n")
	write("b/b.go", "package b\n\nimport _ \"m/a\"\n")
	write("c/c.go", "package c\n\nimport _ \"m/b\"\n")
	run("git", "init", "-q", "-b", "main")
	run("git", "add", "-A")
	run("git", "-c", "user.name=t", "-c", "user.email=t@example.com", "commit", "-q", "-m", "begin")
	for _, c := range []struct{ file, text, want string }{
		{"README.md", "2", "m/a m/b m/c"},
		{"b/testdata/x", "1", "m/b"},
		{"a/a_test.go", "package a\n", "m/a m/b"},
		{"a/a.go", "package a // differs\n", "m/a m/b"},
		{"go.mod", "module m\n\ngo 1.26\n", "m/a m/b m/c"},
	} {
		write(c.file, c.text)
		if got := run("tools/changed.sh"); got != c.want {
			t.Errorf("with %s changed too: %s, want %s", c.file, got, c.want)
		}
	}
}
