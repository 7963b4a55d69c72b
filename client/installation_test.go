package client_test

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
	"syscall"
	"testing"

	"github.com/rccs-io/rccs/client"
	"github.com/rccs-io/rccs/internal/testkit"
)

// The examples run against 'rccs serve', which is built and started as a user
// would, when the first of them needs it.

func TestMain(m *testing.M) { testkit.VerifyTestMain(withInstallation{m}) }

// withInstallation ends the installation after the tests.
type withInstallation struct{ m *testing.M }

// Run implements goleak.TestingM.
func (w withInstallation) Run() int {
	status := w.m.Run()
	if err := examples.stop(); err != nil {
		_, _ = fmt.Fprintln(os.Stderr, "rccs serve:", err)
		status = max(status, 1)
	}
	return status
}

// installation is 'rccs serve' in a directory of its own.
type installation struct {
	start sync.Once
	dir   string
	serve *exec.Cmd
	lines *bufio.Reader // what it prints
	url   string
	err   error
}

var examples installation

// run builds and starts it.
func (i *installation) run() {
	if i.dir, i.err = os.MkdirTemp("", "rccs-example"); i.err != nil {
		return
	}
	program, err := testkit.Build(i.dir)
	if err != nil {
		i.err = err
		return
	}
	i.serve = exec.CommandContext(context.Background(), program, "serve", "--data", filepath.Join(i.dir, "data"),
		"--listen", "127.0.0.1:0", "--nats-listen", "", "--admin-listen", "")
	var out io.Reader
	if out, i.err = i.serve.StdoutPipe(); i.err != nil {
		return
	}
	i.lines = bufio.NewReader(out)
	if i.err = i.serve.Start(); i.err != nil {
		return
	}
	for i.url == "" && i.err == nil {
		var line string
		line, i.err = i.lines.ReadString('\n')
		if _, at, ok := strings.Cut(line, "ws://"); ok {
			i.url = "ws://" + strings.TrimSpace(at)
		}
	}
}

// creds is a file of credentials for a device.
func (i *installation) creds(device string) (string, error) {
	program := filepath.Join(i.dir, "rccs")
	text, err := exec.CommandContext(context.Background(), program, "creds", "device", device, "--data", filepath.Join(i.dir, "data")).Output()
	if err != nil {
		return "", err
	}
	file := filepath.Join(i.dir, strings.ReplaceAll(device, "/", "-")+".creds")
	return file, os.WriteFile(file, text, 0o600)
}

func (i *installation) stop() error {
	if i.serve == nil || i.serve.Process == nil {
		return os.RemoveAll(i.dir)
	}
	err := i.serve.Process.Signal(syscall.SIGTERM)
	_, read := io.Copy(io.Discard, i.lines)
	return errors.Join(err, read, i.serve.Wait(), os.RemoveAll(i.dir))
}

// exampleInstallation has the address of a running edge, and files of
// credentials by the names of their devices. What fails shows in the example's
// output.
func exampleInstallation(devices ...string) (ctx context.Context, url string, creds map[string]string, stop func()) {
	examples.start.Do(examples.run)
	ctx, cancel := context.WithTimeout(context.Background(), 2*testkit.Patience) // from when it runs: a busy machine takes long to start it
	err := examples.err
	creds = make(map[string]string, len(devices))
	for _, device := range devices {
		if err == nil {
			creds[device], err = examples.creds(device)
		}
	}
	if err != nil {
		_, _ = fmt.Fprintln(os.Stdout, err)
	}
	return ctx, examples.url, creds, cancel
}

// exampleNode is exampleInstallation for exampleDevice.
func exampleNode() (ctx context.Context, url string, stop func()) {
	ctx, url, _, stop = exampleInstallation()
	return ctx, url, stop
}

// exampleCredentials are those of a device's file.
func exampleCredentials(device string) client.Credentials {
	file, err := examples.creds(device)
	if err != nil {
		_, _ = fmt.Fprintln(os.Stdout, err)
	}
	return client.CredentialsFile(file)
}

// exampleDevice connects a device.
func exampleDevice(ctx context.Context, url, device string) *client.Client {
	c, err := client.Dial(ctx, url, &client.Options{Credentials: exampleCredentials(device)})
	if err != nil {
		_, _ = fmt.Fprintln(os.Stdout, err)
	}
	return c
}
