package load

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// stopTimeout is how long a server may take to end by itself.
const stopTimeout = time.Minute

// Process is a server in a process of its own. It says on its standard output
// where it listens, in lines "devices URL", "nats URL" and "admin URL", the last
// of which is the last that it says.
type Process struct {
	// Devices is where it takes WebSockets, if it does; Admin where it serves
	// metrics and profiles; NATS where it takes NATS clients, if it does.
	Devices, Admin, NATS string

	pid    int
	cmd    *exec.Cmd    // nil when it was started by another
	stderr bytes.Buffer // read when the process has ended
	rest   chan struct{}
}

// Attach is a process that somebody else has started. Without the address of
// its admin listener its garbage is not collected before its memory is read.
func Attach(pid int, admin string) *Process { return &Process{pid: pid, Admin: admin} }

// Start runs cmd and returns when it has said where it listens.
func Start(cmd *exec.Cmd) (*Process, error) {
	p := &Process{cmd: cmd, rest: make(chan struct{})}
	cmd.Stderr = &p.stderr
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		return nil, fmt.Errorf("load: %w", err)
	}
	if err := cmd.Start(); err != nil {
		return nil, fmt.Errorf("load: %w", err)
	}
	p.pid = cmd.Process.Pid
	lines := bufio.NewScanner(stdout)
	for p.Admin == "" {
		if !lines.Scan() {
			close(p.rest)
			return nil, fmt.Errorf("load: %s did not say where it listens: %w", cmd.Path, errors.Join(lines.Err(), p.Stop()))
		}
		switch key, value, _ := strings.Cut(lines.Text(), " "); key {
		case "devices":
			p.Devices = strings.TrimSpace(value)
		case "nats":
			p.NATS = strings.TrimSpace(value)
		case "admin":
			p.Admin = strings.TrimSpace(value)
		}
	}
	go func() {
		defer close(p.rest)
		_, _ = io.Copy(io.Discard, stdout)
	}()
	return p, nil
}

// Stop asks the process to end, and waits for it, if it was started here. The
// error has what it said on standard error.
func (p *Process) Stop() error {
	if p.cmd == nil || p.cmd.ProcessState != nil {
		return nil
	}
	_ = p.cmd.Process.Signal(syscall.SIGTERM)
	late := time.AfterFunc(stopTimeout, func() { _ = p.cmd.Process.Kill() })
	defer late.Stop()
	<-p.rest // Wait closes the pipe under a reader
	if err := p.cmd.Wait(); err != nil {
		return fmt.Errorf("load: %s: %w\n%s", p.cmd.Path, err, p.stderr.Bytes())
	}
	return nil
}

// Resident is the memory that the process holds, in bytes.
func (p *Process) Resident() (int64, error) {
	rollup, err := os.ReadFile(p.proc("smaps_rollup"))
	if err != nil {
		return 0, fmt.Errorf("load: memory is read from Linux's /proc: %w", err)
	}
	for line := range strings.Lines(string(rollup)) {
		if value, ok := strings.CutPrefix(line, "Rss:"); ok {
			kib, err := strconv.ParseInt(strings.TrimSuffix(strings.TrimSpace(value), " kB"), 10, 64)
			return kib << 10, err
		}
	}
	return 0, fmt.Errorf("load: no Rss in %s", p.proc("smaps_rollup"))
}

func (p *Process) proc(file string) string {
	return "/proc/" + strconv.Itoa(p.pid) + "/" + file
}

// SteadyMemory is what the process holds, in bytes, once it has given back what it
// will: its garbage is collected and its memory waited for until that
// brings nothing more.
func (p *Process) SteadyMemory(ctx context.Context) (int64, error) {
	least, err := p.collect(ctx)
	for err == nil {
		now, again := p.collect(ctx)
		if err = again; now > least-least/100 {
			return min(now, least), err
		}
		least = now
	}
	return 0, err
}

// collect collects the garbage of the process, twice, since pools keep what
// they hold for one collection, waits until its memory has not shrunk for two
// seconds, and returns it.
func (p *Process) collect(ctx context.Context) (int64, error) {
	for range 2 {
		if p.Admin == "" {
			break
		}
		if err := p.Fetch(ctx, "/debug/pprof/heap?gc=1", io.Discard); err != nil {
			return 0, err
		}
	}
	least, err := p.Resident()
	poll := time.NewTicker(250 * time.Millisecond)
	defer poll.Stop()
	for quiet := 0; err == nil && quiet < 8; quiet++ {
		select {
		case <-poll.C:
		case <-ctx.Done():
			return 0, ctx.Err()
		}
		var now int64
		if now, err = p.Resident(); now < least {
			least, quiet = now, 0
		}
	}
	return least, err
}

// Fetch gets a path of the admin listener into w.
func (p *Process) Fetch(ctx context.Context, path string, w io.Writer) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, p.Admin+path, nil)
	if err != nil {
		return fmt.Errorf("load: %w", err)
	}
	req.Close = true // no idle connection is left behind
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return fmt.Errorf("load: %w", err)
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return fmt.Errorf("load: GET %s: %s", path, resp.Status)
	}
	_, err = io.Copy(w, resp.Body)
	return err
}
