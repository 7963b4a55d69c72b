package e2e_test

import (
	"bytes"
	"context"
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/rccs-io/rccs/internal/need"
	"github.com/rccs-io/rccs/internal/testkit"
)

// A fault of the edge while it handles a frame ends that connection alone: the device
// is told, comes back, and nobody else notices. The program that is tried has such a
// fault, planted as it is built.
func TestAFaultOfTheEdgeEndsItsConnectionAlone(t *testing.T) {
	need.Night(t, "it builds the program once more")
	t.Parallel()
	data := filepath.Join(t.TempDir(), "data")
	p, err := startCommand(faulty(t, "serve", "--data", data,
		"--listen", "127.0.0.1:0", "--nats-listen", "127.0.0.1:0", "--admin-listen", "127.0.0.1:0"))
	if err != nil {
		t.Fatal(err)
	}
	s := &server{process: p, data: data, tokens: &mint{data: data}}
	t.Cleanup(func() {
		if err := s.tokens.close(); err != nil {
			t.Error(err)
		}
		if err := p.kill(); err != nil {
			t.Error(err)
		}
	})
	neighbour := connect(t, s, "alice/neighbour", nil)
	for range 3 {
		d := connect(t, s, "alice/phone", nil)
		neighbour.give("phone", 1, nil)
		d.send(object{"id": "h", "type": "history", "payload": object{"inbox": true}})
		d.wantError("INTERNAL")
		for _, e := range d.early { // sent before the end, and again after it
			if !e.durable() {
				t.Errorf("before the end came %s", e.raw)
			}
		}
		d.wantClose(1011)
	}
	phone := connect(t, s, "alice/phone", nil)
	for range 3 {
		phone.ack(phone.message().Seq)
	}
	phone.beat()
	neighbour.beat()
	if _, metrics := s.get(t, "/metrics"); !strings.Contains(metrics, "rccs_connection_panics_total 3") {
		t.Error("three panics are not counted")
	}
	if log := s.log.String(); strings.Count(log, "a planted fault") < 3 || !strings.Contains(log, "dispatch.go") {
		t.Errorf("the log does not say what was wrong, and where:\n%s", tail(log))
	}
}

// faulty is a command of the program with a fault in its edge: a panic where it
// should answer `history`.
func faulty(t *testing.T, args ...string) *exec.Cmd {
	t.Helper()
	path, err := filepath.Abs(filepath.Join("..", "edge", "dispatch.go"))
	if err != nil {
		t.Fatal(err)
	}
	source, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	changed := bytes.Replace(source, []byte("c.history(e)"), []byte(`panic("a planted fault")`), 1)
	if bytes.Equal(source, changed) {
		t.Fatal("edge/dispatch.go does not handle history any more: plant the fault elsewhere")
	}
	dir := t.TempDir()
	planted, overlay := filepath.Join(dir, "dispatch.go"), filepath.Join(dir, "overlay.json")
	if err := os.WriteFile(planted, changed, 0o600); err != nil {
		t.Fatal(err)
	}
	text, err := json.Marshal(object{"Replace": map[string]string{path: planted}})
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(overlay, text, 0o600); err != nil {
		t.Fatal(err)
	}
	built, err := testkit.Build(dir, "-overlay", overlay)
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(context.WithoutCancel(t.Context()), built, args...)
	cmd.Env = testkit.Environ()
	return cmd
}
