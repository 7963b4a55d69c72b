package chaos_test

import (
	"context"
	"errors"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/rccs-io/rccs/auth"
	"github.com/rccs-io/rccs/client"
	"github.com/rccs-io/rccs/internal/testkit"
	"github.com/rccs-io/rccs/subjects"
)

// TestARevocationHoldsOnEveryServerAndEdge ends credentials everywhere, with the
// keys of one server and then with those of another, while a third is down.
func TestARevocationHoldsOnEveryServerAndEdge(t *testing.T) {
	t.Parallel()
	c := newCluster(t)
	defer c.health()
	phone, desk, tablet := c.issue("alice/phone"), c.issue("alice/desk"), c.issue("bob/tablet")
	ended := []<-chan struct{}{c.device(c.procs[servers], phone), c.device(c.procs[servers+1], desk)}
	for _, p := range c.procs[:servers] {
		ended = append(ended, c.plain(p, phone))
	}
	if out, err := c.revoke(c.procs[0], c.procs[1], "user", "alice"); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	late := time.NewTimer(patience)
	defer late.Stop()
	for i, end := range ended {
		select {
		case <-end:
		case <-late.C:
			t.Fatalf("connection %d stands", i)
		}
	}

	down := c.procs[2]
	down.signal(syscall.SIGKILL)
	var state string
	eventually(c.t, "a revocation with the keys of another server", func() bool { // there may be elections
		out, err := c.revoke(c.procs[1], c.procs[0], "device", "bob/tablet")
		state = out
		// These keys did not issue it: that is said, with status 1, and it is revoked.
		return err == nil || strings.HasPrefix(out, "revoked: ") && strings.Contains(out, "no credential of that name is known")
	}, &state)
	down.start()
	ready(c.t, c.procs)
	for _, p := range c.procs[:servers] {
		for name, cred := range map[string]auth.Credential{"alice/phone": phone, "bob/tablet": tablet} {
			nc, err := nats.Connect("nats://"+p.NATS, cred.Option(), nats.Timeout(patience))
			if err == nil {
				nc.Close()
			}
			if !errors.Is(err, nats.ErrAuthorization) {
				t.Errorf("%s on %s: %v", name, p.Name, err)
			}
		}
		list, err := p.run("revoke", "ls", "--data", p.data())
		if err != nil || !strings.Contains(list, "alice") || !strings.Contains(list, "bob/tablet") {
			t.Errorf("the keys of %s have: %v\n%s", p.Name, err, list)
		}
	}
}

func (c *cluster) issue(name string) auth.Credential {
	c.t.Helper()
	keys, err := auth.OpenKeystore(c.plan.Data())
	if err != nil {
		c.t.Fatal(err)
	}
	address, err := subjects.ParseAddress(name)
	if err != nil {
		c.t.Fatal(err)
	}
	cred, err := keys.IssueDevice(address, auth.DeviceOptions{})
	if err != nil {
		c.t.Fatal(err)
	}
	return cred
}

// data is the process's data directory.
func (p *proc) data() string {
	for i, arg := range p.Args {
		if arg == "--data" {
			return filepath.Clean(p.Args[i+1])
		}
	}
	return ""
}

// revoke uses the keys of one server and tells another.
func (c *cluster) revoke(keys, at *proc, args ...string) (string, error) {
	return keys.run(append(append([]string{"revoke"}, args...), "--data", keys.data(), "--server", "nats://"+at.NATS)...)
}

// run runs a command.
func (p *proc) run(args ...string) (string, error) {
	cmd := exec.CommandContext(p.t.Context(), program, args...)
	cmd.Env = testkit.Environ()
	out, err := cmd.CombinedOutput()
	if fault := testkit.Fault(string(out)); fault != "" {
		p.t.Errorf("rccs %q: %s", args, fault)
	}
	return string(out), err
}

// plain connects to NATS itself. What it returns is closed when the connection
// is, by the server.
func (c *cluster) plain(p *proc, cred auth.Credential) <-chan struct{} {
	c.t.Helper()
	ended := make(chan struct{})
	nc, err := nats.Connect("nats://"+p.NATS, cred.Option(), nats.NoReconnect(), nats.Timeout(patience),
		nats.ErrorHandler(func(*nats.Conn, *nats.Subscription, error) {}), nats.ClosedHandler(func(*nats.Conn) { close(ended) }))
	if err != nil {
		c.t.Fatal(err)
	}
	c.t.Cleanup(nc.Close)
	return ended
}

// device connects to an edge. What it returns is closed when the edge has closed
// the connection.
func (c *cluster) device(p *proc, cred auth.Credential) <-chan struct{} {
	c.t.Helper()
	ctx, end := context.WithCancel(context.WithoutCancel(c.t.Context()))
	d, err := client.Dial(ctx, "ws://"+p.Devices+"/v1/ws", &client.Options{
		NoReconnect: true, Credentials: func(context.Context) (string, client.Signer, error) { return cred.JWT, cred.Sign, nil },
	})
	if err != nil {
		end()
		c.t.Fatal(err)
	}
	ended := make(chan struct{})
	go func() {
		_ = d.Serve(ctx)
		close(ended)
	}()
	c.t.Cleanup(func() {
		end()
		<-ended
	})
	return ended
}
