// Package need is the only way to skip a test: by name, and written down, so
// that `make test` can count it at its end. What CI can install, such as a
// browser or Prometheus, fails under RCCS_REQUIRE_ALL=1, as CI sets it, when it
// is missing. What no CI can be asked for, [Skip] skips there too: a right of the
// kernel, or hours of time.
package need

import (
	"fmt"
	"os"
	"os/exec"
	"testing"
)

// Variables of the environment.
const (
	// EnvRequireAll makes a missing program a failure.
	EnvRequireAll = "RCCS_REQUIRE_ALL"
	// EnvLong is set by make test-long, for tests that a night has room for.
	EnvLong = "RCCS_LONG"
	// EnvSkipped is the file to which skipped tests are added, a line each.
	EnvSkipped = "RCCS_SKIPPED"
)

// Program returns the path of a program, the first of the names that is
// installed. Where there is none it skips the test, or fails it under
// RCCS_REQUIRE_ALL.
func Program(tb testing.TB, names ...string) string {
	tb.Helper()
	for _, name := range names {
		if path, err := exec.LookPath(name); err == nil {
			return path
		}
	}
	Missing(tb, names[0]+" is not installed")
	return ""
}

// Missing skips the test for a reason that CI can mend, or fails it under
// RCCS_REQUIRE_ALL.
func Missing(tb testing.TB, reason string) {
	tb.Helper()
	if v := os.Getenv(EnvRequireAll); v != "" && v != "0" {
		tb.Fatalf("%s, and %s is set: .ci/run installs what the tests need", reason, EnvRequireAll)
	}
	Skip(tb, reason)
}

// Skip skips the test for a reason that CI cannot mend: only root may do it, the
// kernel forbids it, or it runs when asked for.
func Skip(tb testing.TB, reason string) {
	tb.Helper()
	if file := os.Getenv(EnvSkipped); file != "" {
		if err := note(file, tb.Name(), reason); err != nil {
			tb.Fatal(err)
		}
	}
	tb.Skip(reason)
}

// Long leaves a test out of `make test-fast`, which is given -short.
func Long(tb testing.TB, reason string) {
	tb.Helper()
	if testing.Short() {
		Skip(tb, reason+": not under -short")
	}
}

// Night leaves a test to `make test-long`.
func Night(tb testing.TB, reason string) {
	tb.Helper()
	if os.Getenv(EnvLong) == "" {
		Skip(tb, reason+": runs in make test-long")
	}
}

func note(file, test, reason string) error {
	f, err := os.OpenFile(file, os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o600) //nolint:gosec // the path of the file of skips, which the Makefile gives
	if err != nil {
		return err
	}
	_, err = fmt.Fprintf(f, "%s: %s\n", test, reason)
	if e := f.Close(); err == nil {
		err = e
	}
	return err
}
