package chaos_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"
)

// clockVariable names a file with how many seconds the clock of a process is
// wrong.
const clockVariable = "RCCS_CHAOS_CLOCK"

// skewed is added to package time. What it reads is looked at anew all the time,
// so that the clock can jump.
const skewed = `package time

import (
	"sync/atomic"
	"syscall"
)

var chaosSkew atomic.Int64

func init() {
	name, set := syscall.Getenv("` + clockVariable + `")
	if !set {
		return
	}
	go func() {
		for ; ; Sleep(20 * Millisecond) {
			fd, err := open(name)
			if err != nil {
				continue
			}
			var buf [32]byte
			n, err := read(fd, buf[:])
			closefd(fd)
			if err != nil || n <= 0 {
				continue
			}
			if seconds, err := atoi(string(buf[:n])); err == nil {
				chaosSkew.Store(int64(seconds))
			}
		}
	}()
}
`

// clockOverlay makes an overlay for the build in which the wall clock of package
// time can be set. The monotonic clock, and so each timer, goes on as it does.
func clockOverlay(dir string) (string, error) {
	root, err := exec.Command("go", "env", "GOROOT").Output()
	if err != nil {
		return "", err
	}
	now := filepath.Join(strings.TrimSpace(string(root)), "src", "time", "time.go")
	source, err := os.ReadFile(now)
	if err != nil {
		return "", err
	}
	const read = "func Now() Time {\n\tsec, nsec, mono := runtimeNow()\n"
	changed := strings.Replace(string(source), read, read+"\tsec += chaosSkew.Load()\n", 1)
	if changed == string(source) {
		return "", fmt.Errorf("time.Now of %s is not as it was known", runtime.Version())
	}
	replace := map[string]string{}
	write := func(target, name, text string) error {
		path := filepath.Join(dir, name)
		replace[target] = path
		return os.WriteFile(path, []byte(text), 0o600)
	}
	err = errors.Join(write(now, "time.go.txt", changed), write(filepath.Join(filepath.Dir(now), "chaos.go"), "skew.go.txt", skewed))
	if err != nil {
		return "", err
	}
	text, err := json.Marshal(map[string]any{"Replace": replace})
	if err != nil {
		return "", err
	}
	overlay := filepath.Join(dir, "overlay.json")
	return overlay, os.WriteFile(overlay, text, 0o600)
}

func (p *proc) clockPath() string { return filepath.Join(p.dir, p.Name+".clock") }

// setClock puts the clock of a process ahead by skew, or back.
func (p *proc) setClock(skew time.Duration) {
	p.t.Helper()
	next := p.clockPath() + ".next"
	err := os.WriteFile(next, fmt.Append(nil, int(skew.Seconds())), 0o600)
	if err == nil {
		err = os.Rename(next, p.clockPath())
	}
	if err != nil {
		p.t.Fatal(err)
	}
}

// The overlay fits the version of Go in use.
func TestTheClockOverlayFitsPackageTime(t *testing.T) {
	t.Parallel()
	if _, err := clockOverlay(t.TempDir()); err != nil {
		t.Error(err)
	}
}
