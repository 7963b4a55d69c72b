//go:build linux

package edge_test

import (
	"strings"
	"testing"
	"time"

	"github.com/gorilla/websocket"

	"github.com/rccs-io/rccs/edge"
)

// suspended is alice's phone, silent for so long that its read loop has ended.
func (w *world) suspended() *device {
	w.t.Helper()
	d := w.connect()
	w.suspend()
	return d
}

func (w *world) suspend() {
	w.t.Helper()
	eventually(w.t, "suspending", func() bool { return w.edge.Suspended() == w.edge.Connections() })
}

func TestSuspendedConnectionResumesOnAMessage(t *testing.T) {
	t.Parallel()
	w := newWorld(t, nil)
	d := w.suspended()
	began := time.Now()
	d.Send(`{"type":"message","id":"a","toDeviceId":"phone","requiresAck":true,"payload":1}`)
	for _, want := range []string{"ack", "message"} {
		// Either may come first.
		if kind, body := d.Next(); kind != "ack" && kind != "message" {
			t.Errorf("got %s, want %s or the other", body, want)
		}
	}
	if n := w.edge.Suspended(); n != 0 && time.Since(began) < suspendAfter { // after that it may be so again
		t.Errorf("%d suspended right after a message", n)
	}
	w.suspend()
	// A large one, in pieces, with a ping between and the rest later.
	nc := d.Raw()
	text := []byte(`{"type":"message","id":"b","toDeviceId":"phone","payload":"` + strings.Repeat("x", 20<<10) + `"}`)
	whole := frameOf(0x01, text[:9<<10])
	whole = append(whole, frameOf(0x89, []byte("hear"))...)
	whole = append(whole, frameOf(0x80, text[9<<10:])...)
	pong := make(chan string, 1)
	d.SetPongHandler(func(s string) error { pong <- s; return nil })
	for len(whole) > 0 {
		n := min(len(whole), 1+len(whole)/3)
		if _, err := nc.Write(whole[:n]); err != nil {
			t.Fatal(err)
		}
		whole = whole[n:]
	}
	if kind, body := d.Next(); kind != "message" || len(body) < 20<<10 {
		t.Errorf("got %s of %d bytes", kind, len(body))
	}
	if s := <-pong; s != "hear" {
		t.Errorf("pong with %q", s)
	}
}

// frameOf is a frame under a mask.
func frameOf(first byte, payload []byte) []byte {
	f := []byte{first}
	switch n := len(payload); {
	case n < 126:
		f = append(f, 0x80|byte(n))
	default:
		f = append(f, 0x80|126, byte(n>>8), byte(n))
	}
	mask := []byte{1, 2, 3, 4}
	f = append(f, mask...)
	for i, b := range payload {
		f = append(f, b^mask[i%4])
	}
	return f
}

// A ping, or the pong that answers the edge's, does not keep a read loop.
func TestSuspendedConnectionAnswersPings(t *testing.T) {
	t.Parallel()
	w := newWorld(t, nil)
	d := w.suspended()
	pong := make(chan string, 1)
	d.SetPongHandler(func(s string) error { pong <- s; return nil })
	go func() { _, _, _ = d.ReadMessage() }()
	for _, payload := range []string{"", "one", strings.Repeat("z", 125)} {
		check(t, d.WriteControl(websocket.PingMessage, []byte(payload), time.Now().Add(within)))
		if got := <-pong; got != payload {
			t.Errorf("pong with %q, want %q", got, payload)
		}
		check(t, d.WriteControl(websocket.PongMessage, nil, time.Now().Add(within)))
	}
	// A read loop would last for 2 s: 80 s in all.
	began := time.Now()
	for range 40 {
		check(t, d.WriteControl(websocket.PingMessage, nil, time.Now().Add(within)))
		<-pong
		w.suspend()
	}
	if took := time.Since(began); took > time.Minute {
		t.Errorf("suspended again after %s", took/40)
	}
}

func TestSuspendedConnectionEnds(t *testing.T) {
	t.Parallel()
	for name, end := range map[string]struct {
		how  func(w *world, d *device)
		code int
	}{
		"peer closes": {func(_ *world, d *device) {
			_ = d.WriteControl(websocket.CloseMessage, websocket.FormatCloseMessage(1000, ""), time.Now().Add(within))
		}, 1000},
		"peer is gone":   {func(_ *world, d *device) { _ = d.NetConn().Close() }, -1},
		"bad frame":      {func(_ *world, d *device) { _, _ = d.NetConn().Write([]byte{0xC1, 0x80, 0, 0, 0, 0}) }, 1002},
		"taken over":     {func(w *world, _ *device) { w.connect() }, 4002},
		"drained":        {func(w *world, _ *device) { w.edge.Drain(0) }, 1001},
		"edge goes away": {func(w *world, _ *device) { _ = w.edge.Stop(w.t.Context()) }, 1001},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t, nil)
			d := w.suspended()
			end.how(w, d)
			if code := d.CloseCode(); code != end.code {
				t.Errorf("closed with %d, want %d", code, end.code)
			}
			_ = d.Close()
			left := 0
			if name == "taken over" {
				left = 1
			}
			eventually(t, "the end", func() bool { return w.edge.Connections() == left })
		})
	}
}

// A suspended device that does not answer pings is found lost.
func TestSuspendedConnectionIsMissed(t *testing.T) {
	t.Parallel()
	w := newWorld(t, func(o *edge.Options) { o.Heartbeat = 5 * time.Second })
	d := w.suspended()
	d.SetPingHandler(func(string) error { return nil })
	reason := make(chan string, 1)
	d.SetCloseHandler(func(_ int, text string) error {
		reason <- text
		return nil
	})
	if code := d.CloseCode(); code != websocket.CloseGoingAway {
		t.Errorf("closed with %d", code)
	}
	if text := <-reason; !strings.Contains(text, "nothing was heard") {
		t.Errorf("closed because of %q", text)
	}
}

// A frame of which the beginning comes and no more ends like one that did not
// find the connection suspended.
func TestSuspendedConnectionWithHalfAFrame(t *testing.T) {
	t.Parallel()
	w := newWorld(t, func(o *edge.Options) { o.Heartbeat = 5 * time.Second })
	d := w.suspended()
	if _, err := d.Raw().Write([]byte{0x81}); err != nil {
		t.Fatal(err)
	}
	d.SetPingHandler(func(string) error { return nil })
	if code := d.CloseCode(); code != websocket.CloseGoingAway {
		t.Errorf("closed with %d", code)
	}
}
