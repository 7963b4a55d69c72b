package e2e_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"path/filepath"
	"strings"
	"testing"
)

// tenant adds one to a running server.
func (s *server) tenant(t *testing.T, name string, args ...string) {
	t.Helper()
	at := []string{"--data", s.data, "--server", s.NATS}
	switch r := rccs(t, "", append(append([]string{"tenants", "add", name}, at...), args...)...); {
	case r.status == 0 && strings.Contains(r.stdout, "and served"):
	case strings.Contains(r.stderr, "added, but it is not served"): // it waits for a minute
		eventually(t, func() error {
			var rows []struct {
				Name   string
				Served bool
			}
			out := must(t, append([]string{"tenants", "ls", "--json"}, at...)...)
			decode(t, []byte(out), &rows)
			for _, row := range rows {
				if row.Name == name && row.Served {
					return nil
				}
			}
			return errors.New(out)
		})
	default:
		t.Fatalf("status %d, said %q and %q", r.status, r.stdout, r.stderr)
	}
}

// in runs a command for a tenant.
func (s *server) in(t *testing.T, tenant string, args ...string) string {
	t.Helper()
	return must(t, append(args, "--tenant", tenant, "--data", s.data)...)
}

// bearer is a token of a tenant's device.
func (s *server) bearer(t *testing.T, tenant, name string) string {
	t.Helper()
	return strings.TrimSpace(s.in(t, tenant, "creds", "device", name, "--bearer"))
}

func TestTenantsAreApart(t *testing.T) {
	t.Parallel()
	s := start(t)
	s.tenant(t, "acme")
	s.tenant(t, "globex", "--max-devices", "100", "--max-storage", "1GB")
	var phones, desks []*device
	tenants := []string{"default", "acme", "globex"}
	for _, tenant := range tenants { // of the same names
		phones = append(phones, connect(t, s, "alice/phone", object{"authToken": s.bearer(t, tenant, "alice/phone")}))
		desks = append(desks, connect(t, s, "alice/desk", object{"authToken": s.bearer(t, tenant, "alice/desk")}))
	}
	for i, tenant := range tenants {
		phones[i].give("desk", "from "+tenant, nil)
		must(t, "send", "alice/desk", fmt.Sprintf(`"service of %s"`, tenant), "--tenant", tenant, "--data", s.data, "--server", s.NATS)
	}
	for i, tenant := range tenants {
		for _, want := range []string{"from " + tenant, "service of " + tenant} {
			e := desks[i].message()
			if string(e.Payload) != fmt.Sprintf("%q", want) {
				t.Errorf("%s got %s, want %s", tenant, e.raw, want)
			}
			desks[i].ack(e.Seq)
		}
	}
	for i := range tenants {
		desks[i].silent(quiet)
	}
	var rows []struct {
		Name    string
		Served  bool
		Devices int
	}
	// What the coordinator knows of edges, and which tenants are served, follows.
	listed := func(as func() bool) {
		t.Helper()
		eventually(t, func() error {
			out := must(t, "tenants", "ls", "--json", "--data", s.data, "--server", s.NATS)
			rows = nil
			if err := json.Unmarshal([]byte(out), &rows); err != nil {
				t.Fatal(err)
			}
			if len(rows) != 3 || !as() {
				return errors.New(out)
			}
			return nil
		})
	}
	listed(func() bool { return rows[0].Name == "default" && rows[1].Served && rows[2].Devices == 2 })

	// What ends credentials of one leaves the others alone.
	must(t, "revoke", "all", "--yes", "--tenant", "acme", "--data", s.data, "--server", s.NATS)
	for _, d := range []*device{phones[1], desks[1]} {
		d.wantError("DEVICE_REVOKED")
		d.wantClose(4003)
	}
	phones[0].beat()
	again := connect(t, s, "alice/phone", object{"authToken": s.bearer(t, "acme", "alice/phone")})

	// Nor does removing it, which ends all of it, also for whoever comes later.
	old, creds := s.bearer(t, "acme", "alice/phone"), s.in(t, "acme", "creds", "device", "alice/watch")
	service := s.in(t, "acme", "creds", "service", "billing")
	must(t, "tenants", "rm", "acme", "--yes", "--data", s.data, "--server", s.NATS)
	again.wantError("DEVICE_REVOKED")
	again.wantClose(4003)
	s.refuses(t, old)
	for _, c := range []string{creds, service} {
		s.keepsOut(t, "a credential of a removed tenant", credsOption(t, c))
	}
	phones[2].beat()
	s.tenant(t, "acme") // another of the name
	fresh := connect(t, s, "alice/phone", object{"authToken": s.bearer(t, "acme", "alice/phone")})
	fresh.beat()
	s.refuses(t, old)
	listed(func() bool { return rows[1].Devices == 1 })
	// Tenants are labels; nothing else of the metrics says who uses them.
	_, metrics := s.get(t, "/metrics")
	for _, name := range []string{"alice", "acme/", "phone"} {
		if strings.Contains(metrics, name) {
			t.Errorf("the metrics name %s", name)
		}
	}

	// They are there again after a restart, and a removed one stays so.
	s.restart(t)
	listed(func() bool { return rows[1].Served && rows[2].Served })
	s.refuses(t, old)
	connect(t, s, "alice/desk", object{"authToken": s.bearer(t, "globex", "alice/desk")}).beat()
}

func TestTenantsHaveLimits(t *testing.T) {
	t.Parallel()
	s := start(t)
	s.tenant(t, "small", "--max-devices", "2", "--max-storage", "1MB")
	first := connect(t, s, "alice/a", object{"authToken": s.bearer(t, "small", "alice/a")})
	connect(t, s, "alice/b", object{"authToken": s.bearer(t, "small", "alice/b")})
	third := greeted(t, s, dialing{})
	token := s.bearer(t, "small", "alice/c")
	third.send(object{"id": "r", "type": "device_register", "payload": object{"authToken": token}})
	third.wantError("RATE_LIMITED")
	third.wantClose(4029)
	connect(t, s, user(t)+"/x", nil).beat() // of another tenant
	must(t, "tenants", "set", "small", "--max-devices", "3", "--max-storage", "1MB", "--data", s.data, "--server", s.NATS)
	n := 0
	eventually(t, func() error { // each time another device, for one that comes often is sent away
		n++
		_, err := newGate(s).link(s.bearer(t, "small", fmt.Sprint("alice/d", n)))
		return err
	})

	// Past its storage the sender is told, and the other tenant goes on.
	big := strings.Repeat("x", 100_000)
	refused := ""
	for n := 0; n < 30 && refused == ""; n++ {
		first.send(object{"id": fmt.Sprint("m", n), "type": "note", "toDeviceId": "b", "requiresAck": true, "payload": big})
		e, err := first.receive()
		if err != nil {
			t.Fatal(err)
		}
		if e.Type == "error" {
			refused = string(e.Payload)
		}
	}
	if !strings.Contains(refused, "UNAVAILABLE") {
		t.Errorf("3 MB for a store of 1 MB: %q", refused)
	}
	desk, phone := connect(t, s, "bob/desk", nil), connect(t, s, "bob/phone", nil)
	desk.tell("phone", "fits", nil)
	phone.wantMessage(`"fits"`)
	first.beat()
}

// A code of one tenant is none of another, and nobody is told which there are.
func TestTenantsEnrolTheirOwn(t *testing.T) {
	t.Parallel()
	s := start(t)
	s.tenant(t, "acme")
	code := func(tenant string) string {
		var c struct{ Code string }
		decode(t, []byte(s.in(t, tenant, "enroll", "code", "--user", "alice", "--json", "--server", s.NATS)), &c)
		return c.Code
	}
	url := "http" + strings.TrimSuffix(strings.TrimPrefix(s.Devices, "ws"), "/v1/ws")
	enroll := func(tenant, code string) result {
		out := filepath.Join(t.TempDir(), "phone.creds")
		return rccs(t, "", "enroll", "--url", url, "--code", code, "--device", "phone", "--out", out, "--tenant", tenant)
	}
	if r := enroll("acme", code("acme")); r.status != 0 {
		t.Errorf("its own code: %s", r.stderr)
	}
	var said []string
	for tenant, c := range map[string]string{"acme": code("default"), "default": code("acme"), "nobody": code("acme"), "nothing": code("default")} {
		r := enroll(tenant, c)
		if r.status == 0 {
			t.Errorf("%s takes a code of another", tenant)
		}
		said = append(said, r.stderr)
	}
	for _, text := range said[1:] {
		if text != said[0] {
			t.Errorf("told apart: %q and %q", text, said[0])
		}
	}
}

func TestTenantsAreBackedUp(t *testing.T) {
	t.Parallel()
	s := start(t)
	s.tenant(t, "acme")
	for _, tenant := range []string{"default", "acme"} {
		must(t, "send", "alice/phone", fmt.Sprintf("%q", tenant), "--tenant", tenant, "--data", s.data, "--server", s.NATS)
	}
	file := filepath.Join(t.TempDir(), "all.tar")
	must(t, "backup", "--out", file, "--data", s.data, "--server", s.NATS)
	copied := filepath.Join(t.TempDir(), "copied")
	must(t, "restore", file, "--data", copied)
	again := &server{data: copied, tokens: &mint{data: copied}}
	again.begin(t)
	t.Cleanup(func() { _ = again.tokens.close() })
	for _, tenant := range []string{"default", "acme"} {
		token := s.bearer(t, tenant, "alice/phone")
		eventually(t, func() error { // the other tenant is served a moment later
			l, err := newGate(again).link(token)
			if err == nil {
				err = l.ws.Close()
			}
			return err
		})
		phone := connect(t, again, "alice/phone", object{"authToken": token})
		if e := phone.message(); string(e.Payload) != fmt.Sprintf("%q", tenant) {
			t.Errorf("%s got %s", tenant, e.raw)
		}
	}
}
