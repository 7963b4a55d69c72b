package load

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"time"
)

// Edge starts the program rccs as an edge of a server, as [Serve] does, with the
// keys in the server's data directory.
func Edge(program, data string, server *Process, flags ...string) (*Process, error) {
	return start(program, data, append([]string{"edge", "--server", server.NATS}, flags...))
}

// tick is the unit of CPU time in /proc: 100 a second, whatever the kernel's
// own clock is.
const tick = 10 * time.Millisecond

// Kill ends the process as `kill -9` does, and waits for it.
func (p *Process) Kill() {
	_ = p.cmd.Process.Kill()
	<-p.rest
	_ = p.cmd.Wait() // says that it was killed
}

// CPU is the time that the process has spent so far, in user and kernel mode,
// to 10 ms.
func (p *Process) CPU() (time.Duration, error) {
	stat, err := os.ReadFile(p.proc("stat"))
	if err != nil {
		return 0, fmt.Errorf("load: CPU time is read from Linux's /proc: %w", err)
	}
	// The second field is the command in parentheses, and may hold anything.
	fields := strings.Fields(string(stat[bytes.LastIndexByte(stat, ')')+1:]))
	const utime, stime = 14 - 3, 15 - 3
	if len(fields) <= stime {
		return 0, fmt.Errorf("load: %s has %d fields", p.proc("stat"), len(fields))
	}
	user, err1 := strconv.ParseInt(fields[utime], 10, 64)
	kernel, err2 := strconv.ParseInt(fields[stime], 10, 64)
	return time.Duration(user+kernel) * tick, errors.Join(err1, err2)
}

// Metric reads one metric without labels from the admin listener.
func (p *Process) Metric(ctx context.Context, name string) (float64, error) {
	var page bytes.Buffer
	if err := p.Fetch(ctx, "/metrics", &page); err != nil {
		return 0, err
	}
	for line := range strings.Lines(page.String()) {
		if value, ok := strings.CutPrefix(line, name+" "); ok {
			return strconv.ParseFloat(strings.TrimSpace(value), 64)
		}
	}
	return 0, fmt.Errorf("load: no metric %s", name)
}

// Tokens has the program rccs make bearer tokens for devices, from the keys in
// a data directory.
func Tokens(ctx context.Context, program, data string, names []Name) (map[Name]string, error) {
	var in, out, stderr bytes.Buffer
	for _, name := range names {
		in.WriteString(name.String() + "\n")
	}
	cmd := exec.CommandContext(ctx, program, "creds", "device", "--bearer", "-", "--data", data)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = &in, &out, &stderr
	if err := cmd.Run(); err != nil {
		return nil, fmt.Errorf("load: rccs creds: %w\n%s", err, stderr.Bytes())
	}
	tokens := make(map[Name]string, len(names))
	for line := range strings.Lines(out.String()) {
		name, token, _ := strings.Cut(strings.TrimSpace(line), " ")
		user, device, _ := strings.Cut(name, "/")
		tokens[Name{user, device}] = token
	}
	for _, name := range names {
		if tokens[name] == "" {
			return nil, fmt.Errorf("load: rccs creds made no token for %s", name)
		}
	}
	return tokens, nil
}
