package deploy_test

import (
	"bytes"
	"context"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/rccs-io/rccs/internal/localcluster"
	"github.com/rccs-io/rccs/internal/testkit"
)

// patience bounds every wait. It is far above what anything takes, so that a
// busy machine is no failure.
const patience = testkit.Patience

// program is the built rccs.
var program string

type suite struct{ m *testing.M }

func TestMain(m *testing.M) { testkit.VerifyTestMain(suite{m}) }

// Run implements goleak.TestingM: it builds the program first.
func (s suite) Run() int {
	dir, err := os.MkdirTemp("", "rccs-deploy-")
	if err != nil {
		fmt.Fprintln(os.Stderr, "deploy:", err)
		return 1
	}
	defer func() { _ = os.RemoveAll(dir) }()
	// Without C, as it is released: it runs in a root that holds nothing else.
	_ = os.Setenv("CGO_ENABLED", "0")
	if program, err = testkit.Build(dir, "-trimpath"); err != nil {
		fmt.Fprintln(os.Stderr, "deploy:", err)
		return 1
	}
	return s.m.Run()
}

// start runs a program until the test ends. It is asked to stop by SIGTERM and
// killed when that takes too long.
func start(t *testing.T, name string, args ...string) *testkit.Log {
	t.Helper()
	cmd, out := exec.Command(name, args...), new(testkit.Log)
	cmd.Stdout, cmd.Stderr = out, out
	run(t, cmd)
	t.Cleanup(func() {
		if t.Failed() {
			t.Logf("%s printed:\n%s", filepath.Base(name), out)
		}
	})
	return out
}

// run starts a command, and ends it with the test.
func run(t *testing.T, cmd *exec.Cmd) {
	t.Helper()
	cmd.Env = testkit.Environ()
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		_ = cmd.Wait()
	}()
	t.Cleanup(func() {
		_ = cmd.Process.Signal(syscall.SIGTERM)
		select {
		case <-ended:
		case <-time.After(patience):
			_ = cmd.Process.Kill()
			<-ended
		}
	})
}

// server is a running `rccs serve`.
type server struct {
	data                 string
	devices, nats, admin string // HOST:PORT
}

func serve(t *testing.T, args ...string) *server {
	t.Helper()
	s := &server{data: filepath.Join(t.TempDir(), "data")}
	out := start(t, program, append([]string{
		"serve", "--data", s.data,
		"--listen", "127.0.0.1:0", "--nats-listen", "127.0.0.1:0", "--admin-listen", "127.0.0.1:0",
	}, args...)...)
	s.devices = after(t, out, "devices", "ws://")
	s.nats = after(t, out, "nats", "nats://")
	s.admin = after(t, out, "admin", "http://")
	return s
}

// after waits for the line of an address and returns the address.
func after(t *testing.T, out *testkit.Log, name, scheme string) string {
	t.Helper()
	var address string
	testkit.Eventually(t, "rccs says where it listens for "+name, func() bool {
		for line := range strings.Lines(out.String()) {
			fields := strings.Fields(line)
			if len(fields) >= 2 && fields[0] == name {
				address, _, _ = strings.Cut(strings.TrimPrefix(fields[1], scheme), "/")
				return true
			}
		}
		return false
	})
	return address
}

// command runs the program to its end and returns what it printed.
func command(t *testing.T, args ...string) string {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	cmd := exec.CommandContext(ctx, program, args...)
	cmd.Env = testkit.Environ()
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("rccs %q: %v\n%s", args, err, out)
	}
	return string(out)
}

// freePort is a port that nothing listens on now.
func freePort(t *testing.T) string {
	t.Helper()
	port, err := localcluster.FreePort()
	if err != nil {
		t.Fatal(err)
	}
	return strconv.Itoa(port)
}

// configured writes a file of this folder with addresses replaced, and returns
// its path.
func configured(t *testing.T, file string, replace ...string) string {
	t.Helper()
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	for i := 0; i < len(replace); i += 2 {
		if !bytes.Contains(text, []byte(replace[i])) {
			t.Fatalf("%s does not have %q", file, replace[i])
		}
		text = bytes.ReplaceAll(text, []byte(replace[i]), []byte(replace[i+1]))
	}
	path := filepath.Join(t.TempDir(), filepath.Base(file))
	if err := os.WriteFile(path, text, 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// get returns the status of an answer; 0 when there is none.
func get(t *testing.T, url string) int {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, url, nil)
	if err != nil {
		t.Fatal(err)
	}
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}, Timeout: patience}
	resp, err := client.Do(req)
	if err != nil {
		return 0
	}
	_ = resp.Body.Close()
	return resp.StatusCode
}
