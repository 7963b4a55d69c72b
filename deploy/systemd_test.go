package deploy_test

import (
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/rccs-io/rccs/internal/need"
	"github.com/rccs-io/rccs/internal/testkit"
)

func TestTheUnitIsOneThatSystemdTakes(t *testing.T) {
	t.Parallel()
	analyze := need.Program(t, "systemd-analyze")
	// verify looks for the program: this test's stands in for /usr/bin/rccs.
	unit := configured(t, "systemd/rccs.service", "/usr/bin/rccs", program)
	if out, err := exec.CommandContext(t.Context(), analyze, "verify", unit).CombinedOutput(); err != nil || len(out) > 0 {
		t.Errorf("systemd-analyze verify: %v\n%s", err, out)
	}
}

func TestTheUnitIsHardened(t *testing.T) {
	t.Parallel()
	analyze := need.Program(t, "systemd-analyze")
	out, err := exec.CommandContext(t.Context(), analyze, "security", "--no-pager", "--offline=true", "systemd/rccs.service").CombinedOutput()
	if err != nil {
		t.Fatalf("systemd-analyze security: %v\n%s", err, out)
	}
	level := regexp.MustCompile(`Overall exposure level for \S+: [0-9.]+ (\S+)`).FindSubmatch(out)
	if level == nil || string(level[1]) != "OK" && string(level[1]) != "SAFE" {
		t.Errorf("systemd finds the unit too exposed:\n%s", out)
	}
}

// What the unit starts, starts: its command line as it stands, with another
// data directory.
func TestTheCommandOfTheUnitStarts(t *testing.T) {
	t.Parallel()
	unit := configured(t, "systemd/rccs.service", "/usr/bin/rccs", program, "/var/lib/rccs", filepath.Join(t.TempDir(), "data"))
	text, err := exec.CommandContext(t.Context(), "sed", "-n", "s/^ExecStart=//p", unit).Output()
	if err != nil {
		t.Fatal(err)
	}
	args := strings.Fields(string(text))
	out := start(t, args[0], append(args[1:], "--listen", "127.0.0.1:0", "--nats-listen", "127.0.0.1:0", "--admin-listen", "127.0.0.1:0")...)
	at := after(t, out, "admin", "http://")
	testkit.Eventually(t, "it is ready", func() bool {
		return get(t, "http://"+at+"/readyz") == 200
	})
}
