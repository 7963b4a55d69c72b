package e2e_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/gorilla/websocket"

	"github.com/rccs-io/rccs/wire"
)

// readiness is what /readyz says.
func (s *server) readiness(t *testing.T) (int, string) {
	t.Helper()
	r, err := http.Get(s.Admin + "/readyz") //nolint:noctx // the address is on this machine
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = r.Body.Close() }()
	body, err := io.ReadAll(r.Body)
	if err != nil {
		t.Fatal(err)
	}
	return r.StatusCode, string(body)
}

func TestEdges_DrainSendsDevicesElsewhere(t *testing.T) {
	t.Parallel()
	s := start(t)
	u := user(t)
	other := s.edge(t, "other")
	const devices = 40
	var all []*device
	for n := range devices {
		all = append(all, connect(t, other, fmt.Sprint(u, "/d", n), nil))
	}
	all[0].give("d1", "unread", nil)
	all[1].message()
	begin := time.Now()
	var drained struct {
		Edge        string
		Connections int
	}
	if err := json.Unmarshal([]byte(must(t, "edges", "drain", "other", "--rate", "40", "--json", "--server", s.NATS, "--data", s.data)), &drained); err != nil {
		t.Fatal(err)
	}
	if took := time.Since(begin); drained.Edge != "other" || drained.Connections != devices || took < 500*time.Millisecond {
		t.Errorf("after %v: %+v", took, drained)
	}
	hints := map[time.Duration]bool{}
	for n, d := range all {
		hints[d.wantDrained()] = true
		back := connect(t, s, fmt.Sprint(u, "/d", n), nil)
		if !back.session.Resumed || back.session.SessionID != d.session.SessionID {
			t.Errorf("device %d came back as %+v", n, back.session)
		}
		if n == 1 {
			back.wantMessage(`"unread"`)
		}
	}
	if len(hints) < devices/4 {
		t.Errorf("devices were asked to come back after %v", hints)
	}
	if _, err := tryDial(t, other, dialing{}); err == nil || !strings.Contains(err.Error(), "503") {
		t.Errorf("a drained edge takes devices: %v", err)
	}
	if status, body := other.readiness(t); status != 503 || !strings.Contains(body, "drain") {
		t.Errorf("readyz: %d %s", status, body)
	}
	must(t, "edges", "drain", "other", "--undo", "--server", s.NATS, "--data", s.data)
	connect(t, other, u+"/d0", nil)
	other.becomesReady(t)
}

// wantDrained reads to the end, which must be a drain's, and says how long the
// device is asked to wait.
func (d *device) wantDrained() time.Duration {
	d.t.Helper()
	for {
		if _, err := d.receive(); err != nil {
			var closed *websocket.CloseError
			if !errors.As(err, &closed) || closed.Code != 1001 {
				d.t.Fatalf("want close 1001, got %v", err)
			}
			return wire.RetryAfter(closed.Text)
		}
	}
}

func TestEdges_TheOnlyEdgeIsNotDrainedByMistake(t *testing.T) {
	t.Parallel()
	s := start(t)
	var edges []struct{ Name string }
	if err := json.Unmarshal([]byte(must(t, "edges", "ls", "--json", "--server", s.NATS, "--data", s.data)), &edges); err != nil || len(edges) != 1 {
		t.Fatal(err, edges)
	}
	r := rccs(t, "", "edges", "drain", edges[0].Name, "--server", s.NATS, "--data", s.data)
	if r.status != 1 || !strings.Contains(r.stderr, "--force") {
		t.Errorf("status %d: %s", r.status, r.stderr)
	}
	r = rccs(t, "", "edges", "drain", "nobody", "--server", s.NATS, "--data", s.data)
	if r.status != 1 || !strings.Contains(r.stderr, edges[0].Name) {
		t.Errorf("status %d: %s", r.status, r.stderr)
	}
	must(t, "edges", "drain", edges[0].Name, "--force", "--server", s.NATS, "--data", s.data)
}

// A coordinator alone does the work of the one inside the server.
func TestRoles_ACoordinatorOfItsOwn(t *testing.T) {
	t.Parallel()
	s := start(t)
	u := user(t)
	p, err := startCommand(command(context.WithoutCancel(t.Context()), "coordinator", "--server", s.NATS, "--data", s.data,
		"--name", "second", "--admin-listen", "127.0.0.1:0"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := p.kill(); err != nil {
			t.Error(err)
		}
	})
	eventually(t, func() error { // one that answers late is not counted
		var status struct{ Coordinators []json.RawMessage }
		err := json.Unmarshal([]byte(must(t, "status", "--json", "--server", s.NATS, "--data", s.data)), &status)
		if err == nil && len(status.Coordinators) != 2 {
			err = fmt.Errorf("%d coordinators", len(status.Coordinators))
		}
		return err
	})
	desk := connect(t, s, u+"/desk", nil)
	nc := s.service(t, "backend").nc
	for n := range 20 {
		if err := nc.Publish("rccs.route."+token(u)+".all", fmt.Append(nil, n)); err != nil {
			t.Fatal(err)
		}
	}
	seen := map[string]int{}
	for range 20 {
		e := desk.message()
		seen[string(e.Payload)]++
		desk.ack(e.Seq)
	}
	if len(seen) != 20 {
		t.Errorf("got %v", seen)
	}
	if code, err := p.terminate(); err != nil || code != 0 {
		t.Errorf("exit status %d: %v", code, err)
	}
}
