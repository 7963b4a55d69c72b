package bench_test

import (
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/gorilla/websocket"

	"github.com/rccs-io/rccs/bench"
	"github.com/rccs-io/rccs/bench/relay"
)

// The generator against the server that the benchmarks measure, so that they
// do not rot.
func TestLoadOnServer(t *testing.T) {
	t.Parallel()
	server, data := serve(t)
	for name, opts := range map[string]bench.Options{
		"plain":    {},
		"ack each": {AckEach: true, Receipts: true},
		"batch":    {Batch: true},
	} {
		t.Run(name, func(t *testing.T) { // one after the other: they are the same devices
			opts.Devices = 20
			loadOn(t, connect(t, server, data, opts))
			sent, err := server.Metric(t.Context(), "rccs_messages_sent_total")
			if err != nil || sent == 0 {
				t.Errorf("the server has sent %v messages, error %v", sent, err)
			}
		})
	}
	if cpu, err := server.CPU(); err != nil || cpu == 0 {
		t.Errorf("the server took %s of CPU, error %v", cpu, err)
	}
	if held, err := server.Settled(t.Context()); err != nil || held < 1<<20 {
		t.Errorf("the server holds %d bytes, error %v", held, err)
	}
}

func TestLoadOnRelay(t *testing.T) {
	t.Parallel()
	srv := httptest.NewUnstartedServer(new(relay.Relay))
	srv.Listener = relay.Listener{Listener: srv.Listener}
	srv.Start()
	defer srv.Close()
	f, err := bench.Connect(t.Context(), bench.Options{URL: "ws" + strings.TrimPrefix(srv.URL, "http"), Devices: 20})
	if err != nil {
		t.Fatal(err)
	}
	loadOn(t, f)
	if err := f.Close(); err != nil {
		t.Error(err)
	}
}

// loadOn puts both kinds of load on what a fleet is connected to.
func loadOn(t *testing.T, f *bench.Fleet) {
	t.Helper()
	for range 2 { // a fleet can be used again
		r, err := f.Saturate(t.Context(), 10, 4, 100*time.Millisecond)
		if err != nil {
			t.Fatal(err)
		}
		if r.Messages < 40 {
			t.Errorf("%d messages: want at least those in flight", r.Messages)
		}
	}
	if _, err := f.Saturate(t.Context(), 11, 1, 0); err == nil {
		t.Error("a load on more pairs than there are was taken")
	}
}

// faulty hands on what left sends to right, with one fault at the fifth.
type faulty struct {
	fault    string
	upgrader websocket.Upgrader

	mu    sync.Mutex
	right *websocket.Conn
	kept  []byte
	count int
}

func (s *faulty) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	s.mu.Lock() // right is known before it hears that it is connected
	ws, err := s.upgrader.Upgrade(w, r, nil)
	if strings.HasSuffix(r.URL.Query().Get("id"), "/right") {
		s.right = ws
	}
	s.mu.Unlock()
	if err != nil {
		return
	}
	defer func() { _ = ws.Close() }()
	for {
		_, frame, err := ws.ReadMessage()
		if err != nil || s.pass(frame) != nil {
			return
		}
	}
}

func (s *faulty) pass(frame []byte) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	frames := [][]byte{frame}
	switch s.count++; {
	case s.fault == "loses" && s.count == 5, s.fault == "stops" && s.count >= 5:
		return nil
	case s.fault == "doubles" && s.count == 5:
		frames = append(frames, frame)
	case s.fault == "swaps" && s.count == 5:
		s.kept = frame
		return nil
	case s.fault == "swaps" && s.count == 6:
		frames = append(frames, s.kept)
	case s.fault == "refuses" && s.count == 5:
		frames[0] = []byte(`{"type":"error","payload":{"code":"UNAVAILABLE"}}`)
	case s.fault == "hangs up" && s.count == 5:
		return s.right.Close()
	}
	for _, frame := range frames {
		if err := s.right.WriteMessage(websocket.TextMessage, frame); err != nil {
			return err
		}
	}
	return nil
}

// A figure is worth nothing if the messages behind it were not all delivered.
func TestFaultsAreSeen(t *testing.T) {
	t.Parallel()
	for fault, want := range map[string]string{
		"loses":    "lost",
		"doubles":  "twice",
		"swaps":    "overtaken",
		"refuses":  "UNAVAILABLE",
		"hangs up": "", // whoever notices first says it
		"stops":    "no more came",
	} {
		t.Run(fault, func(t *testing.T) {
			t.Parallel()
			srv := httptest.NewServer(&faulty{fault: fault})
			defer srv.Close()
			f, err := bench.Connect(t.Context(), bench.Options{URL: "ws" + strings.TrimPrefix(srv.URL, "http"), Devices: 2, Patience: time.Second})
			if err != nil {
				t.Fatal(err)
			}
			if _, err = f.Saturate(t.Context(), 1, 8, time.Second); err == nil || !strings.Contains(err.Error(), want) {
				t.Errorf("error %v, want one with %q", err, want)
			}
			if err := f.Close(); err == nil && fault != "stops" {
				t.Error("Close knows of no fault")
			}
		})
	}
}

func TestConnectFails(t *testing.T) {
	t.Parallel()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	url := "ws://" + l.Addr().String()
	_ = l.Close()
	for _, devices := range []int{0, 3, 4} {
		if f, err := bench.Connect(t.Context(), bench.Options{URL: url, Devices: devices}); err == nil {
			t.Errorf("%d devices connected to nothing: %v", devices, f.Close())
		}
	}
}
