package chaos_test

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/rccs-io/rccs/auth"
	"github.com/rccs-io/rccs/client"
	"github.com/rccs-io/rccs/internal/localcluster"
	"github.com/rccs-io/rccs/subjects"
)

// single is one server with an edge in it, as 'rccs serve' runs it.
type single struct {
	*proc
	data   string
	volume string // where a file system of its own is mounted, with the data on it; "": none
}

// newSingle lays a server out, without starting it. The data directory is made
// by its first start; further arguments are the test's.
func newSingle(t *testing.T, data string, args ...string) *single {
	t.Helper()
	var ports [3]string
	for i := range ports {
		port, err := localcluster.FreePort()
		if err != nil {
			t.Fatal(err)
		}
		ports[i] = fmt.Sprint("127.0.0.1:", port)
	}
	s := &single{data: data, proc: &proc{t: t, dir: t.TempDir(), Process: localcluster.Process{
		Name: "server", Devices: ports[0], NATS: ports[1], Admin: ports[2],
		Args: append([]string{"serve", "--data", data, "--listen", ports[0], "--nats-listen", ports[1], "--admin-listen", ports[2], "--trusted-proxy", "127.0.0.1"}, args...),
	}}}
	t.Cleanup(func() {
		if t.Failed() {
			log, err := os.ReadFile(s.logPath())
			t.Logf("end of the server's log: %v\n%s", err, log[max(0, len(log)-6000):])
		}
	})
	return s
}

func (p *proc) logPath() string { return filepath.Join(p.dir, p.Name+".log") }

// exited reports whether the process has ended.
func (p *proc) exited() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	select {
	case <-p.gone:
		return true
	default:
		return false
	}
}

// serving starts the process and waits until it is ready. The error says how it
// ended instead.
func (p *proc) serving() error {
	p.start()
	deadline := time.Now().Add(patience)
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	last := ""
	for range tick.C {
		status := 0
		if status, last = p.get("/readyz"); status == http.StatusOK {
			return nil
		}
		if p.exited() {
			log, _ := os.ReadFile(p.logPath())
			return fmt.Errorf("ended: %s", log[max(0, len(log)-2000):])
		}
		if time.Now().After(deadline) {
			break
		}
	}
	return errors.New("not ready: " + last)
}

// keys are the installation's; the server has run once.
func (s *single) keys() *auth.Keystore {
	s.t.Helper()
	keys, err := auth.OpenKeystore(s.data)
	if err != nil {
		s.t.Fatal(err)
	}
	return keys
}

// device is the Go SDK as a device, which comes back by itself. It ends with the
// test.
func (s *single) device(a subjects.Address, opts client.Options) *client.Client {
	s.t.Helper()
	return s.dial(s.keys(), a, opts)
}

func (s *single) dial(keys *auth.Keystore, a subjects.Address, opts client.Options) *client.Client {
	s.t.Helper()
	c := s.open(keys, a, opts)
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = c.Serve(context.WithoutCancel(s.t.Context()))
	}()
	s.t.Cleanup(func() {
		_ = c.Close()
		<-done
	})
	return c
}

// open is [single.dial] for one who receives by himself. He closes it.
func (s *single) open(keys *auth.Keystore, a subjects.Address, opts client.Options) *client.Client {
	s.t.Helper()
	cred, err := keys.IssueDevice(a, auth.DeviceOptions{Bearer: true})
	if err != nil {
		s.t.Fatal(err)
	}
	opts.Token, opts.Heartbeat, opts.HandshakeTimeout, opts.Offline = cred.JWT, 5*time.Second, 5*time.Second, true
	c, err := client.Dial(context.WithoutCancel(s.t.Context()), "ws://"+s.Devices+"/v1/ws", &opts)
	if err != nil {
		s.t.Fatal(err)
	}
	return c
}

// service connects to NATS as a backend service that comes back at once.
func (s *single) service() *nats.Conn {
	s.t.Helper()
	cred, err := s.keys().IssueService("billing", auth.ServiceOptions{})
	if err != nil {
		s.t.Fatal(err)
	}
	nc, err := nats.Connect("nats://"+s.NATS, cred.Option(), nats.MaxReconnects(-1), nats.ReconnectWait(time.Millisecond),
		nats.ReconnectJitter(0, 0), nats.ErrorHandler(func(*nats.Conn, *nats.Subscription, error) {}))
	if err != nil {
		s.t.Fatal(err)
	}
	s.t.Cleanup(nc.Close)
	return nc
}
