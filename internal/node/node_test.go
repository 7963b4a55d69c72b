package node_test

import (
	"bytes"
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"testing"
	"time"

	"github.com/gorilla/websocket"

	rccs "github.com/rccs-io/rccs"
	"github.com/rccs-io/rccs/auth"
	"github.com/rccs-io/rccs/internal/natstest"
	"github.com/rccs-io/rccs/internal/node"
	"github.com/rccs-io/rccs/subjects"
)

// modelChecks is how often the model test runs when the command line does not
// say.
const modelChecks = "15"

func TestMain(m *testing.M) {
	flag.Parse()
	if f := flag.Lookup("rapid.checks"); f.Value.String() == f.DefValue {
		_ = f.Value.Set(modelChecks) // it is a number
	}
	natstest.VerifyTestMain(m)
}

func start(t *testing.T, dir string) *node.Node {
	t.Helper()
	n, err := node.New(node.Options{
		Data: dir, Listen: "127.0.0.1:0", NATSListen: "127.0.0.1:0", AdminListen: "127.0.0.1:0", Config: rccs.DefaultConfig(),
	})
	if err != nil {
		t.Fatal(err)
	}
	if err := n.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := n.Stop(context.WithoutCancel(t.Context())); err != nil {
			t.Error(err)
		}
	})
	return n
}

type device struct {
	t  *testing.T
	ws *websocket.Conn
}

func connect(t *testing.T, n *node.Node, name string) *device {
	t.Helper()
	address, err := subjects.ParseAddress(name)
	if err != nil {
		t.Fatal(err)
	}
	cred, err := n.Keys().IssueDevice(address, auth.DeviceOptions{Bearer: true, Expires: time.Hour})
	if err != nil {
		t.Fatal(err)
	}
	dialer := websocket.Dialer{Subprotocols: []string{"rccs.v1"}}
	ws, resp, err := dialer.DialContext(t.Context(), fmt.Sprintf("ws://%s/v1/ws", n.Addr()), nil)
	if err != nil {
		t.Fatal(err)
	}
	_ = resp.Body.Close()
	d := &device{t: t, ws: ws}
	t.Cleanup(func() { _ = ws.Close() })
	if got := d.read(); got["type"] != "device_register" {
		t.Fatalf("greeted with %v", got)
	}
	d.write(`{"type":"device_register","id":"r","payload":{"authToken":"` + cred.JWT + `"}}`)
	if got := d.read(); got["type"] != "ack" {
		t.Fatalf("registered with %v", got)
	}
	return d
}

func (d *device) read() map[string]any {
	d.t.Helper()
	_ = d.ws.SetReadDeadline(time.Now().Add(30 * time.Second))
	_, data, err := d.ws.ReadMessage()
	if err != nil {
		d.t.Fatal(err)
	}
	if bytes.Contains(data, []byte(`"type":"presence"`)) {
		return d.read()
	}
	var m map[string]any
	if err := json.Unmarshal(data, &m); err != nil {
		d.t.Fatalf("%s: %v", data, err)
	}
	return m
}

func (d *device) write(frame string) {
	d.t.Helper()
	if err := d.ws.WriteMessage(websocket.TextMessage, []byte(frame)); err != nil {
		d.t.Fatal(err)
	}
}

func TestDeviceToDeviceAcrossARestart(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	n := start(t, dir)
	phone := connect(t, n, "alice/phone")
	desktop := connect(t, n, "alice/desktop")
	desktop.write(`{"id":"1","type":"note","toDeviceId":"phone","payload":{"a": 1.0},"requiresAck":true}`)
	if got := desktop.read(); got["payload"].(map[string]any)["status"] != "accepted" {
		t.Fatalf("answered %v", got)
	}
	if got := phone.read(); got["id"] != "1" || got["fromDeviceId"] != "desktop" || got["seq"] != 1.0 {
		t.Fatalf("phone got %v", got)
	}
	if err := n.Stop(t.Context()); err != nil {
		t.Fatal(err)
	}
	n = start(t, dir)
	phone = connect(t, n, "alice/phone")
	got := phone.read()
	if got["id"] != "1" || got["redelivered"] != true {
		t.Fatalf("phone got %v", got)
	}
	phone.write(`{"type":"ack","payload":{"seq":1}}`)
	phone.write(`{"type":"device_unregister","id":"bye"}`)
	if got := phone.read(); got["type"] != "ack" {
		t.Fatalf("unregistered with %v", got)
	}
	if _, _, err := phone.ws.ReadMessage(); !websocket.IsCloseError(err, 1000) {
		t.Fatalf("closed with %v", err)
	}
}
