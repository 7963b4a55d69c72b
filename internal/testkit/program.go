package testkit

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
)

// Build builds `rccs` in a directory and returns its path. flags are those of
// `go build`.
func Build(dir string, flags ...string) (path string, err error) {
	path = filepath.Join(dir, "rccs")
	args := append(append([]string{"build"}, flags...), "-o", path, "github.com/rccs-io/rccs/cmd/rccs")
	if out, err := exec.Command("go", args...).CombinedOutput(); err != nil { //nolint:gosec // it builds this program, for tests
		return "", fmt.Errorf("go %s: %w\n%s", strings.Join(args, " "), err, out)
	}
	return path, nil
}

// Environ is the environment without the settings of RCCS, but for the time that
// a stop may take: machines under test are busy. A race is told when it is found,
// so a program built with -race need not wait for more at its end.
func Environ() (env []string) {
	for _, v := range os.Environ() {
		if !strings.HasPrefix(v, "RCCS_") {
			env = append(env, v)
		}
	}
	return append(env, "RCCS_STOP_WITHIN=1m", "GORACE=atexit_sleep_ms=0")
}
