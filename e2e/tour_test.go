package e2e_test

import (
	"context"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/rccs-io/rccs/internal/localcluster"
	"github.com/rccs-io/rccs/internal/need"
	"github.com/rccs-io/rccs/internal/testkit"
)

// tourBlock is a block of the README's tour, with what its comments demand.
type tourBlock struct {
	name       string
	background bool
	script     string
	demands    []demand
	out        *testkit.Log
}

// demand is an expect or reject comment, of another block's output if of is
// set.
type demand struct {
	reject   bool
	of, text string
}

var tourParts = regexp.MustCompile("(?s)<!-- (tour|expect|reject)([^\n]*?) -->|```sh\n(.*?)```")

// parseTour reads the convention that the README's comment explains.
func parseTour(t *testing.T, readme string) []*tourBlock {
	t.Helper()
	var blocks []*tourBlock
	var title []string
	for _, m := range tourParts.FindAllStringSubmatch(readme, -1) {
		switch {
		case m[1] == "tour":
			title = strings.Fields(strings.TrimPrefix(m[2], ":"))
		case m[1] != "" && len(blocks) > 0:
			of, text, ok := strings.Cut(m[2], ":")
			if !ok {
				t.Fatalf("README: %q has no colon", m[0])
			}
			b := blocks[len(blocks)-1]
			b.demands = append(b.demands, demand{reject: m[1] == "reject", of: strings.TrimSpace(of), text: strings.TrimSpace(text)})
		case m[1] == "" && title != nil:
			blocks = append(blocks, &tourBlock{name: title[0], background: len(title) > 1, script: m[3], out: new(testkit.Log)})
			title = nil
		}
	}
	return blocks
}

// The README's tour works when it is pasted.
func TestTour(t *testing.T) {
	t.Parallel()
	readme, err := os.ReadFile("../README.md")
	if err != nil {
		t.Fatal(err)
	}
	blocks := parseTour(t, string(readme))
	if len(blocks) < 5 {
		t.Fatalf("the README's tour has %d blocks", len(blocks))
	}
	root := checkout(t)
	env := tourEnvironment(t)
	moved := moveAddresses(env)
	known := map[string]*tourBlock{}
	for _, b := range blocks {
		known[b.name] = b
		if strings.Contains(b.script, "curl ") {
			need.Program(t, "curl") // the last block
		}
		b.script = moved.Replace(strings.Replace(b.script, "git clone https://github.com/rccs-io/rccs && cd rccs\n", "", 1))
		b.run(t, root, env)
		for _, d := range b.demands {
			from := b
			if d.of != "" {
				if from = known[d.of]; from == nil {
					t.Fatalf("README: no block %q before %q", d.of, b.name)
				}
			}
			d.check(t, b, from)
		}
	}
}

// checkout is a copy of the tree with the program that the suite has built in
// the place where `make` puts it. Building it again is what make decides.
func checkout(t *testing.T) string {
	t.Helper()
	root := filepath.Join(t.TempDir(), "rccs")
	script := `git -C .. ls-files -z --cached --others --exclude-standard | tar -C .. --null --ignore-failed-read -T - -cf - | tar -C "$1" -xf -
if [ -x ../bin/nats ]; then mkdir -p "$1/bin" && cp ../bin/nats "$1/bin/"; fi`
	if err := os.Mkdir(root, 0o755); err != nil {
		t.Fatal(err)
	}
	if out, err := exec.CommandContext(t.Context(), "bash", "-c", script, "bash", root).CombinedOutput(); err != nil {
		t.Fatalf("copy the tree: %v\n%s", err, out)
	}
	return root
}

// tourEnvironment moves the tour's addresses to ports that are free, and that no
// connection of another test is given until the tour listens there.
func tourEnvironment(t *testing.T) []string {
	t.Helper()
	var addresses [3]string
	for i := range addresses {
		port, err := localcluster.FreePort()
		if err != nil {
			t.Fatal(err)
		}
		addresses[i] = net.JoinHostPort("127.0.0.1", strconv.Itoa(port))
	}
	return append(os.Environ(),
		"RCCS_LISTEN="+addresses[0], "RCCS_NATS_LISTEN="+addresses[1], "RCCS_ADMIN_LISTEN="+addresses[2],
		"RCCS_URL=ws://"+addresses[0]+"/v1/ws", "RCCS_SERVER=nats://"+addresses[1], "NATS_URL=nats://"+addresses[1])
}

// tourWithin bounds one block: the first builds the program.
const tourWithin = 15 * time.Minute

// run runs the block's script as a reader would, in a shell of its own.
func (b *tourBlock) run(t *testing.T, root string, env []string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.WithoutCancel(t.Context()), tourWithin)
	cmd := exec.CommandContext(ctx, "bash", "-e", "-c", b.script)
	cmd.Dir, cmd.Env, cmd.Stdout, cmd.Stderr = root, env, b.out, b.out
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) }
	cmd.WaitDelay = patience
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()
	if b.background {
		t.Cleanup(func() {
			cancel()
			if err := <-ended; err != nil {
				t.Logf("README, block %s ended with: %v", b.name, err) // by our signal, or the tour's own kill
			}
		})
		return
	}
	defer cancel()
	if err := <-ended; err != nil {
		t.Fatalf("README, block %s: %v\n%s", b.name, err, b.out)
	}
}

// check waits for what must come, and fails on what must not.
func (d demand) check(t *testing.T, b, from *tourBlock) {
	t.Helper()
	if d.reject {
		if strings.Contains(from.out.String(), d.text) {
			t.Fatalf("README, block %s: %q must not stand in\n%s", b.name, d.text, from.out)
		}
		return
	}
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	within := time.After(tourWithin)
	for !strings.Contains(from.out.String(), d.text) {
		select {
		case <-tick.C:
		case <-within:
			t.Fatalf("README, block %s: %q does not stand in\n%s", b.name, d.text, from.out)
		}
	}
}
