package node_test

import (
	"flag"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/gorilla/websocket"

	rccs "github.com/rccs-io/rccs"
	"github.com/rccs-io/rccs/internal/devicetest"
	"github.com/rccs-io/rccs/internal/natstest"
	"github.com/rccs-io/rccs/internal/node"
	"github.com/rccs-io/rccs/internal/nodetest"
	"github.com/rccs-io/rccs/internal/testkit"
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
	return nodetest.Start(t, node.Options{Data: dir, NATSListen: nodetest.AnyPort, AdminListen: nodetest.AnyPort})
}

func connect(t *testing.T, n *node.Node, name string) *devicetest.Device {
	t.Helper()
	return nodetest.Register(t, n.Addr().String(), nodetest.Registering{Token: nodetest.Token(t, n, name)})
}

func TestDeviceToDeviceAcrossARestart(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	n := start(t, dir)
	phone := connect(t, n, "alice/phone")
	desktop := connect(t, n, "alice/desktop")
	desktop.Send(`{"id":"1","type":"note","toDeviceId":"phone","payload":{"a": 1.0},"requiresAck":true}`)
	if got := desktop.Read(); got["payload"].(map[string]any)["status"] != "accepted" {
		t.Fatalf("answered %v", got)
	}
	if got := phone.Read(); got["id"] != "1" || got["fromDeviceId"] != "desktop" || got["seq"] != 1.0 {
		t.Fatalf("phone got %v", got)
	}
	if err := n.Stop(t.Context()); err != nil {
		t.Fatal(err)
	}
	n = start(t, dir)
	phone = connect(t, n, "alice/phone")
	got := phone.Read()
	if got["id"] != "1" || got["redelivered"] != true {
		t.Fatalf("phone got %v", got)
	}
	phone.Send(`{"type":"ack","payload":{"seq":1}}`)
	phone.Send(`{"type":"device_unregister","id":"bye"}`)
	if got := phone.Read(); got["type"] != "ack" {
		t.Fatalf("unregistered with %v", got)
	}
	if _, _, err := phone.ReadMessage(); !websocket.IsCloseError(err, 1000) {
		t.Fatalf("closed with %v", err)
	}
}

// New keys in a directory whose keys were lost would hide all that is stored
// there.
func TestADirectoryThatHasLostItsKeysIsRefused(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	n := start(t, dir)
	testkit.Check(t, n.Stop(testkit.Soon(t)))
	keys := filepath.Join(dir, "keys")
	testkit.Check(t, os.Rename(keys, keys+".away"))
	if _, err := node.New(node.Options{Data: dir, Listen: nodetest.AnyPort, Config: rccs.DefaultConfig()}); err == nil || !strings.Contains(err.Error(), keys+" is missing") {
		t.Errorf("without its keys: %v", err)
	}
	if _, err := os.Stat(keys); err == nil {
		t.Error("new keys were made")
	}
	testkit.Check(t, os.Rename(keys+".away", keys))
	start(t, dir)
}
