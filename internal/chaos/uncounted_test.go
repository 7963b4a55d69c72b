package chaos_test

import (
	"fmt"
	"os"
	"strings"
	"syscall"
	"testing"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/rccs-io/rccs/client"
	"github.com/rccs-io/rccs/internal/layout"
	"github.com/rccs-io/rccs/subjects"
	"github.com/rccs-io/rccs/wire"
)

// A device that registered and was never sent anything, and one that is to register
// yet, are told what is damaged right after it was stored, of the only block that
// there is: by its number, or where nobody had counted it without one.
func TestFault_DamageRightAfterStoringIsTold(t *testing.T) {
	t.Parallel()
	for name, damage := range map[string]func(path string, buf []byte) error{
		"zeros": func(path string, buf []byte) error {
			clear(buf[len(buf)/3 : len(buf)/2])
			return os.WriteFile(path, buf, 0o600)
		},
		"cut":     func(path string, buf []byte) error { return os.WriteFile(path, buf[:len(buf)/2], 0o600) },
		"emptied": func(path string, _ []byte) error { return os.WriteFile(path, nil, 0o600) },
		"deleted": func(path string, _ []byte) error { return os.Remove(path) },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newSingle(t, t.TempDir())
			s.startReady()
			devices := []subjects.Address{{User: "alice", Device: "mac"}, {User: "alice", Device: "new"}}
			mac := s.open(s.keys(), devices[0], client.Options{})
			eventually(t, "the device is registered", func() bool { return mac.Session().ID != "" }, new(string))
			if err := mac.Close(); err != nil {
				t.Fatal(err)
			}
			const n = 200 // of each
			s.burst(devices, n)
			s.signal(syscall.SIGKILL)
			files := blocks(t, s.data, layout.StreamInbox)
			if len(files) != 1 {
				t.Fatalf("%d blocks", len(files))
			}
			buf, err := os.ReadFile(files[0])
			if err == nil {
				err = damage(files[0], buf)
			}
			if err != nil {
				t.Fatal(err)
			}
			s.startReady()
			for _, a := range devices {
				s.accountsForUncounted(a, n)
			}
			if status, out := s.command(s.data, "doctor"); status != 1 || !strings.Contains(out, layout.StreamInbox) {
				t.Errorf("doctor: status %d\n%s", status, out)
			}
		})
	}
}

// burst stores n messages for each device as fast as it can.
func (s *single) burst(devices []subjects.Address, n int) {
	s.t.Helper()
	js, err := jetstream.New(s.service())
	if err != nil {
		s.t.Fatal(err)
	}
	filler := strings.Repeat("x", 200)
	var stored []jetstream.PubAckFuture
	for i := range n {
		for _, a := range devices {
			f, err := js.PublishAsync(subjects.Inbox(a.Key(), subjects.Normal), fmt.Appendf(nil, `{"n":%d,"filler":%q}`, i, filler))
			if err != nil {
				s.t.Fatal(err)
			}
			stored = append(stored, f)
		}
	}
	for _, f := range stored {
		select {
		case <-f.Ok():
		case err := <-f.Err():
			s.t.Fatal(err)
		}
	}
}

// accountsForUncounted connects a device, and waits until each of n messages and
// one more has come or is told lost.
func (s *single) accountsForUncounted(a subjects.Address, n int) {
	s.t.Helper()
	r := s.receive(a)
	if stored := storeFrom(s.t, s.service(), a, n, 1, 1); stored != 1 {
		s.t.Fatal("nothing is stored any more")
	}
	state := ""
	eventually(s.t, "what is stored comes", func() bool {
		r.mu.Lock()
		defer r.mu.Unlock()
		state = fmt.Sprintf("%d of %d came, gaps %+v", len(r.got), n+1, r.gaps)
		return r.got[n] > 0
	}, &state)
	r.mu.Lock()
	defer r.mu.Unlock()
	told, doubts := 0, 0
	for _, g := range r.gaps {
		told += int(g.Count)
		if g.Reason != wire.ReasonDamaged {
			s.t.Errorf("%s is told %+v", a.Device, g)
		}
		if g.Count == 0 {
			doubts++
		}
	}
	s.t.Logf("%s: %s", a.Device, state)
	if have := len(r.got) + told; have > n+1 || have < n+1 && doubts == 0 {
		s.t.Errorf("%s: %d came and %d are told lost, of %d, and %d gaps are without a number", a.Device, len(r.got), told, n+1, doubts)
	}
}
