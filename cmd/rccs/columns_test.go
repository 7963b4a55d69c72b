package main

import (
	"encoding/json"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/rccs-io/rccs/client"
)

// Names as people and programs make them: an address, a machine, a UUID.
const (
	wideDevice = "margarethe.hohenstein@example.com/macbook-pro-16-office"
	wideID     = "0196b7a4-6a5e-7f10-8d7e-3b1c0de4f5a6"
)

// On a terminal of 80 columns no line of a table wraps, and what is copied into
// the next command stands there whole, whatever devices and messages are called.
func TestEveryTableFits80Columns(t *testing.T) {
	t.Parallel()
	i := serve(t)
	c := i.console()
	phone := i.device(t, "alice/phone", client.Options{Type: "mobile", Platform: "ios 19.2.1 (23C55)", Version: "2026.11.28-rc.1+build.4711"})
	for id, to := range map[string]string{wideID: wideDevice, "m1": "alice/phone"} {
		c.succeed(t, "send", to, "1", "--id", id, "--type", "approval.request.with-a-long-name.v2", "--priority", "critical")
	}
	for id, to := range map[string]string{"rejected-" + wideID[:20]: "reject", "m2": "keep"} {
		c.succeed(t, "send", "alice/phone", "1", "--id", id, "--type", to)
	}
	rejectOne(t, phone)
	delayed, err := client.Compose("approval.request.with-a-long-name.v2", "x", client.To("phone"), client.WithDeliverAt(time.Now().Add(100*time.Hour)), client.WithID(wideID))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := phone.Send(t.Context(), delayed); err != nil {
		t.Fatal(err)
	}
	c.succeed(t, "creds", "device", wideDevice)
	c.succeed(t, "creds", "service", "a-service-with-a-name-of-its-own-and-more")
	c.succeed(t, "revoke", "service", "a-service-with-a-name-of-its-own-and-more")
	c.succeed(t, "tenants", "add", "tenant-with-a-long-name-01234567")
	backup := filepath.Join(t.TempDir(), "b.tar")
	c.succeed(t, "backup", "--out", backup)
	// Who adds a table adds the command that prints it to the list below.
	if n := tablesInSource(t); n != 18 {
		t.Errorf("%d tables are made in the source: is each one in the list of this test?", n)
	}
	result := filepath.Join(t.TempDir(), "r.json")
	if err := os.WriteFile(result, []byte(c.succeed(t, "bench", "latency", "--json", "--devices", "2", "--rate", "50", "--warmup", "100ms", "--duration", "500ms").out), 0o600); err != nil {
		t.Fatal(err)
	}
	c.columns = 80
	for line, whole := range map[string][]string{
		"status --interval 0s":   {wideDevice},
		"devices ls":             {"alice/phone"},
		"edges ls":               nil,
		"inbox ls":               {wideDevice, "alice/phone"},
		"inbox show alice/phone": nil,
		"inbox rejected":         {"alice/phone", "rejected-" + wideID[:20]},
		"missed " + wideDevice:   {wideID},
		"replay " + wideDevice + " --missed --to alice/phone --dry-run": {wideID},
		"later ls":                               {wideID, "alice/phone"},
		"audit":                                  {"tenant-with-a-long-name-01234567"},
		"trace " + wideID:                        {wideDevice},
		"tenants ls":                             {"tenant-with-a-long-name-01234567"},
		"revoke ls":                              {"a-service-with-a-name-of-its-own-and-more"},
		"backup verify " + backup:                {"tenant-with-a-long-name-01234567"},
		"bench compare " + result + " " + result: nil,
		"bench latency --devices 2 --rate 50 --warmup 100ms --duration 500ms": nil,
	} {
		got := c.succeed(t, strings.Fields(line)...)
		for text := range strings.Lines(got.out) {
			if text = strings.TrimRight(text, "\n"); utf8.RuneCountInString(text) > 80 {
				t.Errorf("%s: wraps: %q", line, text)
			}
		}
		for _, name := range whole {
			if !strings.Contains(got.out, name) {
				t.Errorf("%s: %q is not whole:\n%s", line, name, got.out)
			}
		}
	}
}

// tablesInSource counts the calls of newTable in the program.
func tablesInSource(t *testing.T) (n int) {
	t.Helper()
	files, err := filepath.Glob("*.go")
	if err != nil {
		t.Fatal(err)
	}
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		if !strings.HasSuffix(file, "_test.go") && file != "table.go" {
			n += strings.Count(string(text), "newTable(")
		}
	}
	return n
}

// rejectOne has the device refuse what is of type reject, and leave the rest.
func rejectOne(t *testing.T, phone *client.Client) {
	t.Helper()
	for {
		m, err := phone.Receive(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if m.Type == "reject" {
			m.Reject("cannot parse what is in it, because it is not what was agreed on")
			return
		}
	}
}

// A table whose needed columns have no room side by side is printed as blocks.
func TestANarrowTableIsStackedAndCutsNothing(t *testing.T) {
	t.Parallel()
	tab := newTable(column{title: "DEVICE"}, column{title: "ID"}, column{title: "FROM", extra: 1}, column{title: "WHY", least: 4})
	tab.row("alice/phone", "an-id-to-copy", "desktop", "because of this")
	tab.row("bob/phone", "another-id", "", "")
	var out strings.Builder
	env := &environment{out: &out, err: &out, columns: 28}
	if err := env.table(tab); err != nil {
		t.Fatal(err)
	}
	want := "DEVICE  alice/phone\nID      an-id-to-copy\nFROM    desktop\nWHY     because of this\n\nDEVICE  bob/phone\nID      another-id\n"
	if out.String() != want {
		t.Errorf("printed\n%s\nwant\n%s", out.String(), want)
	}
}

// A command that an error or a finding names goes to the installation that this
// one was about.
func TestHintsCarryTheFlagsInUse(t *testing.T) {
	t.Parallel()
	i := serve(t)
	server := []string{"--server", i.nats, "--data", i.data}
	got := console{}.run(t, append([]string{"later", "cancel", "alice", "x"}, server...)...)
	hint := regexp.MustCompile(`'rccs (later ls alice [^']*)'`).FindStringSubmatch(got.err)
	if hint == nil || !strings.Contains(hint[1], "--data "+i.data) || !strings.Contains(hint[1], "--server "+i.nats) {
		t.Fatalf("told %q", got.err)
	}
	console{}.succeed(t, strings.Fields(hint[1])...)

	// What the environment says holds for the next command, too.
	if got := i.console().run(t, "later", "cancel", "alice", "x"); !strings.Contains(got.err, "'rccs later ls alice'") {
		t.Errorf("told %q", got.err)
	}
	// A command without such a flag gets none, and a password is not repeated.
	env := console{}.environment(nil, nil, nil)
	env.root = newRootCommand(env)
	env.aimed = []given{{"data", "./my data"}, {"server", shown("nats://user:secret@host")}}
	if got := env.hints("see 'rccs creds part NAME', 'rccs version' and 'rccs status'"); got !=
		`see 'rccs creds part NAME --data "./my data"', 'rccs version' and 'rccs status --data "./my data" --server nats://xxxxx@host'` {
		t.Errorf("hints %q", got)
	}
}

// What changes something answers with one JSON object, too.
func TestChangesAnswerWithJSON(t *testing.T) {
	t.Parallel()
	i := serve(t)
	c := i.console()
	c.succeed(t, "creds", "device", "alice/phone")
	c.succeed(t, "creds", "service", "billing")
	for _, try := range []struct{ line, want string }{
		{"send alice/phone 1 --id m1", `"seq": 1`},
		{"send alice/phone 1 --id m1", `"duplicate": true`},
		{"devices revoke alice/phone", `"known": true`},
		{"revoke service billing", `"kind": "service"`},
		{"revoke undo service billing", `"revoked": false`},
		{"revoke all --dry-run", `"devices": [`},
		{"tenants add acme", `"served": true`},
		{"tenants set acme --max-devices 5", `"devices": 5`},
		{"tenants rm acme --yes", `"removed": true`},
	} {
		got := c.succeed(t, append(strings.Fields(try.line), "--json")...)
		var answer map[string]any
		if err := json.Unmarshal([]byte(got.out), &answer); err != nil || !strings.Contains(got.out, try.want) {
			t.Errorf("%s: printed %q, want %s, %v", try.line, got.out, try.want, err)
		}
	}
}
