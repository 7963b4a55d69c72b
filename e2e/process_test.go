package e2e_test

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/rccs-io/rccs/internal/testkit"
)

// patience bounds every wait. It is far above what anything takes, so that a
// busy machine is no failure.
const patience = testkit.Patience

// startWithin bounds how long a server may take to say where it listens.
const startWithin = 2 * testkit.Patience

// shards is how many the default tenant of a new server has, unless the test says.
// Empty: one.
var shards = os.Getenv("RCCS_E2E_SHARDS")

// process is a running `rccs serve`.
type process struct {
	cmd    *exec.Cmd
	log    *testkit.Log // stderr
	exited chan struct{}
	err    error // of Wait; read after exited

	Devices string // ws://HOST:PORT/v1/ws
	NATS    string // nats://HOST:PORT
	Admin   string // http://HOST:PORT
}

// command is the program with the given arguments, in an environment without
// RCCS_ variables.
func command(ctx context.Context, args ...string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, program, args...)
	cmd.Env = testkit.Environ()
	cmd.WaitDelay = patience
	return cmd
}

// startProcess returns when the server has said where it listens.
func startProcess(data string, args ...string) (*process, error) {
	all := append([]string{
		"serve", "--data", data,
		"--listen", "127.0.0.1:0", "--nats-listen", "127.0.0.1:0", "--admin-listen", "127.0.0.1:0",
		"--trusted-proxy", "127.0.0.1", // one address is all devices here
	}, args...)
	if _, err := os.Stat(data); shards != "" && errors.Is(err, os.ErrNotExist) && !slices.Contains(args, "--shards") {
		all = append(all, "--shards", shards)
	}
	return startCommand(command(context.Background(), all...))
}

// startCommand starts a command that is `rccs serve`.
func startCommand(cmd *exec.Cmd) (*process, error) {
	p := &process{cmd: cmd, log: new(testkit.Log), exited: make(chan struct{})}
	cmd.Stderr = p.log
	out, err := cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	late := time.AfterFunc(startWithin, func() { _ = cmd.Process.Kill() })
	err = p.readAddresses(out)
	late.Stop()
	go func() {
		_, _ = io.Copy(io.Discard, out)
		p.err = cmd.Wait()
		close(p.exited)
	}()
	if err != nil {
		_ = p.kill()
		return nil, fmt.Errorf("start %q: %w\n%s", cmd.Args, err, p.log)
	}
	return p, nil
}

// readAddresses reads what the server says of itself.
func (p *process) readAddresses(out io.Reader) error {
	lines := bufio.NewScanner(out)
	for lines.Scan() {
		name, address, _ := strings.Cut(lines.Text(), " ")
		switch address = strings.TrimSpace(address); name {
		case "devices":
			p.Devices = address
		case "nats":
			p.NATS = address
		case "admin":
			p.Admin = address
		}
		if p.Devices != "" && p.Admin != "" && (p.NATS != "" || slices.Contains(p.cmd.Args, "edge")) || p.Admin != "" && slices.Contains(p.cmd.Args, "coordinator") {
			return nil
		}
	}
	return errors.Join(errors.New("it ended without saying where it listens"), lines.Err())
}

// kill ends the process as `kill -9` does, and returns when it is gone.
func (p *process) kill() error {
	if err := p.cmd.Process.Kill(); err != nil && !errors.Is(err, os.ErrProcessDone) {
		return err
	}
	<-p.exited
	return p.health()
}

// terminate sends SIGTERM and returns the exit status.
func (p *process) terminate() (status int, err error) {
	if err := p.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		return -1, fmt.Errorf("SIGTERM: %w (it had ended before)", err)
	}
	select {
	case <-p.exited:
	case <-time.After(patience):
		_ = p.kill()
		return -1, errors.New("it did not end after SIGTERM")
	}
	return p.cmd.ProcessState.ExitCode(), p.health()
}

// health looks for what no log may hold.
func (p *process) health() error {
	if fault := testkit.Fault(p.log.String()); fault != "" {
		return fmt.Errorf("the server's log has %s", fault)
	}
	return nil
}

// result is what a command that has ended left.
type result struct {
	stdout, stderr string
	status         int
}

// rccs runs a command to its end.
func rccs(t testing.TB, stdin string, args ...string) result {
	t.Helper()
	return finish(t, stdin, command(t.Context(), args...))
}

// finish runs a command to its end, with a bound on it.
func finish(t testing.TB, stdin string, cmd *exec.Cmd) result {
	t.Helper()
	var stdout, stderr bytes.Buffer
	cmd.Stdin, cmd.Stdout, cmd.Stderr = strings.NewReader(stdin), &stdout, &stderr
	if err := cmd.Start(); err != nil {
		t.Fatalf("%q: %v", cmd.Args, err)
	}
	late := time.AfterFunc(startWithin, func() { _ = cmd.Process.Kill() })
	defer late.Stop()
	err := cmd.Wait()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		t.Fatalf("%q: %v", cmd.Args, err)
	}
	if fault := testkit.Fault(stderr.String()); fault != "" {
		t.Errorf("%q: %s", cmd.Args, fault)
	}
	return result{stdout: stdout.String(), stderr: stderr.String(), status: cmd.ProcessState.ExitCode()}
}

// must runs a command that has to succeed, and returns what it printed. One that a
// starved server did not let in has done nothing, and is run again.
func must(t testing.TB, args ...string) string {
	t.Helper()
	for began := time.Now(); ; {
		r := rccs(t, "", args...)
		switch {
		case r.status == 0:
			return r.stdout
		case !strings.HasPrefix(r.stderr, "rccs: connect to ") || !strings.Contains(r.stderr, "i/o timeout") || time.Since(began) > patience:
			t.Fatalf("rccs %q: exit status %d\n%s", args, r.status, r.stderr)
		}
	}
}
