package edge_test

import (
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/gorilla/websocket"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/rccs-io/rccs/edge"
	"github.com/rccs-io/rccs/internal/devicetest"
	"github.com/rccs-io/rccs/internal/testkit"
)

// bounded is a world with limits, and its metrics.
func bounded(t *testing.T, tune func(*edge.Options)) (*world, *prometheus.Registry) {
	t.Helper()
	reg := prometheus.NewRegistry()
	return newWorld(t, func(o *edge.Options) {
		o.Metrics = reg
		tune(o)
	}), reg
}

// counted is the value of a metric whose label has a value.
func counted(t *testing.T, reg *prometheus.Registry, name, label string) float64 {
	t.Helper()
	families, err := reg.Gather()
	check(t, err)
	for _, f := range families {
		if f.GetName() != name {
			continue
		}
		for _, m := range f.GetMetric() {
			if len(m.GetLabel()) == 0 || m.GetLabel()[0].GetValue() == label {
				return m.GetCounter().GetValue() + m.GetGauge().GetValue()
			}
		}
	}
	return 0
}

// try opens a WebSocket and returns the status of the answer, and after how
// many seconds to come back.
func (w *world) try(from string) (ws *websocket.Conn, status, retry int) {
	w.t.Helper()
	header := http.Header{}
	if from != "" {
		header.Set("X-Forwarded-For", from)
	}
	ws, resp, err := devicetest.Dial(w.t.Context(), devicetest.URL(w.addr), devicetest.How{Header: header}) //nolint:bodyclose // Dial has closed it
	if resp == nil {
		w.t.Fatal(err)
	}
	if ws != nil {
		w.t.Cleanup(func() { _ = ws.Close() })
	}
	retry, _ = strconv.Atoi(resp.Header.Get("Retry-After"))
	return ws, resp.StatusCode, retry
}

func (w *world) refused(reg *prometheus.Registry, from string, status int, reason string) {
	w.t.Helper()
	before := counted(w.t, reg, "rccs_connections_refused_total", reason)
	if _, got, retry := w.try(from); got != status || retry < 1 {
		w.t.Errorf("answered %d and to come back after %d s, want %d and a time", got, retry, status)
	}
	if n := counted(w.t, reg, "rccs_connections_refused_total", reason); n != before+1 {
		w.t.Errorf("%g refusals for %s are counted, want %g", n, reason, before+1)
	}
}

func TestConnectionsInAll(t *testing.T) {
	t.Parallel()
	w, reg := bounded(t, func(o *edge.Options) { o.Limits.Connections = 2 })
	a := w.connect()
	w.dial()
	w.refused(reg, "", http.StatusServiceUnavailable, "total")
	check(t, a.Close())
	eventually(t, "a place", func() bool {
		_, status, _ := w.try("")
		return status == http.StatusSwitchingProtocols
	})
}

func TestConnectionsOfAnAddress(t *testing.T) {
	t.Parallel()
	w, reg := bounded(t, func(o *edge.Options) {
		o.Limits.AddressConnections = 2
		o.Limits.Proxies = loopback()
	})
	a, _, _ := w.try("192.0.2.1")
	w.try("192.0.2.1")
	w.refused(reg, "192.0.2.1", http.StatusTooManyRequests, "address")
	if _, status, _ := w.try("192.0.2.2"); status != http.StatusSwitchingProtocols {
		t.Errorf("another address: %d", status)
	}
	for range 4 { // the proxy itself
		if _, status, _ := w.try(""); status != http.StatusSwitchingProtocols {
			t.Errorf("the proxy: %d", status)
		}
	}
	check(t, a.Close())
	eventually(t, "a place", func() bool {
		_, status, _ := w.try("192.0.2.1")
		return status == http.StatusSwitchingProtocols
	})
}

func TestAttemptsOfAnAddress(t *testing.T) {
	t.Parallel()
	w, reg := bounded(t, func(o *edge.Options) {
		o.Limits.AddressAttempts = 1
		o.Limits.Proxies = loopback()
	})
	let, refused := 0, 0
	eventually(t, "a refusal", func() bool {
		const atOnce = 20 // a slow machine is given another every second
		type said struct{ status, after int }
		answers := make(chan said, atOnce)
		for range atOnce {
			go func() {
				how := devicetest.How{Header: http.Header{"X-Forwarded-For": {"192.0.2.1"}}}
				ws, answer, _ := devicetest.Dial(t.Context(), devicetest.URL(w.addr), how) //nolint:bodyclose // Dial has closed it
				if ws != nil {
					_ = ws.Close()
				}
				if answer == nil {
					answers <- said{}
					return
				}
				after, _ := strconv.Atoi(answer.Header.Get("Retry-After"))
				answers <- said{answer.StatusCode, after}
			}()
		}
		for range atOnce {
			switch answer := testkit.Await(t, "an answer", answers); answer.status {
			case 0:
				t.Error("not answered")
			case http.StatusTooManyRequests:
				if answer.after < 1 {
					t.Errorf("to come back after %d s, want a time", answer.after)
				}
				refused++
			default:
				let++
			}
		}
		return refused > 0
	})
	if let < 10 {
		t.Errorf("%d were let in, want the burst of 10", let)
	}
	if n := counted(t, reg, "rccs_connections_refused_total", "attempts"); n != float64(refused) {
		t.Errorf("%g refusals for attempts are counted, want %d", n, refused)
	}
	if _, status, _ := w.try("192.0.2.2"); status != http.StatusSwitchingProtocols {
		t.Errorf("another address: %d", status)
	}
}

func TestUnauthenticatedConnections(t *testing.T) {
	t.Parallel()
	w, reg := bounded(t, func(o *edge.Options) { o.Limits.Unauthenticated = 1 })
	unregistered := w.dial()
	w.refused(reg, "", http.StatusServiceUnavailable, "unauthenticated")
	eventually(t, "the count", func() bool { return counted(t, reg, "rccs_unauthenticated_connections", "") == 1 })
	check(t, unregistered.Close())
	eventually(t, "the unregistered connection's place", func() bool { return counted(t, reg, "rccs_unauthenticated_connections", "") == 0 })
	// A client that has shown a credential takes no such place.
	for i := range 3 {
		d := w.dial()
		w.register(d, fmt.Sprintf("alice/%d", i))
		if kind, body := d.Next(); kind != "ack" {
			t.Fatalf("registered with %s %s", kind, body)
		}
	}
	eventually(t, "the count", func() bool { return counted(t, reg, "rccs_unauthenticated_connections", "") == 0 })
}

// The place of one that does not register is free when its time is over.
func TestAConnectionThatDoesNotRegisterLeavesItsPlace(t *testing.T) {
	t.Parallel()
	w, reg := bounded(t, func(o *edge.Options) {
		o.Limits.Unauthenticated = 1
		o.RegisterWithin = time.Second
	})
	for range 2 {
		if code := w.dial().CloseCode(); code != 4001 {
			t.Errorf("closed with %d, want 4001", code)
		}
		eventually(t, "its place", func() bool { return counted(t, reg, "rccs_unauthenticated_connections", "") == 0 })
	}
}

// Sockets that say nothing are bounded too.
func TestSilentSockets(t *testing.T) {
	t.Parallel()
	w, reg := bounded(t, func(o *edge.Options) { o.Limits.Unauthenticated = 3 })
	socket := func() net.Conn {
		nc, err := (&net.Dialer{Timeout: within}).DialContext(t.Context(), "tcp", w.addr)
		check(t, err)
		t.Cleanup(func() { _ = nc.Close() })
		return nc
	}
	var silent []net.Conn
	for range 3 {
		silent = append(silent, socket())
	}
	eventually(t, "the sockets", func() bool { return counted(t, reg, "rccs_unauthenticated_connections", "") == 3 })
	more := socket()
	check(t, more.SetReadDeadline(time.Now().Add(within)))
	if n, err := more.Read(make([]byte, 1)); n != 0 || err == nil {
		t.Fatal("one more was served")
	}
	if n := counted(t, reg, "rccs_connections_refused_total", "unauthenticated"); n != 1 {
		t.Errorf("%g refusals, want 1", n)
	}
	check(t, silent[0].Close())
	eventually(t, "a place", func() bool {
		ws, resp, err := websocket.DefaultDialer.DialContext(t.Context(), "ws://"+w.addr+"/v1/ws", nil)
		if err != nil {
			return false
		}
		_ = resp.Body.Close()
		t.Cleanup(func() { _ = ws.Close() })
		return true
	})
}

func TestFrameBeforeRegistration(t *testing.T) {
	t.Parallel()
	w, _ := bounded(t, func(o *edge.Options) { o.MaxRegisterBytes = 4 << 10 })
	d := w.dial()
	d.Send(`{"type":"device_register","id":"` + strings.Repeat("x", 4<<10) + `"}`)
	if kind, body := d.Next(); kind != "error" || !strings.Contains(body, "MESSAGE_TOO_LARGE") {
		t.Errorf("told %s %s", kind, body)
	}
	if code := d.CloseCode(); code != 1009 {
		t.Errorf("closed with %d, want 1009", code)
	}
	d = w.connect() // its frames may be larger from now on
	d.Send(`{"type":"note","id":"1","requiresAck":true,"toDeviceId":"phone","payload":"` + strings.Repeat("x", 8<<10) + `"}`)
	for {
		kind, body := d.Next()
		if kind == "error" {
			t.Fatal(body)
		}
		if kind == "ack" {
			return
		}
	}
}

// told is an error's payload.
type told struct {
	Payload struct {
		Code, OriginalMessageID string
		RetryAfterMs            int64
	}
}

func TestMessagesASecond(t *testing.T) {
	t.Parallel()
	for limit, tune := range map[string]func(*edge.Limits){
		"device_messages": func(l *edge.Limits) { l.DeviceMessages = 2 },
		"user_messages":   func(l *edge.Limits) { l.UserMessages = 2 },
	} {
		t.Run(limit, func(t *testing.T) {
			t.Parallel()
			w, reg := bounded(t, func(o *edge.Options) { tune(&o.Limits) })
			d := w.connect()
			const burst, more = 4, 2
			note := func(id string) string {
				return `{"type":"note","id":"` + id + `","to":{"service":true},"requiresAck":true,"payload":1}`
			}
			accepted, refused := 0, 0
			var last told
			for round := 0; refused == 0; round++ { // together: a slow machine is given another every half a second
				var frames []string
				for i := range burst + more {
					frames = append(frames, note(fmt.Sprintf("%d.%d", round, i)))
				}
				d.Send("[" + strings.Join(frames, ",") + "]")
				for range burst + more {
					kind, body := d.Next()
					if kind == "ack" {
						accepted++
						continue
					}
					var e told
					check(t, json.Unmarshal([]byte(body), &e))
					if e.Payload.Code != "RATE_LIMITED" || !strings.HasPrefix(e.Payload.OriginalMessageID, fmt.Sprintf("%d.", round)) ||
						e.Payload.RetryAfterMs < 1 || e.Payload.RetryAfterMs > 500 {
						t.Fatalf("told %s", body)
					}
					last = e
					refused++
				}
			}
			// After that time it is accepted.
			<-time.After(time.Duration(last.Payload.RetryAfterMs+1) * time.Millisecond)
			d.Send(note(last.Payload.OriginalMessageID))
			if kind, body := d.Next(); kind != "ack" {
				t.Errorf("sent again: %s %s", kind, body)
			}
			if accepted < burst {
				t.Errorf("%d accepted, want the burst of %d", accepted, burst)
			}
			if n := counted(t, reg, "rccs_rate_limited_total", limit); n != float64(refused) {
				t.Errorf("%g are counted, want %d", n, refused)
			}
		})
	}
}

// The devices of a user share the user's bounds, and not those of others.
func TestBytesASecondOfAUser(t *testing.T) {
	t.Parallel()
	w, reg := bounded(t, func(o *edge.Options) {
		o.MaxMessageBytes = 64 << 10
		o.Limits.UserBytes = 1 // a burst of the largest message; another after it needs hours, however slow the machine
		o.Limits.DeviceMessages = 1000
	})
	join := func(name string) *device {
		d := w.dial()
		w.register(d, name)
		if kind, body := d.Next(); kind != "ack" {
			t.Fatalf("registered with %s %s", kind, body)
		}
		return d
	}
	frame := `{"type":"note","id":"a","to":{"service":true},"requiresAck":true,"payload":"` + strings.Repeat("x", 40<<10) + `"}`
	phone := join("alice/phone")
	phone.Send(frame)
	if kind, body := phone.Next(); kind != "ack" {
		t.Fatalf("%s %s", kind, body)
	}
	phone.Send(frame)
	if kind, body := phone.Next(); kind != "error" || !strings.Contains(body, "user_bytes") {
		t.Errorf("the same device: %s %s", kind, body)
	}
	bob := join("bob/phone")
	bob.Send(frame)
	if kind, body := bob.Next(); kind != "ack" {
		t.Errorf("another user: %s %s", kind, body)
	}
	tablet := join("alice/tablet")
	tablet.Send(frame)
	kind, body := tablet.Next()
	for kind == "presence" {
		kind, body = tablet.Next()
	}
	if kind != "error" || !strings.Contains(body, "RATE_LIMITED") {
		t.Errorf("another device of the user: %s %s", kind, body)
	}
	if n := counted(t, reg, "rccs_rate_limited_total", "user_bytes"); n != 2 {
		t.Errorf("%g are counted, want 2", n)
	}
}

// A device that goes on after it was told to wait is sent away for a while.
func TestWhoDoesNotSlowDownIsClosed(t *testing.T) {
	t.Parallel()
	w, _ := bounded(t, func(o *edge.Options) {
		o.MaxMessageBytes = 256 << 10
		o.Limits.DeviceBytes = 1 // a burst of the largest message; a small one after it needs minutes, however slow the machine
	})
	d := w.connect()
	note := func(bytes int) string {
		return `{"type":"note","id":"a","to":{"service":true},"payload":"` + strings.Repeat("x", bytes) + `"}`
	}
	d.Send(note(256<<10 - 200))
	array := "[" + strings.TrimSuffix(strings.Repeat(note(400)+",", 500), ",") + "]"
	for range 3 {
		d.Send(array)
	}
	if code := d.CloseCode(); code != 4029 {
		t.Errorf("closed with %d, want 4029", code)
	}
}

func TestRegistrationsOfADevice(t *testing.T) {
	t.Parallel()
	w, reg := bounded(t, func(o *edge.Options) { o.Limits.Registrations = 1 })
	token := w.token("alice/phone")
	let, refused := 0, 0
	eventually(t, "a refusal", func() bool {
		tries := make([]*device, 20) // connected before, and all at once: a slow machine is given another every second
		for i := range tries {
			tries[i] = w.dial()
		}
		for _, d := range tries {
			d.SendRegister(token, "")
		}
		for _, d := range tries {
			kind, body := d.Next()
			var e told
			check(t, json.Unmarshal([]byte(body), &e))
			switch {
			case kind == "ack" || e.Payload.Code == "SESSION_REPLACED":
				let++
			case e.Payload.Code == "RATE_LIMITED" && e.Payload.RetryAfterMs > 0:
				refused++
				if code := d.CloseCode(); code != 4029 {
					t.Errorf("closed with %d, want 4029", code)
				}
			default:
				t.Errorf("told %s", body)
			}
			_ = d.Close()
		}
		return refused > 0
	})
	if let < 10 {
		t.Errorf("%d were let in, want the burst of 10", let)
	}
	if n := counted(t, reg, "rccs_rate_limited_total", "registrations"); n != float64(refused) {
		t.Errorf("%g are counted, want %d", n, refused)
	}
	d := w.dial()
	w.register(d, "alice/desktop")
	if kind, body := d.Next(); kind != "ack" {
		t.Errorf("another device: %s %s", kind, body)
	}
}
