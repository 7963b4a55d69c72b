package deploy_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"

	"github.com/rccs-io/rccs/internal/devicetest"
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
// data directory. What it does to reload drops no device.
func TestAReloadByTheUnitDropsNoDevice(t *testing.T) {
	t.Parallel()
	data := filepath.Join(t.TempDir(), "data")
	unit := configured(t, "systemd/rccs.service", "/usr/bin/rccs", program, "/var/lib/rccs", data)
	text, err := os.ReadFile(unit)
	check(t, err)
	line := func(name string) []string {
		t.Helper()
		m := regexp.MustCompile(`(?m)^` + name + `=(.*)$`).FindSubmatch(text)
		if m == nil {
			t.Fatalf("the unit has no %s", name)
		}
		return strings.Fields(string(m[1]))
	}
	args, out := line("ExecStart"), new(testkit.Log)
	cmd := exec.Command(args[0], append(args[1:], "--listen", "127.0.0.1:0", "--nats-listen", "127.0.0.1:0", "--admin-listen", "127.0.0.1:0")...)
	cmd.Stdout, cmd.Stderr = out, out
	run(t, cmd)
	s := &server{data: data, devices: after(t, out, "devices", "ws://"), nats: after(t, out, "nats", "nats://")}
	admin := after(t, out, "admin", "http://")
	testkit.Eventually(t, "it is ready", func() bool { return get(t, "http://"+admin+"/readyz") == 200 })
	phone := devicetest.Connect(t, devicetest.URL(s.devices), devicetest.How{})
	phone.Register(strings.TrimSpace(command(t, "creds", "device", "alice/phone", "--bearer", "--data", data)), "")

	reload := line("ExecReload")
	for i := range reload {
		reload[i] = strings.ReplaceAll(reload[i], "$MAINPID", strconv.Itoa(cmd.Process.Pid))
	}
	if said, err := exec.CommandContext(t.Context(), reload[0], reload[1:]...).CombinedOutput(); err != nil {
		t.Fatalf("%q: %v\n%s", reload, err, said)
	}
	testkit.Eventually(t, "it has read its files again", func() bool { return strings.Contains(out.String(), "configuration and certificates read again") })
	command(t, "send", "alice/phone", `{"n":1}`, "--data", data, "--server", "nats://"+s.nats)
	phone.Until("notification") // on the socket that it had
}
