package chaos_test

import (
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/rccs-io/rccs"
	"github.com/rccs-io/rccs/auth"
	"github.com/rccs-io/rccs/internal/localcluster"
	"github.com/rccs-io/rccs/internal/natstest"
	"github.com/rccs-io/rccs/internal/testkit"
)

// servers is how many there are, and edges how many unless the tenant has several
// shards.
const (
	servers = 3
	edges   = 2
)

// patience bounds the waits for what must happen, on a machine that is busy.
const patience = 5 * time.Minute

// cluster is an installation that can be broken.
type cluster struct {
	t      *testing.T
	plan   localcluster.Plan
	procs  []*proc // servers, then edges
	shards int     // of the tenant
	turn   int     // which shards each edge serves, if there are several
	moved  int     // how often a device was sent to another edge, as far as it was counted
	// routes[a][b] is the way from server a to server b, clients[e][s] that
	// from edge e to server s, devices that to any edge, doors[e] that to edge e if
	// there are several shards.
	routes  [servers][servers]*natstest.Proxy
	clients [][servers]*natstest.Proxy
	devices *natstest.Proxy
	doors   []*natstest.Proxy
}

// proc is one process, which is killed and started again.
type proc struct {
	localcluster.Process
	t   *testing.T
	dir string // of logs

	mu   sync.Mutex
	cmd  *exec.Cmd
	gone chan struct{}
	log  *os.File
}

func newCluster(t *testing.T) *cluster {
	t.Helper()
	c := layOut(t, t.TempDir())
	c.begin()
	return c
}

// begin starts the servers, then the edges, and waits until they serve.
func (c *cluster) begin() {
	c.t.Helper()
	for _, p := range c.procs[:servers] {
		p.start()
	}
	ready(c.t, c.procs[:servers])
	for _, p := range c.procs[servers:] {
		p.start()
	}
	ready(c.t, c.procs)
}

// layOut makes what a cluster in dir needs, and starts none of it. Keys that are
// there are used.
func layOut(t *testing.T, dir string) *cluster {
	t.Helper()
	return layOutWith(t, dir, edges, 1)
}

// layOutWith is [layOut] with so many edges, for a tenant with so many shards.
func layOutWith(t *testing.T, dir string, edges, shards int) *cluster {
	t.Helper()
	c := &cluster{
		t: t, plan: localcluster.Plan{Dir: dir, Servers: servers, Edges: edges, Config: rccs.DefaultConfig()},
		shards: shards, clients: make([][servers]*natstest.Proxy, edges),
	}
	if _, err := auth.OpenKeystoreWith(c.plan.Data(), shards); err != nil {
		t.Fatal(err)
	}
	c.plan.RouteTo = func(from, to int, address string) string {
		c.routes[from][to] = natstest.NewProxy(t, address)
		return c.routes[from][to].Addr()
	}
	all, err := c.plan.Processes()
	if err != nil {
		t.Fatal(err)
	}
	var doors []string
	for i, p := range all {
		if i >= servers {
			e := i - servers
			var urls []string
			for s := range servers {
				c.clients[e][s] = natstest.NewProxy(t, all[s].NATS)
				urls = append(urls, c.clients[e][s].URL())
			}
			p.Args[slices.Index(p.Args, "--server")+1] = strings.Join(urls, ",")
			doors = append(doors, p.Devices)
			if shards > 1 {
				door := natstest.NewProxy(t, p.Devices)
				c.doors = append(c.doors, door)
				p.Args = append(p.Args, "--advertise", wsURL(door.Addr()), "--shards", c.share(e))
			}
		}
		c.procs = append(c.procs, &proc{Process: p, t: t, dir: dir})
	}
	c.devices = natstest.NewProxy(t, doors...)
	t.Cleanup(c.logs)
	return c
}

func (p *proc) isServer() bool { return p.Devices == "" }

// start runs the process. It ends with the test.
func (p *proc) start() {
	p.t.Helper()
	log, err := os.OpenFile(p.logPath(), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		p.t.Fatal(err)
	}
	cmd := exec.Command(program, p.Args...)
	piped := struct{ io.Writer }{log} // so that a bound on the process's files is none on its log
	cmd.Stdout, cmd.Stderr = piped, piped
	cmd.Env = append(testkit.Environ(), clockVariable+"="+p.clockPath())
	if err := cmd.Start(); err != nil {
		p.t.Fatal(err)
	}
	gone := make(chan struct{})
	p.mu.Lock()
	p.cmd, p.gone, p.log = cmd, gone, log
	p.mu.Unlock()
	go func() {
		_ = cmd.Wait()
		_ = log.Close()
		close(gone)
	}()
	p.t.Cleanup(func() {
		_ = cmd.Process.Kill()
		<-gone
	})
}

// supervise starts servers again that end by themselves, until it is stopped.
func (c *cluster) supervise() (stop func()) {
	quit, done := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(done)
		tick := time.NewTicker(100 * time.Millisecond)
		defer tick.Stop()
		for {
			select {
			case <-quit:
				return
			case <-tick.C:
			}
			for _, p := range c.procs[:servers] {
				if p.exited() {
					c.t.Logf("%s ended with status %d, and is started again", p.Name, p.exitStatus())
					p.start()
				}
			}
		}
	}()
	return func() { close(quit); <-done }
}

// signal sends a signal; SIGKILL and SIGTERM are waited for.
func (p *proc) signal(s syscall.Signal) {
	p.t.Helper()
	p.mu.Lock()
	cmd, gone := p.cmd, p.gone
	p.mu.Unlock()
	if err := cmd.Process.Signal(s); err != nil && !errors.Is(err, os.ErrProcessDone) {
		p.t.Fatal(err)
	}
	if s != syscall.SIGKILL && s != syscall.SIGTERM {
		return
	}
	select {
	case <-gone:
	case <-time.After(patience):
		p.t.Fatalf("%s did not end after %s", p.Name, s)
	}
}

// kill sends SIGKILL and does not wait.
func (p *proc) kill() {
	p.mu.Lock()
	defer p.mu.Unlock()
	_ = p.cmd.Process.Kill()
}

func (p *proc) pid() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.cmd.Process.Pid
}

// exitStatus is that of a process that has ended.
func (p *proc) exitStatus() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.cmd.ProcessState.ExitCode()
}

// health looks for what no log may hold.
func (c *cluster) health() {
	c.t.Helper()
	for _, p := range c.procs {
		p.health()
	}
}

func (p *proc) health() {
	p.t.Helper()
	log, err := os.ReadFile(p.logPath())
	if err != nil {
		p.t.Error(err)
		return
	}
	if fault := testkit.Fault(string(log)); fault != "" {
		p.t.Errorf("%s: %s", p.Name, fault)
	}
}

// logs tells how the logs end, when the test has failed, be it at the start of
// the cluster.
func (c *cluster) logs() {
	if !c.t.Failed() {
		return
	}
	for _, p := range c.procs {
		log, err := os.ReadFile(p.logPath())
		c.t.Logf("end of the log of %s: %v\n%s", p.Name, err, log[max(0, len(log)-6000):])
	}
}

// ready waits until processes can serve.
func ready(t *testing.T, list []*proc) {
	t.Helper()
	for _, p := range list {
		last := ""
		eventually(t, p.Name+" is ready", func() bool {
			status, body := p.get("/readyz")
			last = body
			return status == http.StatusOK
		}, &last)
	}
}

// get asks the admin listener; 0 when it does not answer.
func (p *proc) get(path string) (int, string) {
	client := http.Client{Timeout: 2 * time.Second, Transport: &http.Transport{DisableKeepAlives: true}}
	r, err := client.Get("http://" + p.Admin + path) //nolint:noctx // it has a time-out
	if err != nil {
		return 0, err.Error()
	}
	defer func() { _ = r.Body.Close() }()
	body, err := io.ReadAll(r.Body)
	if err != nil {
		return 0, err.Error()
	}
	return r.StatusCode, string(body)
}

// metric is a figure of the process without labels.
func (p *proc) metric(name string) (v int) {
	_, body := p.get("/metrics")
	for line := range strings.Lines(body) {
		if rest, ok := strings.CutPrefix(line, name+" "); ok {
			_, _ = fmt.Sscan(rest, &v)
		}
	}
	return v
}

// eventually waits for a condition; state says how it stands.
func eventually(t *testing.T, what string, ok func() bool, state *string) {
	t.Helper()
	deadline := time.Now().Add(patience)
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for !ok() {
		if time.Now().After(deadline) {
			t.Fatalf("not within %s: %s: %s", patience, what, *state)
		}
		<-tick.C
	}
}
