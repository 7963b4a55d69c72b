package chaos_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/rccs-io/rccs/auth"
	"github.com/rccs-io/rccs/client"
	"github.com/rccs-io/rccs/internal/layout"
	"github.com/rccs-io/rccs/internal/localcluster"
	"github.com/rccs-io/rccs/internal/natstest"
	"github.com/rccs-io/rccs/internal/need"
	"github.com/rccs-io/rccs/subjects"
	"github.com/rccs-io/rccs/wire"
)

// command runs a command of the program on an installation.
func (p *proc) command(data string, args ...string) (status int, out string) {
	p.t.Helper()
	ctx, cancel := context.WithTimeout(context.WithoutCancel(p.t.Context()), patience)
	defer cancel()
	cmd := exec.CommandContext(ctx, program, append(args, "--data", data, "--server", "nats://"+p.NATS)...)
	text, err := cmd.CombinedOutput()
	if exit := (*exec.ExitError)(nil); err != nil && !errors.As(err, &exit) {
		p.t.Fatal(err)
	}
	return cmd.ProcessState.ExitCode(), string(text)
}

// store publishes numbered messages to a device until n are stored, or one is
// refused. The result is how many are.
func store(t *testing.T, nc *nats.Conn, a subjects.Address, n, size int) int {
	t.Helper()
	return storeFrom(t, nc, a, 0, n, size)
}

// storeFrom is [store] with another first number.
func storeFrom(t *testing.T, nc *nats.Conn, a subjects.Address, first, n, size int) int {
	t.Helper()
	js, err := jetstream.New(nc)
	if err != nil {
		t.Fatal(err)
	}
	filler := strings.Repeat("x", size)
	for i := range n {
		ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
		_, err := js.Publish(ctx, subjects.Inbox(a.Key(), subjects.Normal), fmt.Appendf(nil, `{"n":%d,"filler":%q}`, first+i, filler))
		cancel()
		if err != nil {
			return i
		}
	}
	return n
}

// received is what a device got.
type received struct {
	mu   sync.Mutex
	got  map[int]int // how often each number came
	gaps []wire.Gap
}

// receive connects a device that takes numbered messages.
func (s *single) receive(a subjects.Address) *received {
	s.t.Helper()
	r := &received{got: map[int]int{}}
	c := s.device(a, client.Options{OnGap: func(g wire.Gap) {
		r.mu.Lock()
		defer r.mu.Unlock()
		r.gaps = append(r.gaps, g)
	}})
	client.HandleJSON(c, "notification", func(_ context.Context, v struct{ N int }, _ *client.Message) error {
		r.mu.Lock()
		defer r.mu.Unlock()
		r.got[v.N]++
		return nil
	})
	return r
}

// awaitAll waits until every one of n messages has come or is told in a gap, and
// returns how many are told.
func (r *received) awaitAll(t *testing.T, n int) (told int) {
	t.Helper()
	state := ""
	eventually(t, "all messages are accounted for", func() bool {
		r.mu.Lock()
		defer r.mu.Unlock()
		told = 0
		for _, g := range r.gaps {
			told += int(max(g.Count, g.AtLeast))
		}
		state = fmt.Sprintf("%d of %d came, gaps %+v", len(r.got), n, r.gaps)
		return len(r.got)+told >= n
	}, &state)
	r.mu.Lock()
	defer r.mu.Unlock()
	for i, times := range r.got {
		if times != 1 {
			t.Errorf("%d came %d times", i, times)
		}
	}
	if len(r.got)+told != n {
		t.Errorf("%d came and %d were told lost, of %d", len(r.got), told, n)
	}
	return told
}

var receiver = subjects.Address{User: "alice", Device: "receiver"}

// inboxBlock is the first block file of the inbox stream.
func inboxBlock(t *testing.T, data string) string {
	t.Helper()
	paths, err := filepath.Glob(filepath.Join(data, "jetstream", "A*", "streams", layout.StreamInbox, "msgs", "*.blk"))
	if err != nil || len(paths) == 0 {
		t.Fatalf("no block: %v", err)
	}
	return paths[0]
}

func flip(t *testing.T, path string) {
	t.Helper()
	buf, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	i := bytes.Index(buf[len(buf)/2:], []byte("xxxxxxxx")) // a payload
	if i < 0 {
		t.Fatal("no payload was found")
	}
	buf[len(buf)/2+i] ^= 1
	if err := os.WriteFile(path, buf, 0o600); err != nil {
		t.Fatal(err)
	}
}

// One bit of one block costs one message, and the device is told; what lies
// behind it arrives.
func TestFault_OneFlippedBitCostsOneMessageThatIsTold(t *testing.T) {
	t.Parallel()
	s := newSingle(t, t.TempDir())
	if err := s.serving(); err != nil {
		t.Fatal(err)
	}
	const n = 500
	if stored := store(t, s.service(), receiver, n, 200); stored != n {
		t.Fatalf("%d stored", stored)
	}
	// Edges have counted what each device is owed, as they do every few seconds.
	s.signal(syscall.SIGTERM)
	if err := s.serving(); err != nil {
		t.Fatal(err)
	}
	s.signal(syscall.SIGKILL)
	flip(t, inboxBlock(t, s.data))
	if err := s.serving(); err != nil {
		t.Fatal(err)
	}
	r := s.receive(receiver)
	if told := r.awaitAll(t, n); told != 1 {
		t.Errorf("%d messages are told lost: %+v", told, r.gaps)
	}
	for _, g := range r.gaps {
		if g.Reason != wire.ReasonDamaged {
			t.Errorf("told %+v", g)
		}
	}
	if status, out := s.command(s.data, "doctor"); status != 1 || !strings.Contains(out, layout.StreamInbox+" damaged") {
		t.Errorf("doctor: status %d\n%s", status, out)
	}
	if stored := store(t, s.service(), receiver, 1, 1); stored != 1 {
		t.Error("nothing is stored any more")
	}
}

// A disk that is full ends the server with the reason. It waits for room when it
// is started again, says so, and loses nothing. At each step /readyz, the doctor
// and the log say the same.
func TestFault_FullDiskHealsWhenThereIsRoom(t *testing.T) {
	t.Parallel()
	const room = 32 << 20
	dir := t.TempDir()
	if err := mount(dir, 0, 8*room); err != nil {
		need.Skip(t, fmt.Sprintf("a small file system cannot be mounted: %v", err))
	}
	t.Cleanup(func() { _ = syscall.Unmount(dir, syscall.MNT_DETACH) })
	s := newSingle(t, filepath.Join(dir, "data"))
	if err := s.serving(); err != nil {
		t.Fatal(err)
	}
	s.agree(true, "")
	if err := mount(dir, syscall.MS_REMOUNT, room); err != nil {
		t.Fatal(err)
	}
	asked := s.askWhileItEnds()
	stored := store(t, s.service(), receiver, 400, 200_000)
	if stored == 400 {
		t.Fatal("the disk is not full")
	}
	eventually(t, "the server ends", s.exited, new(string))
	log, err := os.ReadFile(s.logPath())
	if err != nil {
		t.Fatal(err)
	}
	if status := s.cmd.ProcessState.ExitCode(); status != 1 || !bytes.Contains(log, []byte("cannot be written any more")) {
		t.Errorf("the server ended with status %d", status)
	}
	<-asked
	s.agree(false, "to be started again")
	s.start()
	state := ""
	eventually(t, "the server says what it waits for", func() bool {
		status, body := s.get("/readyz")
		state = body
		return status == http.StatusServiceUnavailable && strings.Contains(body, "is full")
	}, &state)
	s.agree(false, "is full")
	if err := mount(dir, syscall.MS_REMOUNT, 8*room); err != nil {
		t.Fatal(err)
	}
	ready(t, []*proc{s.proc})
	s.agree(true, "waits no longer")
	r := s.receive(receiver)
	if told := r.awaitAll(t, stored); told != 0 {
		t.Errorf("%d messages are told lost: %+v", told, r.gaps)
	}
}

// An edge may be started before its servers: it waits, and says for what.
func TestEdgeWaitsForItsServers(t *testing.T) {
	t.Parallel()
	s := newSingle(t, t.TempDir())
	if _, err := auth.OpenKeystore(s.data); err != nil {
		t.Fatal(err)
	}
	edge := func(name, url string, args ...string) *proc {
		port, err := localcluster.FreePort()
		if err != nil {
			t.Fatal(err)
		}
		p := &proc{t: t, dir: s.dir, Process: localcluster.Process{Name: name, Admin: fmt.Sprint("127.0.0.1:", port), Args: append([]string{
			"edge", "--data", s.data, "--server", url, "--listen", "127.0.0.1:0", "--admin-listen", fmt.Sprint("127.0.0.1:", port),
		}, args...)}}
		p.start()
		return p
	}
	patient, hasty := edge("patient", "nats://"+s.NATS), edge("hasty", "nats://"+s.NATS, "--start-wait", "1s")
	behind := edge("behind", natstest.NewProxy(t, s.NATS).URL()) // which accepts connections, and ends them
	for _, p := range []*proc{patient, behind} {
		state := ""
		eventually(t, "the edge says what it waits for", func() bool {
			status, body := p.get("/readyz")
			state = body
			return status == http.StatusServiceUnavailable && strings.Contains(body, "waiting: ") && strings.Contains(body, "NATS")
		}, &state)
	}
	eventually(t, "an edge gives up after its bound", hasty.exited, new(string))
	log, err := os.ReadFile(hasty.logPath())
	if err != nil || hasty.cmd.ProcessState.ExitCode() != 1 || !bytes.Contains(log, []byte("--start-wait")) {
		t.Errorf("it ended with %d, %v: %s", hasty.cmd.ProcessState.ExitCode(), err, log)
	}
	if err := s.serving(); err != nil {
		t.Fatal(err)
	}
	ready(t, []*proc{patient, behind})
}

// A damaged copy in a cluster goes aside and comes again from the others: a
// device misses nothing, and the operator is told.
func TestFault_DamagedCopyComesFromAnotherServer(t *testing.T) {
	t.Parallel()
	c := newCluster(t)
	nc, _ := c.service(c.procs[0])
	const n = 300
	if stored := store(t, nc, receiver, n, 200); stored != n {
		t.Fatalf("%d stored", stored)
	}
	c.current()
	bad := c.procs[1]
	bad.signal(syscall.SIGKILL)
	data := filepath.Join(c.plan.Dir, bad.Name)
	flip(t, inboxBlock(t, data))
	bad.start()
	ready(c.t, c.procs)
	c.current()
	s := &single{data: c.plan.Data(), proc: c.procs[servers]}
	r := s.receive(receiver)
	if told := r.awaitAll(t, n); told != 0 {
		t.Errorf("%d messages are told lost: %+v", told, r.gaps)
	}
	_, out := c.procs[0].command(c.plan.Data(), "doctor")
	if !strings.Contains(out, bad.Name) || !strings.Contains(out, layout.StreamInbox+" damaged") || !strings.Contains(out, "first missing sequence") {
		t.Errorf("doctor says\n%s", out)
	}
	log, err := os.ReadFile(bad.logPath())
	if err != nil || !bytes.Contains(log, []byte(".blk")) {
		t.Errorf("the log does not name the block: %v", err)
	}
}
