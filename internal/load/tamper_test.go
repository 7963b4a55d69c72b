package load_test

import (
	"bytes"
	"context"
	"errors"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/gorilla/websocket"

	"github.com/rccs-io/rccs/internal/devicetest"
	"github.com/rccs-io/rccs/internal/load"
	"github.com/rccs-io/rccs/internal/testkit"
)

// tampered is a proxy before a server that does something to the frames that
// carry messages of a run, on their way to each device. frame is called with
// one after the other, from 1, and returns what goes on.
func tampered(t *testing.T, url string, frame func(n int, data []byte) [][]byte) string {
	t.Helper()
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { proxy(t, w, r, url, frame) }))
	t.Cleanup(s.Close)
	return "ws" + strings.TrimPrefix(s.URL, "http")
}

func untouched(_ int, data []byte) [][]byte { return [][]byte{data} }

// proxy is one connection.
func proxy(t *testing.T, w http.ResponseWriter, r *http.Request, url string, frame func(n int, data []byte) [][]byte) {
	t.Helper()
	proxyBoth(t, w, r, url, frame, func(*websocket.Conn, []byte) {})
}

// proxyBoth is one of which the frames that go to the server are seen too.
func proxyBoth(
	t *testing.T, w http.ResponseWriter, r *http.Request, url string,
	frame func(n int, data []byte) [][]byte, seen func(server *websocket.Conn, data []byte),
) {
	t.Helper()
	server, _, err := devicetest.Dial(r.Context(), url, devicetest.How{}) //nolint:bodyclose // Dial has closed it
	if err != nil {
		t.Error(err)
		return
	}
	upgrader := websocket.Upgrader{Subprotocols: []string{"rccs.v1"}}
	device, err := upgrader.Upgrade(w, r, nil)
	if err != nil {
		t.Error(errors.Join(err, server.Close()))
		return
	}
	var ends sync.WaitGroup
	ends.Go(func() { pump(server, device, untouched, func(data []byte) { seen(server, data) }) })
	pump(device, server, frame, func([]byte) {})
	ends.Wait()
}

// pump copies frames until one side ends, and ends the other.
func pump(to, from *websocket.Conn, frame func(n int, data []byte) [][]byte, seen func(data []byte)) {
	defer func() { _ = errors.Join(to.Close(), from.Close()) }()
	n := 0
	for {
		kind, data, err := from.ReadMessage()
		if err != nil {
			return
		}
		seen(data)
		frames := [][]byte{data}
		if bytes.Contains(data, []byte(`"payload":{"run":`)) {
			n++
			frames = frame(n, data)
		}
		for _, data := range frames {
			if to.WriteMessage(kind, data) != nil {
				return
			}
		}
	}
}

// A server that loses, doubles or swaps a message fails each scenario, and the
// message is named.
func TestTamperedMessagesAreFound(t *testing.T) {
	t.Parallel()
	double := func(n int, data []byte) [][]byte {
		if n == 3 {
			return [][]byte{data, data}
		}
		return [][]byte{data}
	}
	lose := func(n int, data []byte) [][]byte {
		if n == 3 {
			return nil
		}
		return [][]byte{data}
	}
	// Only one device gets more than one message in this test where this is used.
	var held []byte
	swap := func(n int, data []byte) [][]byte {
		switch n {
		case 3:
			held = data
			return nil
		case 4:
			return [][]byte{data, held}
		}
		return [][]byte{data}
	}
	paced := load.Options{Devices: 2, Rate: 50, Duration: 400 * time.Millisecond, Warmup: time.Millisecond}
	for _, c := range []struct {
		name, scenario string
		run            func(context.Context, load.Options) (*load.Result, error)
		opts           load.Options
		frame          func(n int, data []byte) [][]byte
		message, want  string
	}{
		{"doubled", "latency", load.Latency, paced, double, "message 3 of user0/left to user0/right, lane normal", "came twice"},
		{"lost", "latency", load.Latency, paced, lose, "message 3 of user0/left to user0/right, lane normal", "is lost"},
		{"swapped", "latency", load.Latency, paced, swap, "message 3 of user0/left to user0/right, lane normal", "came after a later one"},
		{"lost under load", "throughput", load.Throughput, load.Options{Devices: 2, Window: 5, Warmup: time.Millisecond}, lose, "message 3 of ", "is lost"},
		{"doubled in a topic", "fanout", load.Fanout, load.Options{Devices: 2, Window: 5, Warmup: time.Millisecond}, double, "message 3 of topic bench.", "came twice"},
		{"lost for a device that comes back", "storm", load.Storm, load.Options{Devices: 2, Missed: 5}, lose, "message 3 of ", "is lost"},
		{"doubled for a device that reads", "slow", load.Slow, load.Options{Devices: 4, Rate: 100, Warmup: time.Millisecond, Stopped: 1}, double, "message 3 of ", "came twice"},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			c.opts.Target = target(t, c.scenario, c.opts.Devices)
			c.opts.Target.URL = tampered(t, c.opts.Target.URL, c.frame)
			c.opts.Patience = testkit.Patience
			r, err := c.run(t.Context(), c.opts)
			var v *load.Violation
			if !errors.As(err, &v) || !strings.Contains(v.Error(), c.message) || !strings.Contains(v.Error(), c.want) {
				t.Fatalf("error %v, want one with %q and %q", err, c.message, c.want)
			}
			if r == nil || r.Failed != v.Error() || r.Histogram != "" {
				t.Errorf("result %+v", r)
			}
		})
	}
}

// Who stopped reading may lose its connection: it comes back, and gets once
// more what it had not acknowledged. Nobody else may.
func TestSlowReadersComeBack(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		account int // whose connection is cut
		want    string
	}{
		"who stopped": {1, ""},
		"who reads":   {3, "user1/right: "},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			to := target(t, "slow", 6)
			url, token := to.URL, []byte(to.Accounts[c.account].Token)
			cut := make(chan struct{})
			var first sync.Once // what comes back stays
			s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				proxyBoth(t, w, r, url, untouched, func(server *websocket.Conn, data []byte) {
					if bytes.Contains(data, token) {
						first.Do(func() {
							go func() {
								<-cut
								_ = server.Close()
							}()
						})
					}
				})
			}))
			t.Cleanup(s.Close)
			once := sync.OnceFunc(func() { close(cut) })
			t.Cleanup(once)
			to.URL = "ws" + strings.TrimPrefix(s.URL, "http")
			r, err := load.Slow(t.Context(), load.Options{
				Devices: 6, Rate: 300, Duration: 2 * time.Second, Warmup: time.Millisecond, Stopped: 1, Target: to, Patience: testkit.Patience,
				Progress: func(p load.Progress) {
					if strings.HasSuffix(p.Phase, "stopped reading") && p.Done > p.All/2 {
						once()
					}
				},
			})
			if c.want != "" {
				if err == nil || !strings.Contains(err.Error(), c.want) {
					t.Errorf("error %v, want one with %q", err, c.want)
				}
				return
			}
			if err != nil || value(t, r, "connections lost") != 1 || r.Arrived != r.Sent {
				t.Errorf("%+v, %v", r, err)
			}
		})
	}
}
