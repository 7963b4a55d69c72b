package e2e_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
)

// server is an installation and the process that serves it.
type server struct {
	*process
	data   string
	args   []string
	tokens *mint
}

// start starts a server with a data directory of its own, which ends with the
// test.
func start(t *testing.T, args ...string) *server {
	t.Helper()
	s := &server{data: filepath.Join(t.TempDir(), "data"), args: args}
	s.begin(t)
	s.tokens = &mint{data: s.data}
	t.Cleanup(func() {
		if err := s.tokens.close(); err != nil {
			t.Error(err)
		}
	})
	return s
}

// begin runs a process for the installation until the test ends.
func (s *server) begin(t *testing.T) {
	t.Helper()
	p, err := startProcess(s.data, s.args...)
	if err != nil {
		t.Fatal(err)
	}
	s.process = p
	t.Cleanup(func() {
		if err := p.kill(); err != nil {
			t.Error(err)
		}
		if t.Failed() {
			t.Logf("log of the server:\n%s", tail(p.log.String()))
		}
	})
}

// restart ends the process as `kill -9` does and starts another.
func (s *server) restart(t *testing.T) {
	t.Helper()
	if err := s.kill(); err != nil {
		t.Fatal(err)
	}
	s.begin(t)
}

// tail is the end of a log that may be long.
func tail(log string) string {
	const most = 12000
	if len(log) > most {
		return "…" + log[len(log)-most:]
	}
	return log
}

// sharedServer starts when the first test asks for it.
type sharedServer struct {
	once sync.Once
	s    *server
	dir  string
	err  error
}

// use returns the shared server to a test that leaves it as it was.
func use(t *testing.T) *server {
	t.Helper()
	shared.once.Do(shared.start)
	if shared.err != nil {
		t.Fatal(shared.err)
	}
	select {
	case <-shared.s.exited:
		t.Fatalf("the shared server has ended: %v", shared.s.err)
	default:
	}
	t.Cleanup(func() {
		if t.Failed() {
			t.Logf("log of the shared server:\n%s", tail(shared.s.log.String()))
		}
	})
	return shared.s
}

func (h *sharedServer) start() {
	if h.dir, h.err = os.MkdirTemp("", "rccs-e2e-data-"); h.err != nil {
		return
	}
	data := filepath.Join(h.dir, "data")
	p, err := startProcess(data)
	if h.err = err; err != nil {
		return
	}
	h.s = &server{process: p, data: data, tokens: &mint{data: data}}
}

// stop ends it in the orderly way and says what is wrong with its end.
func (h *sharedServer) stop() error {
	if h.dir == "" {
		return nil
	}
	defer func() { _ = os.RemoveAll(h.dir) }()
	if h.s == nil {
		return nil
	}
	status, err := h.s.terminate()
	if err == nil && status != 0 {
		err = fmt.Errorf("exit status %d\n%s", status, tail(h.s.log.String()))
	}
	return errors.Join(err, h.s.tokens.close())
}

// mint makes device tokens by one long conversation with `rccs creds device
// --bearer -`.
type mint struct {
	data string

	mu  sync.Mutex
	cmd *exec.Cmd
	in  io.WriteCloser
	out *bufio.Reader
}

func (m *mint) start() error {
	m.cmd = command(context.Background(), "creds", "device", "--bearer", "-", "--data", m.data)
	in, err := m.cmd.StdinPipe()
	if err != nil {
		return err
	}
	out, err := m.cmd.StdoutPipe()
	if err != nil {
		return err
	}
	m.in, m.out = in, bufio.NewReader(out)
	return m.cmd.Start()
}

// token is a bearer token of USER/DEVICE.
func (m *mint) token(name string) (string, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.cmd == nil {
		if err := m.start(); err != nil {
			return "", err
		}
	}
	if _, err := io.WriteString(m.in, name+"\n"); err != nil {
		return "", err
	}
	line, err := m.out.ReadString('\n')
	if err != nil {
		return "", fmt.Errorf("rccs creds device --bearer -: %w", err)
	}
	token, ok := strings.CutPrefix(strings.TrimSuffix(line, "\n"), name+" ")
	if !ok {
		return "", fmt.Errorf("rccs creds device --bearer - answered %q with %q", name, line)
	}
	return token, nil
}

func (m *mint) close() error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.cmd == nil {
		return nil
	}
	return errors.Join(m.in.Close(), m.cmd.Wait())
}

// token is a bearer token of USER/DEVICE for this installation.
func (s *server) token(t testing.TB, name string) string {
	t.Helper()
	token, err := s.tokens.token(name)
	if err != nil {
		t.Fatal(err)
	}
	return token
}

// serverAndUser are the shared server, and a user of the test's own.
func serverAndUser(t *testing.T) (s *server, u string) {
	t.Helper()
	return use(t), user(t)
}

// user is a user's name that no other test uses, nor the same test run again.
func user(t testing.TB) string {
	name := strings.ToLower(strings.TrimPrefix(t.Name(), "Test"))
	name = strings.NewReplacer("/", ".", "#", ".").Replace(name)
	if len(name) > 100 {
		name = name[:40] + ".." + name[len(name)-55:]
	}
	return name + "." + newID()
}
