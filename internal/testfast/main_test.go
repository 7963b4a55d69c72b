//go:build unix

package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/rccs-io/rccs/internal/testkit"
)

// module makes a module of packages, each with one test.
func module(t *testing.T, bodies map[string]string) {
	t.Helper()
	dir := t.TempDir()
	write := func(name, text string) {
		path := filepath.Join(dir, name)
		testkit.Check(t, os.MkdirAll(filepath.Dir(path), 0o700))
		testkit.Check(t, os.WriteFile(path, []byte(text), 0o600))
	}
	write("go.mod", "module m\n\ngo 1.26.0\n")
	for name, body := range bodies {
		write(name+"/"+name+"_test.go", "package "+name+"\n\nimport (\n\t\"testing\"\n\t\"time\"\n)\n\nvar _ time.Time\n\nfunc Test"+strings.ToUpper(name)+"(t *testing.T) { "+body+" }\n")
	}
	t.Chdir(dir) // of which there is one: these tests are not parallel
}

func tested(t *testing.T, within time.Duration, packages ...string) (int, string) {
	t.Helper()
	var out strings.Builder
	status := run(t.Context(), &out, within, packages)
	return status, out.String()
}

// What has not been tested is named: a run that was cut short does not look like
// one that passed.
func TestWhatThereIsNoTimeForIsNamed(t *testing.T) {
	module(t, map[string]string{"quick": "", "hangs": "time.Sleep(time.Hour)"})
	status, out := tested(t, time.Millisecond, "m/quick", "m/hangs")
	if status != 0 || !strings.Contains(out, "m/quick\n  m/hangs\n") || !strings.Contains(out, "0 of 2 packages passed") {
		t.Errorf("status %d, said %q", status, out)
	}
	for within := 4 * time.Second; !strings.Contains(out, "1 of 2 packages passed") && within < testkit.Patience; within *= 2 { // however slow this machine compiles
		status, out = tested(t, within, "m/quick", "m/hangs")
	}
	if status != 0 || !strings.Contains(out, "not tested to the end:\n  m/hangs\n") || !strings.Contains(out, "ok  \tm/quick") {
		t.Errorf("status %d, said %q", status, out)
	}
}

func TestAFailureIsShownWithWhatTheTestSaid(t *testing.T) {
	module(t, map[string]string{"good": `t.Log("quiet")`, "bad": `t.Error("why it failed")`, "worse": "undefined"})
	status, out := tested(t, testkit.Patience, "m/bad", "m/good", "m/worse")
	for _, want := range []string{"why it failed", "--- FAIL: TestBAD", "ok  \tm/good", "undefined: undefined"} {
		if !strings.Contains(out, want) {
			t.Errorf("does not say %q: %s", want, out)
		}
	}
	if status != 1 || strings.Contains(out, "quiet") {
		t.Errorf("status %d, said %q", status, out)
	}
}
