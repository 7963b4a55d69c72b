package main

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"

	"github.com/nats-io/nats.go"

	"github.com/rccs-io/rccs/internal/testkit"
)

// stamp is what differs from run to run in what is printed.
var stamp = regexp.MustCompile(`"\d{4}-\d\d-\d\dT[^"]*"`)

// golden is JSON with every time replaced.
func golden(s string) string { return stamp.ReplaceAllString(s, `"T"`) }

// visit registers a device, which then leaves.
func (c console) visit(tb testing.TB, device string) {
	tb.Helper()
	r := c.start(tb, "connect", device)
	r.noted("connected as " + device)
	if status := r.stop(); status != exitOK {
		tb.Fatalf("%s left with status %d: %s", device, status, r.stderr())
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
	c.succeed(t, "connect", "alice/phone", "--count", "2", "--timeout", patient)
	none := func() bool { return c.succeed(t, "missed", "alice/phone", "--json").out == "[]\n" }
	testkit.Eventually(t, "the acknowledgements are stored", none)
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
	shown := c.succeed(t, "connect", "alice/phone", "--count", "3", "--timeout", patient, "--json")
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
	testkit.Eventually(t, "the replays are acknowledged", none)
}

// A device that is connected gets a replay between its live messages: neither
// disturbs the order of the other, and each comes once.
func TestReplayBesideTheLiveFlow(t *testing.T) {
	t.Parallel()
	i := serve(t)
	c := i.console()
	const n = 10
	for k := range n {
		c.succeed(t, "send", "alice/tablet", "0", "--id", fmt.Sprintf("old%d", k))
	}
	phone := c.start(t, "connect", "alice/phone", "--json", "--count", strconv.Itoa(2*n))
	phone.noted("connected as alice/phone")
	var sending sync.WaitGroup
	sending.Go(func() {
		for k := range n {
			if got := c.run(t, "send", "alice/phone", "0", "--id", fmt.Sprintf("live%d", k)); got.status != exitOK {
				t.Errorf("send: %s", got.err)
			}
		}
	})
	c.succeed(t, "replay", "alice/tablet", "--missed", "--to", "alice/phone")
	sending.Wait()
	var live, old []string
	for range 2 * n {
		var e struct {
			ID     string
			Replay bool
		}
		if err := json.Unmarshal([]byte(phone.await(`.+`)[0]), &e); err != nil {
			t.Fatal(err)
		}
		if e.Replay {
			old = append(old, e.ID)
		} else {
			live = append(live, e.ID)
		}
	}
	for k := range n {
		if old[k] != fmt.Sprintf("old%d", k) || live[k] != fmt.Sprintf("live%d", k) {
			t.Fatalf("replayed %q, live %q", old, live)
		}
	}
	if status := phone.exit(); status != exitOK || len(live) != n {
		t.Errorf("status %d, %d live", status, len(live))
	}
	testkit.Eventually(t, "all is acknowledged", func() bool { return c.succeed(t, "missed", "alice/phone", "--json").out == "[]\n" })
	if got := c.succeed(t, "missed", "alice/tablet"); strings.Count(got.out, "\n") != 1+n {
		t.Errorf("the tablet has missed %q", got.out)
	}
}

func TestReplayToAnotherDevice(t *testing.T) {
	t.Parallel()
	i := serve(t)
	c := i.console()
	c.succeed(t, "send", "alice/phone", `1`, "--id", "m1")
	c.run(t, "replay", "alice/phone", "--missed", "--to", "alice/tablet").refused(t, exitFailed, "alice/tablet", "never registered", "rccs devices ls")
	c.visit(t, "alice/tablet")
	c.succeed(t, "replay", "alice/phone", "--missed", "--to", "alice/tablet")
	if got := c.succeed(t, "connect", "alice/tablet", "--count", "1", "--timeout", patient); !strings.Contains(got.out, "#2") {
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
	c.succeed(t, "connect", "alice/d1", "--count", "1", "--timeout", patient)
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
	testkit.Eventually(t, "the cursor is stored", func() bool {
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
	if !strings.Contains(show.out, "alice/d1: 1 stored, 0 not acknowledged;\nits cursor last moved ") {
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
		"devices ls", "devices show a/b", "devices forget a/b --yes", "edges ls", "tail", "trace m1", "status --interval 0", "doctor",
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
	phone := file(t, c.succeed(t, "creds", "device", "a/phone").out)
	host := strings.TrimPrefix(i.nats, "nats://")
	c.run(t, "connect", "a/b", "--creds", service).refused(t, exitFailed, "AUTH_ERROR", "service.creds is the credential of service:billing")
	c.run(t, "connect", "a/b", "--creds", phone).refused(t, exitFailed, "IDENTITY_MISMATCH", phone+" is the credential of a/phone")
	c.run(t, "connect", "a/b", "--url", "ws://"+host).refused(t, exitFailed, "ws://"+host, "not HTTP", "the address of NATS")
	c.run(t, "connect", "a/b", "--url", strings.Replace(i.edge, "ws://", "wss://", 1)).refused(t, exitFailed, "ws:// rather than wss://")
	for _, part := range []string{"edge", "coordinator"} {
		c.run(t, part, "--creds", service, "--admin-listen", "").refused(t, exitFailed, "service.creds is the credential of service:billing", "'rccs creds part'")
		c.run(t, part, "--creds", phone, "--admin-listen", "").refused(t, exitFailed, "the credential of a/phone", "'rccs creds part'")
	}
	c.run(t, "send", "a/b", "1", "--data", other, "--server", host).refused(t, exitFailed, host+" refused the credential", "--data")
	for _, line := range operatorCommands() {
		t.Run(line, func(t *testing.T) {
			t.Parallel()
			args := func(more ...string) []string { return append(strings.Split(line, " "), more...) }
			c.run(t, args("--server", "nats://127.0.0.1:1")...).refused(t, exitFailed, "nats://127.0.0.1:1", "rccs serve", "--server)")
			c.run(t, args("--data", other)...).refused(t, exitFailed, i.nats, "refused the credential", "--data")
			c.run(t, args("--data", filepath.Join(dir, "nowhere"))...).refused(t, exitFailed, "nowhere", "--data", "--creds")
			c.run(t, args("--creds", service)...).refused(t, exitFailed, "not allowed", "--data")
			c.run(t, args("--context", "no-such-context")...).refused(t, exitFailed, "no-such-context", "nats context ls")
			if strings.Contains(line, "a/b") {
				c.run(t, args()...).refused(t, exitFailed, "a/b: no such device", "rccs devices ls")
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

// A command that the operator ends does not wait for the answer.
func TestOperatorsCommandsEnd(t *testing.T) {
	t.Parallel()
	i := serve(t)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	env := i.console().environment(strings.NewReader(""), &strings.Builder{}, &strings.Builder{})
	if status := env.run(ctx, []string{"missed", "alice/phone"}); status != exitFailed {
		t.Errorf("status %d", status)
	}
}

func TestDeviceThatNeverRegisteredIsShownWithWhatWaits(t *testing.T) {
	t.Parallel()
	c := serve(t).console()
	c.succeed(t, "send", "user2/ghost", "1", "--id", "m1")
	show := c.succeed(t, "devices", "show", "user2/ghost").out
	for _, want := range []string{"registered    never\n", "stored        1\n", "waiting       1, the oldest for "} {
		if !strings.Contains(show, want) {
			t.Errorf("%q is not shown: %s", want, show)
		}
	}
	var shown struct {
		User, Status string
		Registered   *string
		Inbox        struct{ Unacknowledged int }
	}
	if err := json.Unmarshal([]byte(c.succeed(t, "devices", "show", "user2/ghost", "--json").out), &shown); err != nil || shown.User != "user2" ||
		shown.Registered != nil || shown.Status != "offline" || shown.Inbox.Unacknowledged != 1 {
		t.Errorf("shown as %+v, %v", shown, err)
	}
	c.run(t, "devices", "show", "user2/nobody").refused(t, exitFailed, "never registered and has no messages")
}

func TestDevicesAndEdges(t *testing.T) {
	t.Parallel()
	i := serve(t)
	c := i.console()
	if got := c.succeed(t, "devices", "ls", "--json"); got.out != "[]\n" {
		t.Errorf("without devices %q", got.out)
	}
	phone := c.start(t, "connect", "alice/phone")
	phone.noted("connected as alice/phone")
	c.visit(t, "alice/tablet")
	c.visit(t, "bob/phone")
	c.succeed(t, "send", "bob/phone", "1")

	type device struct {
		User, Device, Platform, Status, Edge, Session string
		Capabilities                                  json.RawMessage
		Epoch                                         int
	}
	list := func(args ...string) (all []device, more bool) {
		t.Helper()
		got := c.succeed(t, append([]string{"devices", "ls", "--json"}, args...)...)
		if err := json.Unmarshal([]byte(got.out), &all); err != nil {
			t.Fatal(err)
		}
		return all, strings.Contains(got.err, "there are more")
	}
	var all []device
	testkit.Eventually(t, "two of three are offline", func() bool {
		all, _ = list()
		return len(all) == 3 && all[1].Status == "offline" && all[2].Status == "offline"
	})
	if d := all[0]; d.User != "alice" || d.Device != "phone" || d.Status != "online" || d.Edge == "" || d.Session == "" || d.Epoch == 0 || d.Platform != "rccs connect" {
		t.Errorf("the phone is %+v", d)
	}
	if d := all[1]; d.Device != "tablet" || d.Edge != "" {
		t.Errorf("the tablet is %+v", d)
	}
	if online, more := list("--online"); len(online) != 1 || online[0].Device != "phone" || more {
		t.Errorf("online are %+v", online)
	}
	if alice, _ := list("alice"); len(alice) != 2 {
		t.Errorf("alice has %+v", alice)
	}
	if page, more := list("--limit", "1", "--after", "alice/phone"); len(page) != 1 || page[0].Device != "tablet" || !more {
		t.Errorf("the page is %+v, more: %t", page, more)
	}
	if none, _ := list("--type", "desktop"); len(none) != 0 {
		t.Errorf("desktops are %+v", none)
	}
	if got := c.succeed(t, "devices", "ls"); strings.Count(got.out, "\n") != 4 || !strings.Contains(got.out, "alice/phone") {
		t.Errorf("printed %q", got.out)
	}
	show := c.succeed(t, "devices", "show", "bob/phone").out
	for _, want := range []string{"device        bob/phone\n", "offline, last seen ", ", epoch ", "stored        1\n", "waiting       1, the oldest for "} {
		if !strings.Contains(show, want) {
			t.Errorf("%q is not shown: %s", want, show)
		}
	}
	var shown struct {
		Device string
		Inbox  struct{ Unacknowledged int }
	}
	if err := json.Unmarshal([]byte(c.succeed(t, "devices", "show", "bob/phone", "--json").out), &shown); err != nil || shown.Device != "phone" || shown.Inbox.Unacknowledged != 1 {
		t.Errorf("shown as %+v, %v", shown, err)
	}
	var edges []struct {
		ID, Name, Address string
		Devices           int
	}
	testkit.Eventually(t, "the edge tells of one device", func() bool {
		if err := json.Unmarshal([]byte(c.succeed(t, "edges", "ls", "--json").out), &edges); err != nil {
			t.Fatal(err)
		}
		return len(edges) == 1 && edges[0].Devices == 1
	})
	if edges[0].ID == "" || edges[0].Name != all[0].Edge {
		t.Errorf("edges are %+v", edges)
	}
	if got := c.succeed(t, "edges", "ls"); !strings.Contains(got.out, edges[0].Name) {
		t.Errorf("printed %q", got.out)
	}
	c.run(t, "devices", "forget", "alice/phone", "--yes").refused(t, exitFailed, "is connected", "rccs devices revoke")
	c.run(t, "devices", "forget", "bob/phone").refused(t, exitUsage, "has not acknowledged 1 messages", "--yes")
	if got := c.succeed(t, "devices", "forget", "alice/tablet"); got.out != "forgot alice/tablet\n" {
		t.Errorf("a device that has acknowledged everything: printed %q", got.out)
	}
	if got := c.succeed(t, "devices", "forget", "bob/phone", "--yes"); got.out != "forgot bob/phone\n" {
		t.Errorf("printed %q", got.out)
	}
	if left, _ := list(); len(left) != 1 || left[0].User != "alice" {
		t.Errorf("left are %+v", left)
	}
	for _, line := range []string{"missed bob/phone", "devices show bob/phone", "inbox show bob/phone", "devices forget bob/phone --yes"} {
		c.run(t, strings.Split(line, " ")...).refused(t, exitFailed, "no such device")
	}
}

func TestTailShowsDevicesAtWork(t *testing.T) {
	t.Parallel()
	i := serve(t)
	c := i.console()
	tail := c.start(t, "tail", "alice/phone")
	tail.noted("watching")
	c.succeed(t, "send", "alice/phone", `"secret"`, "--id", "m1")
	c.succeed(t, "send", "bob/phone", `1`)
	c.succeed(t, "connect", "alice/phone", "--count", "1", "--timeout", patient)
	tail.await(`-> alice/phone inbox normal #1 notification m1 from service:nats, 8 B$`)
	tail.await(`<- alice/phone cursor normal: acknowledged up to #[12]$`)
	if status := tail.stop(); status != exitOK || strings.Contains(tail.stderr(), "secret") {
		t.Errorf("ended with status %d: %s", status, tail.stderr())
	}
	one := c.start(t, "tail", "--json", "--payload", "--kinds", "inbox", "--type", "note", "--count", "1")
	one.noted("watching")
	c.succeed(t, "send", "alice/phone", `{"a": 1}`, "--id", "m2")
	c.succeed(t, "send", "alice/phone", `{"a": 1}`, "--id", "m3", "--type", "note", "--priority", "low")
	got := one.await(`.+`)[0]
	if want := `{"at":"T","kind":"inbox","user":"alice","device":"phone","lane":"low","seq":4,"id":"m3","type":"note","from":"service:nats","bytes":8,"payload":{"a":1}}`; golden(got) != want {
		t.Errorf("printed %s, want %s", golden(got), want)
	}
	if status := one.exit(); status != exitOK {
		t.Errorf("ended with status %d", status)
	}
	none, within := c.idles(t, "watching", "tail", "--kinds", "inbox", "--count", "1")
	if none.status != exitFailed || none.out != "" || !strings.Contains(none.err, fmt.Sprintf("rccs: 0 of 1 came within %s\n", within)) {
		t.Errorf("status %d, printed %q and %q", none.status, none.out, none.err)
	}
}

// What a command has to say it says by itself: nats.go prints nothing beside it.
func TestConnectionsOfCommandsPrintNothing(t *testing.T) {
	t.Parallel()
	opts := nats.GetDefaultOptions()
	for _, set := range dialOptions() {
		if err := set(&opts); err != nil {
			t.Fatal(err)
		}
	}
	if opts.AsyncErrorCB == nil {
		t.Error("nats.go would print errors on standard error")
	}
}
