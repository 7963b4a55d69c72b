package deps_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/rccs-io/rccs/internal/need"
)

// makes runs make with a vulnerability database, and returns what it says and whether
// it succeeds.
func makes(t *testing.T, target, db string) (out string, ok bool) {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), need.Program(t, "make"), "-C", filepath.Join("..", ".."), "--no-print-directory", target)
	cmd.Env = append(os.Environ(), "MAKEFLAGS=", "GOVULNDB="+db)
	all, err := cmd.CombinedOutput()
	return string(all), err == nil
}

// Where no database of vulnerabilities can be reached, make vuln fails before it does
// anything else, and says that nothing was checked.
func TestMakeVulnSaysWhenNothingWasChecked(t *testing.T) {
	t.Parallel()
	here := "file://" + t.TempDir()
	for _, db := range []string{here + "/none", "http://127.0.0.1:1"} {
		out, ok := makes(t, "vuln", db)
		if ok || !strings.Contains(out, db+" cannot be reached: nothing was checked") || !strings.Contains(out, "GOVULNDB=file://") {
			t.Errorf("without a database at %s it says %q, and succeeds: %t", db, out, ok)
		}
	}
	if out, ok := makes(t, "vuln-db", here); !ok {
		t.Errorf("a directory that is there is not taken: %q", out)
	}
}

func TestNoKnownVulnerabilities(t *testing.T) {
	need.Night(t, "it takes two minutes and a database of vulnerabilities")
	db := os.Getenv("GOVULNDB")
	if out, ok := makes(t, "vuln-db", db); !ok {
		need.Skip(t, "no database of vulnerabilities can be reached, so nothing was checked: "+strings.TrimSpace(out))
	}
	if out, ok := makes(t, "vuln", db); !ok {
		t.Errorf("%s", out)
	}
}
