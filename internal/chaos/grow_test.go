package chaos_test

import (
	"context"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/rccs-io/rccs/client"
	"github.com/rccs-io/rccs/internal/inbox"
	"github.com/rccs-io/rccs/internal/layout"
	"github.com/rccs-io/rccs/subjects"
)

// arrivals is what a device was sent.
type arrivals struct {
	mu    sync.Mutex
	times map[string]int // by body
	again map[string]int // of those, marked as redelivered
}

// hear connects a device, which acknowledges what accept says.
func (s *single) hear(a subjects.Address, accept func(body string) bool) (*arrivals, *client.Client) {
	s.t.Helper()
	in := &arrivals{times: map[string]int{}, again: map[string]int{}}
	c := s.open(s.keys(), a, client.Options{})
	ctx := context.WithoutCancel(s.t.Context())
	done := make(chan struct{})
	go func() {
		defer close(done)
		for {
			m, err := c.Receive(ctx)
			if err != nil {
				return
			}
			in.add(m)
			if accept(string(m.Payload)) {
				m.Ack()
			}
		}
	}()
	s.t.Cleanup(func() {
		_ = c.Close()
		<-done
	})
	return in, c
}

func (in *arrivals) add(m *client.Message) {
	in.mu.Lock()
	defer in.mu.Unlock()
	in.times[string(m.Payload)]++
	if m.Redelivered {
		in.again[string(m.Payload)]++
	}
}

// One server becomes a cluster of three by a backup that is restored into it, and
// a cluster likewise: every stream then has three copies, what was not
// acknowledged comes, what was does not come again without a flag, and messages
// flow on under the same credentials.
func TestOneServerBecomesAClusterByABackup(t *testing.T) {
	t.Parallel()
	s := newSingle(t, t.TempDir())
	if err := s.serving(); err != nil {
		t.Fatal(err)
	}
	phone := subjects.Address{User: "alice", Device: "phone"}
	nc := s.service()
	js, err := jetstream.New(nc)
	if err != nil {
		t.Fatal(err)
	}
	publish := func(js jetstream.JetStream, bodies ...string) {
		t.Helper()
		for _, body := range bodies {
			if _, err := js.Publish(t.Context(), subjects.Inbox(phone.Key(), subjects.Normal), []byte(body)); err != nil {
				t.Fatal(err)
			}
		}
	}
	in, device := s.hear(phone, func(body string) bool { return body != `"sent"` })
	publish(js, `"acknowledged"`, `"sent"`)
	eventually(t, "both are sent", func() bool { return in.count(`"acknowledged"`, `"sent"`) == 2 }, new(string))
	stored(t, s.data, s.proc, phone)
	_ = device.Close()
	publish(js, `"waiting"`)
	if status, out := s.command(s.data, "backup", "--out", filepath.Join(s.dir, "one.tar")); status != 0 {
		t.Fatalf("backup: %s", out)
	}
	nc.Close()
	s.signal(syscall.SIGTERM)

	dir := t.TempDir()
	first := filepath.Join(dir, "server-1")
	if err := os.Mkdir(first, 0o700); err != nil {
		t.Fatal(err)
	}
	if out, err := exec.CommandContext(t.Context(), "cp", "-a", filepath.Join(s.data, "keys"), first).CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	c := layOut(t, dir)
	for _, p := range c.procs[:servers] {
		p.Args = append(p.Args, "--restoring")
	}
	c.bringUp(filepath.Join(s.dir, "one.tar"))
	c.allHaveCopies()
	at := &single{proc: c.procs[servers], data: c.plan.Data()}
	// The phone comes back with what it had.
	in, device = at.hear(phone, func(body string) bool { return body != `"sent"` })
	eventually(t, "what was not acknowledged comes", func() bool { return in.count(`"sent"`, `"waiting"`) == 2 }, new(string))
	in.noneUnflagged(t, `"acknowledged"`, `"sent"`)
	at.proc = c.procs[0]
	nc, js = c.service(c.procs[0])
	defer nc.Close()
	publish(js, `"in the cluster"`)
	eventually(t, "messages flow on", func() bool { return in.count(`"in the cluster"`) == 1 }, new(string))
	stored(t, c.plan.Data(), c.procs[0], phone)
	_ = device.Close()
	publish(js, `"waiting in the cluster"`)

	// A cluster is restored as a cluster in the same way.
	if status, out := c.procs[0].command(c.plan.Data(), "backup", "--out", filepath.Join(s.dir, "three.tar")); status != 0 {
		t.Fatalf("backup: %s", out)
	}
	nc.Close()
	for _, p := range slices.Backward(c.procs) {
		p.signal(syscall.SIGTERM)
	}
	for _, p := range c.procs[:servers] {
		if err := os.RemoveAll(filepath.Join(p.data(), "jetstream")); err != nil {
			t.Fatal(err)
		}
	}
	c.bringUp(filepath.Join(s.dir, "three.tar"))
	at.proc = c.procs[servers]
	in, _ = at.hear(phone, func(string) bool { return true })
	eventually(t, "what waited in the cluster comes", func() bool { return in.count(`"sent"`, `"waiting in the cluster"`) == 2 }, new(string))
	in.noneUnflagged(t, `"acknowledged"`, `"sent"`, `"waiting"`, `"in the cluster"`)
}

// bringUp starts the servers, which wait, restores a backup, and starts the edges.
func (c *cluster) bringUp(file string) {
	c.t.Helper()
	for _, p := range c.procs[:servers] {
		p.start()
	}
	state := ""
	eventually(c.t, "a server waits for the restore", func() bool {
		status, body := c.procs[0].get("/readyz")
		state = body
		return status == http.StatusServiceUnavailable && strings.Contains(body, "rccs restore")
	}, &state)
	restore := func() (string, error) {
		return c.procs[0].run("restore", file, "--data", c.plan.Data(), "--cluster", "nats://"+c.procs[0].NATS)
	}
	if out, err := restore(); err != nil {
		c.t.Fatalf("restore: %v\n%s", err, out)
	}
	for _, p := range c.procs[servers:] {
		p.start()
	}
	ready(c.t, c.procs)
	if out, err := restore(); err == nil || !strings.Contains(out, "has streams already") {
		c.t.Errorf("a restore into a cluster that is used: %v\n%s", err, out)
	}
}

// allHaveCopies checks that every stream is on three servers.
func (c *cluster) allHaveCopies() {
	c.t.Helper()
	js, nc := c.jetStream()
	defer nc.Close()
	list := js.ListStreams(c.t.Context())
	n := 0
	for info := range list.Info() {
		n++
		if info.Config.Replicas != servers || info.Config.PersistMode != jetstream.DefaultPersistMode {
			c.t.Errorf("%s has %d copies, persisted %v", info.Config.Name, info.Config.Replicas, info.Config.PersistMode)
		}
	}
	if err := list.Err(); err != nil || n == 0 {
		c.t.Errorf("%d streams, %v", n, err)
	}
}

// count is how many of the bodies have come.
func (in *arrivals) count(bodies ...string) (n int) {
	in.mu.Lock()
	defer in.mu.Unlock()
	for _, body := range bodies {
		if in.times[body] > 0 {
			n++
		}
	}
	return n
}

// noneUnflagged checks that what comes of the bodies says that it comes again.
func (in *arrivals) noneUnflagged(t *testing.T, bodies ...string) {
	t.Helper()
	in.mu.Lock()
	defer in.mu.Unlock()
	for _, body := range bodies {
		if in.times[body] > in.again[body] {
			t.Errorf("%s came %d times, %d of them marked as redelivered", body, in.times[body], in.again[body])
		}
	}
}

// stored waits until the cursor of a device has all that it acknowledged: all but
// one message of the lane normal.
func stored(t *testing.T, data string, at *proc, a subjects.Address) {
	t.Helper()
	js, nc := part(t, data, "nats://"+at.NATS)
	defer nc.Close()
	state := ""
	eventually(t, "the acknowledgements are stored", func() bool {
		stream, err := js.Stream(t.Context(), layout.StreamCursor)
		if err != nil {
			state = err.Error()
			return false
		}
		m, err := stream.GetLastMsgForSubject(t.Context(), layout.Cursor(a.Key()))
		if err != nil {
			state = err.Error()
			return false
		}
		state = string(m.Data)
		c, err := inbox.ParseCursor(m.Data)
		return err == nil && c.Sent[subjects.Normal] > 0 && len(c.Unacked[subjects.Normal]) == 1
	}, &state)
}
