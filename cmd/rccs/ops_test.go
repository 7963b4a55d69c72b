package main

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"
)

// stamp is what differs from run to run in what is printed.
var stamp = regexp.MustCompile(`"\d{4}-\d\d-\d\dT[^"]*"`)

// golden is JSON with every time replaced.
func golden(s string) string { return stamp.ReplaceAllString(s, `"T"`) }

// eventually polls a condition.
func eventually(tb testing.TB, what string, ok func() bool) {
	tb.Helper()
	for deadline := time.Now().Add(30 * time.Second); !ok(); {
		if time.Now().After(deadline) {
			tb.Fatalf("%s did not happen within 30 s", what)
		}
		<-time.After(10 * time.Millisecond)
	}
}

func TestMissedAndReplay(t *testing.T) {
	t.Parallel()
	i := serve(t)
	c := i.console()
	c.succeed(t, "send", "alice/phone", `1`, "--id", "m1", "--type", "greeting")
	c.succeed(t, "send", "alice/phone", `22`, "--id", "m2", "--priority", "high")
	want := `[
  {
    "seq": 1,
    "lane": "normal",
    "id": "m1",
    "type": "greeting",
    "timestamp": "T",
    "from": "service:nats",
    "stored": "T",
    "bytes": 1
  },
  {
    "seq": 2,
    "lane": "high",
    "id": "m2",
    "type": "notification",
    "timestamp": "T",
    "from": "service:nats",
    "stored": "T",
    "bytes": 2
  }
]
`
	if got := c.succeed(t, "missed", "alice/phone", "--json"); golden(got.out) != want || got.err != "" {
		t.Errorf("missed printed %s and %q", golden(got.out), got.err)
	}
	if got := c.succeed(t, "missed", "alice/phone"); strings.Count(got.out, "\n") != 3 || !strings.Contains(got.out, "greeting") {
		t.Errorf("missed printed %q", got.out)
	}
	c.succeed(t, "connect", "alice/phone", "--count", "2", "--timeout", "30s")
	none := func() bool { return c.succeed(t, "missed", "alice/phone", "--json").out == "[]\n" }
	eventually(t, "the acknowledgements are stored", none)
	if got := c.succeed(t, "missed", "alice/phone"); got.out != "alice/phone has acknowledged everything\n" {
		t.Errorf("missed printed %q", got.out)
	}

	// What is replayed is missed again until the device has acknowledged it.
	dry := c.succeed(t, "replay", "alice/phone", "--since", "1h", "--dry-run")
	if !strings.Contains(dry.out, "would replay 2 to alice/phone\n") || !none() {
		t.Errorf("a dry run printed %q", dry.out)
	}
	got := c.succeed(t, "replay", "alice/phone", "--id", "m1")
	if got.out != "replayed 1 from alice/phone to alice/phone, seq 3 to 3\n" {
		t.Errorf("replay printed %q", got.out)
	}
	got = c.succeed(t, "replay", "alice/phone", "--since", "1h", "--json")
	var told map[string]any
	if err := json.Unmarshal([]byte(got.out), &told); err != nil || told["copied"] != 2.0 || told["skipped"] != 1.0 || told["first"] != 4.0 || told["last"] != 5.0 || told["to"] != "alice/phone" {
		t.Errorf("replay printed %s", got.out)
	}
	shown := c.succeed(t, "connect", "alice/phone", "--count", "3", "--timeout", "30s", "--json")
	var lines []string
	for line := range strings.Lines(shown.out) {
		var e struct {
			ID                  string
			Seq                 uint64
			Priority            int
			Replay, Redelivered bool
			Payload             json.RawMessage
		}
		if err := json.Unmarshal([]byte(line), &e); err != nil {
			t.Fatal(err)
		}
		lines = append(lines, fmt.Sprintf("%s %d %d %t %t %s", e.ID, e.Seq, e.Priority, e.Replay, e.Redelivered, e.Payload))
	}
	slices.Sort(lines)
	if want := []string{"m1 3 1 true true 1", "m1 4 1 true true 1", "m2 5 2 true true 22"}; !slices.Equal(lines, want) {
		t.Errorf("the device got %q, want %q", lines, want)
	}
	eventually(t, "the replays are acknowledged", none)
}

func TestReplayToAnotherDevice(t *testing.T) {
	t.Parallel()
	i := serve(t)
	c := i.console()
	c.succeed(t, "send", "alice/phone", `1`, "--id", "m1")
	c.run(t, "replay", "alice/phone", "--missed", "--to", "alice/tablet").refused(t, exitFailed, "alice/tablet", "never registered", "rccs devices ls")
	c.succeed(t, "connect", "alice/tablet", "--timeout", "100ms")
	c.succeed(t, "replay", "alice/phone", "--missed", "--to", "alice/tablet")
	if got := c.succeed(t, "connect", "alice/tablet", "--count", "1", "--timeout", "30s"); !strings.Contains(got.out, "#2") {
		t.Errorf("the tablet got %q", got.out)
	}
	if got := c.succeed(t, "missed", "alice/phone"); !strings.Contains(got.out, "m1") {
		t.Errorf("the phone has missed %q", got.out)
	}
}

func TestInboxCommands(t *testing.T) {
	t.Parallel()
	i := serve(t)
	c := i.console()
	for n := range 3 {
		c.succeed(t, "send", fmt.Sprintf("alice/d%d", n), `1`, "--id", "m1")
	}
	c.succeed(t, "connect", "alice/d1", "--count", "1", "--timeout", "30s")
	want := `[
  {
    "user": "alice",
    "device": "d1",
    "stored": 1,
    "unacknowledged": 0,
    "cursorAt": "T"
  }
]
`
	eventually(t, "the cursor is stored", func() bool {
		return golden(c.succeed(t, "inbox", "ls", "--json", "--after", "alice/d0", "--limit", "1").out) == want
	})
	page := c.succeed(t, "inbox", "ls", "--unacknowledged", "--limit", "1", "--sort", "oldest")
	if !strings.Contains(page.out, "alice/d0") || strings.Contains(page.out, "alice/d2") || !strings.Contains(page.err, "there are more") {
		t.Errorf("printed %q and %q", page.out, page.err)
	}
	if got := c.succeed(t, "inbox", "ls", "bob", "--json"); got.out != "[]\n" {
		t.Errorf("of nobody %q", got.out)
	}
	show := c.succeed(t, "inbox", "show", "alice/d1")
	if !strings.Contains(show.out, "alice/d1: 1 stored, 0 not acknowledged; its cursor last moved ") {
		t.Errorf("printed %q", show.out)
	}
	var lanes struct{ Lanes []struct{ Lane string } }
	if err := json.Unmarshal([]byte(c.succeed(t, "inbox", "show", "alice/d1", "--json").out), &lanes); err != nil || len(lanes.Lanes) != 4 || lanes.Lanes[3].Lane != "critical" {
		t.Errorf("lanes %+v, %v", lanes, err)
	}
	c.run(t, "inbox", "purge", "alice/d0").refused(t, exitUsage, "--yes")
	if got := c.succeed(t, "inbox", "purge", "alice/d0", "--acknowledged"); got.out != "removed 0 of alice/d0\n" {
		t.Errorf("printed %q", got.out)
	}
	if got := c.succeed(t, "inbox", "purge", "alice/d0", "--yes", "--lane", "normal", "--json"); !strings.Contains(got.out, `"removed": 1`) {
		t.Errorf("printed %q", got.out)
	}
}

// Each command that talks to an installation, with arguments that are right.
func operatorCommands() []string {
	return []string{
		"missed a/b", "replay a/b --missed", "inbox ls", "inbox show a/b", "inbox purge a/b --yes",
	}
}

func TestOperatorsAreToldWhatIsWrong(t *testing.T) {
	t.Parallel()
	i := serve(t)
	c := i.console()
	dir := t.TempDir()
	service := filepath.Join(dir, "service.creds")
	if err := os.WriteFile(service, []byte(c.succeed(t, "creds", "service", "billing").out), 0o600); err != nil {
		t.Fatal(err)
	}
	other := t.TempDir()
	c.succeed(t, "creds", "service", "a", "--data", other)
	for _, line := range operatorCommands() {
		t.Run(line, func(t *testing.T) {
			t.Parallel()
			args := func(more ...string) []string { return append(strings.Split(line, " "), more...) }
			c.run(t, args("--server", "nats://127.0.0.1:1")...).refused(t, exitFailed, "nats://127.0.0.1:1", "rccs serve", "--server)")
			c.run(t, args("--data", other)...).refused(t, exitFailed, i.nats, "refused the credential", "--data")
			c.run(t, args("--data", filepath.Join(dir, "nowhere"))...).refused(t, exitFailed, "nowhere", "--data", "--creds")
			c.run(t, args("--creds", service)...).refused(t, exitFailed, "not allowed", "--data")
			c.run(t, args("--context", "no-such-context")...).refused(t, exitFailed, "no-such-context", "nats context ls")
			if !strings.Contains(line, " ls") {
				c.run(t, args()...).refused(t, exitFailed, "no such device", "rccs devices ls")
			}
		})
	}
}

func TestOperatorsUseContextsOfTheNATSCommand(t *testing.T) {
	i := serve(t)
	c := i.console()
	config := t.TempDir()
	t.Setenv("XDG_CONFIG_HOME", config)
	if err := os.MkdirAll(filepath.Join(config, "nats", "context"), 0o700); err != nil {
		t.Fatal(err)
	}
	creds := filepath.Join(config, "operator.creds")
	cred, err := console{}.environment(nil, nil, nil).operator(&serverFlags{data: i.data})
	if err != nil {
		t.Fatal(err)
	}
	file, err := cred.File()
	if err != nil {
		t.Fatal(err)
	}
	context := fmt.Sprintf(`{"description":"","url":%q,"creds":%q}`, i.nats, creds)
	for path, content := range map[string]string{creds: string(file), filepath.Join(config, "nats", "context", "prod.json"): context} {
		if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	c.succeed(t, "send", "alice/phone", "1")
	c.vars = nil
	if got := c.succeed(t, "missed", "alice/phone", "--context", "prod"); !strings.Contains(got.out, "notification") {
		t.Errorf("printed %q", got.out)
	}
	offered := c.succeed(t, "__completeNoDesc", "missed", "alice/phone", "--context", "")
	if !strings.HasPrefix(offered.out, "prod\n") {
		t.Errorf("offered %q", offered.out)
	}
}

// A question that is not answered ends, and when the operator ends it, at
// once.
func TestOperatorsCommandsEnd(t *testing.T) {
	t.Parallel()
	i := serve(t)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	env := i.console().environment(strings.NewReader(""), &strings.Builder{}, &strings.Builder{})
	begun := time.Now()
	if status := env.run(ctx, []string{"missed", "alice/phone"}); status != exitFailed {
		t.Errorf("status %d", status)
	}
	if took := time.Since(begun); took > 5*time.Second {
		t.Errorf("it took %s", took)
	}
}
