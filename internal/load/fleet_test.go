package load_test

import (
	"net"
	"net/http/httptest"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/rccs-io/rccs/internal/load"
	"github.com/rccs-io/rccs/internal/testkit"
)

// The load of the benchmarks, so that they do not rot.
func TestFleetOnServer(t *testing.T) {
	t.Parallel()
	to := target(t, "throughput", 20)
	for name, opts := range map[string]load.Options{
		"plain":    {},
		"ack each": {AckEach: true, Receipts: true},
		"batch":    {Batch: true},
	} {
		t.Run(name, func(t *testing.T) { // one after the other: they are the same devices
			opts.Target = to
			saturate(t, opts)
		})
	}
	p := load.Attach(os.Getpid(), "")
	if cpu, err := p.CPU(); err != nil || cpu == 0 {
		t.Errorf("the server took %s of CPU, error %v", cpu, err)
	}
	if held, err := p.Resident(); err != nil || held < 1<<20 {
		t.Errorf("the server holds %d bytes, error %v", held, err)
	}
}

func TestFleetOnRelay(t *testing.T) {
	t.Parallel()
	srv := httptest.NewUnstartedServer(new(relay))
	srv.Listener = relayListener{Listener: srv.Listener}
	srv.Start()
	defer srv.Close()
	saturate(t, load.Options{Target: load.Target{URL: "ws" + strings.TrimPrefix(srv.URL, "http"), Relay: true, Accounts: twenty()}})
}

func twenty() (all []load.Account) {
	for _, name := range load.Names(20) {
		all = append(all, load.Account{Name: name})
	}
	return all
}

// saturate puts load on what 20 devices are connected to.
func saturate(t *testing.T, opts load.Options) {
	t.Helper()
	opts.Devices, opts.Window = 20, 4
	f, err := load.Connect(opts)
	if err != nil {
		t.Fatal(err)
	}
	for range 2 { // a fleet can be used again
		r, err := f.Saturate(10, 100*time.Millisecond)
		if err != nil {
			t.Fatal(err)
		}
		if r.Messages < 40 || r.Elapsed <= 0 {
			t.Errorf("%+v: want at least the messages in flight", r)
		}
	}
	if took, err := f.Pace(1000, 30*time.Millisecond); err != nil || len(took) != 30 {
		t.Errorf("%d messages at a fixed rate, error %v; want 30", len(took), err)
	}
	if _, err := f.Saturate(11, 0); err == nil {
		t.Error("a load on more pairs than there are was taken")
	}
	for range 2 { // who closes it early may have left that to a defer too
		if err := f.Close(); err != nil {
			t.Error(err)
		}
	}
}

// A figure is worth nothing if the messages behind it were not all delivered.
func TestFleetFindsALoss(t *testing.T) {
	t.Parallel()
	opts := load.Options{Devices: 2, Window: 5, Patience: testkit.Patience, Target: target(t, "throughput", 2)}
	opts.Target.URL = tampered(t, opts.Target.URL, func(n int, data []byte) [][]byte {
		if n == 3 {
			return nil
		}
		return [][]byte{data}
	})
	f, err := load.Connect(opts)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := f.Saturate(1, time.Second); err == nil || !strings.Contains(err.Error(), "message 3 of user0/left to user0/right, lane normal is lost") {
		t.Errorf("error %v", err)
	}
	if err := f.Close(); err == nil {
		t.Error("Close knows of no fault")
	}
}

func TestFleetWithoutServerIsAnError(t *testing.T) {
	t.Parallel()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	url := "ws://" + l.Addr().String()
	_ = l.Close()
	if f, err := load.Connect(load.Options{Devices: 20, Target: load.Target{URL: url, Accounts: twenty()}}); err == nil {
		t.Errorf("devices connected to nothing: %v", f.Close())
	}
}
