package e2e_test

import (
	"encoding/json"
	"path/filepath"
	"strings"
	"testing"
)

// To end everything is a thing that one asks for twice.
func TestRevokingAllAsksFirst(t *testing.T) {
	t.Parallel()
	s := start(t)
	token := s.token(t, "alice/phone")
	_ = must(t, "creds", "service", "billing", "--data", s.data)
	_ = must(t, "creds", "service", "web", "--data", s.data)
	at := []string{"--data", s.data, "--server", s.NATS}
	r := rccs(t, "", append([]string{"revoke", "all"}, at...)...)
	if r.status != 2 || !strings.Contains(r.stderr, "1 device and 2 services") || !strings.Contains(r.stderr, "--yes") {
		t.Errorf("without --yes: status %d, %s", r.status, r.stderr)
	}
	if r := rccs(t, "", append([]string{"revoke", "all", "--dry-run"}, at...)...); r.status != 0 || !strings.Contains(r.stderr, "1 device and 2 services") {
		t.Errorf("with --dry-run: status %d, %s", r.status, r.stderr)
	}
	connect(t, s, "alice/phone", object{"authToken": token})
	must(t, append([]string{"revoke", "all", "--yes"}, at...)...)
	s.refuses(t, token)
	// It ends the credential with which it is recorded, too.
	var list []struct{ Action, Result, Why string }
	if err := json.Unmarshal([]byte(must(t, append([]string{"audit", "--json"}, at...)...)), &list); err != nil {
		t.Fatal(err)
	}
	for _, r := range list {
		if r.Action == "revoke" && r.Result != "done" {
			t.Errorf("recorded as %+v", r)
		}
	}
}

// A name of which no credential is known may be a mistake, or be of a credential
// that is older than the record: it is revoked, and said so.
func TestRevokingAnUnknownNameIsDoneAndSaid(t *testing.T) {
	t.Parallel()
	s := start(t)
	at := []string{"--data", s.data, "--server", s.NATS}
	listed := func() (names []string) {
		var list []struct{ Kind, Name string }
		if err := json.Unmarshal([]byte(must(t, "revoke", "ls", "--json", "--data", s.data)), &list); err != nil {
			t.Fatal(err)
		}
		for _, r := range list {
			names = append(names, r.Kind+" "+r.Name)
		}
		return names
	}
	for _, what := range [][]string{{"service", "typo"}, {"user", "nobody"}, {"device", "alice/nothing"}, {"device", "alice/server"}} {
		r := rccs(t, "", append([]string{"revoke", what[0], what[1], "--only-known"}, at...)...)
		if r.status != 1 || !strings.Contains(r.stderr, "nothing is revoked") {
			t.Errorf("%v with --only-known: status %d, %s", what, r.status, r.stderr)
		}
		before := len(listed())
		r = rccs(t, "", append([]string{"revoke", what[0], what[1]}, at...)...)
		if r.status != 1 || !strings.Contains(r.stderr, "revoked all the same") || len(listed()) != before+1 {
			t.Errorf("%v: status %d, %s, listed %v", what, r.status, r.stderr, listed())
		}
	}
	_ = must(t, "creds", "service", "billing", "--data", s.data)
	must(t, append([]string{"revoke", "service", "billing", "--only-known"}, at...)...)
}

// What a narrower revocation took stays taken when a wider one is undone.
func TestUndoingAllLeavesWhatWasRevokedByName(t *testing.T) {
	t.Parallel()
	s := start(t)
	lost := strings.TrimSpace(must(t, "creds", "device", "alice/phone", "--bearer", "--data", s.data))
	kept := strings.TrimSpace(must(t, "creds", "device", "alice/mac", "--bearer", "--data", s.data))
	s.revoke(t, "device", "alice/phone")
	s.revoke(t, "all", "--yes")
	s.revoke(t, "undo", "all")
	s.refuses(t, lost)
	connect(t, s, "alice/mac", object{"authToken": kept})
}

// The record says of each act how it ended.
func TestTheRecordSaysHowAnActEnded(t *testing.T) {
	t.Parallel()
	s := start(t)
	at := []string{"--data", s.data, "--server", s.NATS}
	d := connect(t, s, "alice/phone", nil)
	if r := rccs(t, "", append([]string{"devices", "forget", "alice/phone", "--yes"}, at...)...); r.status == 0 {
		t.Fatalf("a connected device was forgotten: %s", r.stdout)
	}
	d.leave()
	must(t, append([]string{"devices", "forget", "alice/phone", "--yes"}, at...)...)
	v := s.service(t, "billing")
	if m, err := v.nc.Request("rccs.coordinator.replay", []byte(`{"user":"alice","device":"phone","to":"bob/phone","missed":true}`), patience); err != nil || m.Header.Get("Nats-Service-Error") == "" {
		t.Fatalf("a service replays to another user: %v", err)
	}
	nowhere := filepath.Join(t.TempDir(), "none", "backup.tar")
	if r := rccs(t, "", append([]string{"backup", "--out", nowhere}, at...)...); r.status != 1 {
		t.Fatalf("a backup into no directory ends with %d: %s", r.status, r.stderr)
	}
	var list []struct{ Action, Target, Result, Why string }
	if err := json.Unmarshal([]byte(must(t, append([]string{"audit", "--json"}, at...)...)), &list); err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, r := range list {
		if r.Action == "forget" || r.Action == "replay" || r.Action == "backup" {
			got = append(got, r.Action+" "+r.Target+" "+r.Result)
			if (r.Why == "") != (r.Result == "done") {
				t.Errorf("%+v does not say why", r)
			}
		}
	}
	if want := "forget alice/phone refused, forget alice/phone done, replay alice/phone refused, backup  failed"; strings.Join(got, ", ") != want {
		t.Errorf("recorded %q, want %q", got, want)
	}
}

// Where there is no installation, no credential is made by mistake.
func TestCredsMakesNoOperatorUnasked(t *testing.T) {
	t.Parallel()
	dir := t.TempDir() + "/data"
	for _, args := range [][]string{{"device", "alice/phone"}, {"service", "billing"}, {"part", "edge"}} {
		r := rccs(t, "", append([]string{"creds", args[0], args[1]}, "--data", dir)...)
		if r.status != 1 || r.stdout != "" || !strings.Contains(r.stderr, "--init") {
			t.Errorf("creds %v: status %d, %s%s", args, r.status, r.stdout, r.stderr)
		}
	}
	must(t, "creds", "device", "alice/phone", "--data", dir, "--init")
	must(t, "creds", "service", "billing", "--data", dir)
}
