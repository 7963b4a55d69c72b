package localcluster

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"os/exec"
	"sync"
	"syscall"
	"time"
)

// readyEvery is how often it is asked whether a process serves.
const readyEvery = 100 * time.Millisecond

// stopTimeout bounds a clean stop of a process; past it, it is killed.
const stopTimeout = 15 * time.Second

// Run runs the processes until ctx ends, and stops them, edges first. log gets
// each line that they write, behind the process's name. ready is called once,
// when all of them serve. A process that ends by itself is told of in log, and
// the others go on.
func Run(ctx context.Context, program string, all []Process, log io.Writer, ready func()) error {
	g := &group{out: &lines{w: log}}
	defer g.stop()
	server := false // the one before is
	for _, p := range all {
		if p.Devices != "" && server {
			if err := g.await(ctx); err != nil { // edges want servers
				return err
			}
		}
		server = p.Devices == ""
		if err := g.start(ctx, program, p); err != nil {
			return err
		}
	}
	if err := g.await(ctx); err != nil || ctx.Err() != nil {
		return err
	}
	ready()
	<-ctx.Done()
	return nil
}

// group is the processes that run.
type group struct {
	out *lines
	all []*running
}

type running struct {
	Process
	cmd   *exec.Cmd
	ended chan struct{}
}

func (g *group) start(ctx context.Context, program string, p Process) error {
	// Whoever answers there would say that the process is ready, though it is not.
	if taken, err := new(net.Dialer).DialContext(ctx, "tcp", p.Admin); err == nil {
		_ = taken.Close()
		return fmt.Errorf("localcluster: somebody listens on %s already, where %s is to: stop that cluster, or choose other ports", p.Admin, p.Name)
	}
	cmd := exec.Command(program, p.Args...) //nolint:gosec,noctx // our own program, which is stopped in order
	w := g.out.of(p.Name)
	cmd.Stderr = w
	cmd.SysProcAttr = apart()
	if err := cmd.Start(); err != nil {
		return fmt.Errorf("localcluster: start %s: %w", p.Name, err)
	}
	r := &running{Process: p, cmd: cmd, ended: make(chan struct{})}
	g.all = append(g.all, r)
	go func() {
		defer close(r.ended)
		if err := cmd.Wait(); err != nil && ctx.Err() == nil {
			_, _ = fmt.Fprintf(w, "has ended: %v\n", err)
		}
	}()
	return nil
}

// await returns when all that was started can serve, or ctx has ended.
func (g *group) await(ctx context.Context) error {
	for _, r := range g.all {
		if err := r.await(ctx); err != nil && ctx.Err() == nil {
			return err
		}
	}
	return nil
}

// await returns when the process can serve.
func (r *running) await(ctx context.Context) error {
	tick := time.NewTicker(readyEvery)
	defer tick.Stop()
	for {
		request, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+r.Admin+"/readyz", nil)
		if err != nil {
			return err
		}
		if answer, err := http.DefaultClient.Do(request); err == nil {
			_ = answer.Body.Close()
			if answer.StatusCode == http.StatusOK {
				return nil
			}
		}
		select {
		case <-tick.C:
		case <-r.ended:
			return fmt.Errorf("localcluster: %s has ended: its log says why", r.Name)
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// stop ends the edges, and then the servers all at once: one that loses the
// others would wait for them.
func (g *group) stop() {
	for _, edges := range []bool{true, false} {
		late := time.NewTimer(stopTimeout)
		for _, r := range g.all {
			if (r.Devices != "") == edges {
				_ = r.cmd.Process.Signal(syscall.SIGTERM)
			}
		}
		for _, r := range g.all {
			if (r.Devices != "") != edges {
				continue
			}
			select {
			case <-r.ended:
			case <-late.C:
				late.Reset(0)
				_ = r.cmd.Process.Kill()
				<-r.ended
			}
		}
		late.Stop()
	}
}

// lines writes whole lines of several writers.
type lines struct {
	mu sync.Mutex
	w  io.Writer
}

// of is a writer whose lines begin with name.
func (l *lines) of(name string) io.Writer {
	r, w := io.Pipe()
	go func() {
		scanner := bufio.NewScanner(r)
		scanner.Buffer(nil, 1<<20)
		for scanner.Scan() {
			l.mu.Lock()
			_, _ = fmt.Fprintf(l.w, "%-10s %s\n", name, scanner.Bytes())
			l.mu.Unlock()
		}
		_, _ = io.Copy(io.Discard, r) // a line too long ends the scanner, not the process
	}()
	return w
}
