package edge_test

import (
	"context"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/gorilla/websocket"

	"github.com/rccs-io/rccs/edge"
	"github.com/rccs-io/rccs/internal/devicetest"
	"github.com/rccs-io/rccs/internal/inbox"
	"github.com/rccs-io/rccs/internal/layout"
	"github.com/rccs-io/rccs/internal/natstest"
	"github.com/rccs-io/rccs/internal/testkit"
	"github.com/rccs-io/rccs/subjects"
)

var phone = subjects.Address{User: "alice", Device: "phone"}.Key()

// A device that registers while the store is away is told to come back, not
// that it is not wanted.
func TestRegisteringInAnOutageIsNoRefusal(t *testing.T) {
	t.Parallel()
	w := newWorld(t, func(o *edge.Options) { o.RegisterWithin = 2 * time.Second })
	w.env.Kill()
	var wg sync.WaitGroup
	for i := range 3 {
		d := w.dial()
		w.register(d, fmt.Sprintf("alice/d%d", i))
		wg.Go(func() {
			if code := d.CloseCode(); code != 1013 && code != 1001 {
				t.Errorf("closed with %d, want 1013", code)
			}
		})
	}
	wg.Wait()
}

func TestSilentConnectionIsClosed(t *testing.T) {
	t.Parallel()
	w := newWorld(t, func(o *edge.Options) { o.RegisterWithin = time.Second })
	d := w.dial()
	kind, body := d.Next()
	if kind != "error" || !strings.Contains(body, "AUTH_REQUIRED") {
		t.Errorf("told %s", body)
	}
	if code := d.CloseCode(); code != 4001 {
		t.Errorf("closed with %d, want 4001", code)
	}
}

// A stop is bounded by its context, whatever the store does.
func TestStopIsBoundedInAnOutage(t *testing.T) {
	t.Parallel()
	w := newWorld(t, nil)
	w.env.Kill()
	w.register(w.dial(), "alice/phone")
	ctx, cancel := context.WithTimeout(t.Context(), 500*time.Millisecond)
	defer cancel()
	stopped := make(chan error, 1)
	go func() { stopped <- w.edge.Stop(ctx) }()
	select {
	case err := <-stopped:
		t.Logf("stopped with: %v", err) // that it was cut short is no fault
	case <-time.After(10 * time.Second): // an attachment may take 15 s
		t.Error("still not stopped")
	}
}

// A peer that vanishes in the middle of a frame is noticed like any other.
func TestPeerThatVanishesInAFrameIsNoticed(t *testing.T) {
	t.Parallel()
	w := newWorld(t, func(o *edge.Options) { o.Heartbeat = 5 * time.Second })
	d := w.connect()
	if _, err := d.Raw().Write([]byte{0x81, 0x80 | 100, 1, 2, 3, 4, 'x'}); err != nil { // one byte of 100
		t.Fatal(err)
	}
	eventually(t, "the connection ends", func() bool { return w.edge.Connections() == 0 })
}

// Acknowledgements on their way when the edge drains count.
func TestAcknowledgementsInFlightCountWhileDraining(t *testing.T) {
	t.Parallel()
	w := newWorld(t, nil)
	js := natstest.Streams(t, w.env.Conn(t))
	if _, err := js.Publish(t.Context(), subjects.Inbox(phone, subjects.Normal), []byte("1")); err != nil {
		t.Fatal(err)
	}
	d := w.connect()
	if kind, _ := d.Next(); kind != "notification" {
		t.Fatalf("got %s", kind)
	}
	d.SetCloseHandler(func(code int, _ string) error {
		d.Send(`{"type":"ack","payload":{"seq":1}}`)
		return d.WriteControl(websocket.CloseMessage, websocket.FormatCloseMessage(code, ""), time.Now().Add(within))
	})
	stopped := make(chan error, 1)
	go func() { stopped <- w.edge.Stop(context.WithoutCancel(t.Context())) }()
	if code := d.CloseCode(); code != 1001 {
		t.Errorf("closed with %d, want 1001", code)
	}
	check(t, <-stopped)
	check(t, w.hub.Stop(t.Context()))
	stream, err := js.Stream(t.Context(), layout.StreamCursor)
	check(t, err)
	msg, err := stream.GetLastMsgForSubject(t.Context(), layout.Cursor(phone))
	check(t, err)
	if c, err := inbox.ParseCursor(msg.Data); err != nil || c.AckFloor(subjects.Normal) != 1 {
		t.Errorf("the acknowledgement is not stored: %s, %v", msg.Data, err)
	}
}

// However many connections of a device race, one is left, and every other was
// told that it was replaced.
func TestOneOfManyRacingConnectionsIsLeft(t *testing.T) {
	t.Parallel()
	w := newWorld(t, nil)
	const n = 40
	codes := make(chan int, n)
	for range n {
		d := w.dial()
		w.register(d, "alice/phone")
		go func() { codes <- d.CloseCode() }()
	}
	for range n - 1 {
		select {
		case code := <-codes:
			if code != 4002 {
				t.Errorf("closed with %d, want 4002", code)
			}
		case <-time.After(within):
			t.Fatal("more than one connection is left")
		}
	}
	eventually(t, "one is left", func() bool { return w.edge.Connections() == 1 })
}

// A live connection renews its credential by registering again.
func TestCredentialIsRenewedOnALiveConnection(t *testing.T) {
	t.Parallel()
	w := newWorld(t, nil)
	d := w.connect()
	w.register(d, "alice/phone")
	if kind, body := d.Next(); kind != "ack" || !strings.Contains(body, `"status":"success"`) {
		t.Fatalf("answered %s", body)
	}
	w.register(d, "alice/tablet")
	if kind, body := d.Next(); kind != "error" || !strings.Contains(body, "IDENTITY_MISMATCH") {
		t.Fatalf("answered %s", body)
	}
	d.Send(`{"type":"heartbeat","id":"h"}`)
	if kind, body := d.Next(); kind != "ack" || !strings.Contains(body, `"originalMessageId":"h"`) {
		t.Fatalf("answered %s", body)
	}
}

// A message of the largest size over a link slower than the heartbeat is
// delivered, once.
func TestSlowReaderOfALargeMessageIsNotCut(t *testing.T) {
	t.Parallel()
	w := newWorld(t, func(o *edge.Options) { o.Heartbeat = 10 * time.Second })
	js := natstest.Streams(t, w.env.Conn(t))
	for range 8 { // more than the kernel buffers
		if _, err := js.Publish(t.Context(), subjects.Inbox(phone, subjects.Normal), []byte(`"`+strings.Repeat("x", 1<<20-2)+`"`)); err != nil {
			t.Fatal(err)
		}
	}
	d := w.connect()               // the messages are there: a store that stalls is no slow link
	<-time.After(17 * time.Second) // past one and a half heartbeats without reading
	for range 8 {
		if kind, _ := d.Next(); kind != "notification" {
			t.Fatalf("got %s", kind)
		}
	}
}

// A web page can offer its token as a subprotocol. It is neither echoed nor
// logged, and the registration needs no authToken.
func TestTokenOfferedAsSubprotocolRegisters(t *testing.T) {
	t.Parallel()
	log := new(testkit.Log)
	w := newWorld(t, func(o *edge.Options) {
		o.Logger = slog.New(slog.NewTextHandler(log, &slog.HandlerOptions{Level: slog.LevelDebug}))
	})
	for name, c := range map[string]struct {
		token, register, want string
	}{
		"a good one":          {w.token("alice/phone"), `{"type":"device_register","id":"r","payload":{"type":"desktop"}}`, "ack"},
		"nothing else to say": {w.token("alice/mac"), `{"type":"device_register","id":"r"}`, "ack"},
		"a bad one":           {"eyJhbGciOiJub25lIn0.e30.c2ln", `{"type":"device_register","id":"r","payload":{}}`, "error"},
	} {
		how := devicetest.How{Subprotocols: []string{edge.Subprotocol, "rccs.token." + c.token}}
		ws, resp, err := devicetest.Dial(t.Context(), devicetest.URL(w.addr), how) //nolint:bodyclose // Dial has closed it
		check(t, err)
		d := devicetest.Greet(t, ws)
		if got := resp.Header.Values("Sec-Websocket-Protocol"); len(got) != 1 || got[0] != edge.Subprotocol {
			t.Errorf("%s: the edge agreed to %q", name, got)
		}
		d.Send(c.register)
		if kind, body := d.Next(); kind != c.want {
			t.Errorf("%s: answered %s", name, body)
		}
		if text := log.String(); strings.Contains(text, c.token) || strings.Contains(text, "rccs.token") {
			t.Errorf("%s: the token is in the log: %s", name, text)
		}
	}
}
