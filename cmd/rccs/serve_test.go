package main

import (
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/nats-io/nats.go"

	"github.com/rccs-io/rccs/auth"
	"github.com/rccs-io/rccs/internal/need"
	"github.com/rccs-io/rccs/internal/testkit"
	"github.com/rccs-io/rccs/subjects"
	"github.com/rccs-io/rccs/wire"
)

// installation is `rccs serve` in this process.
type installation struct {
	*running
	data, edge, nats, admin string
}

func serve(tb testing.TB, more ...string) *installation {
	tb.Helper()
	need.Long(tb, "it starts a whole installation")
	i := &installation{data: filepath.Join(tb.TempDir(), "data")}
	i.running = console{}.start(tb, append([]string{
		"serve", "--data", i.data,
		"--listen", "127.0.0.1:0", "--nats-listen", "127.0.0.1:0", "--admin-listen", "127.0.0.1:0",
	}, more...)...)
	i.edge = i.await(`^devices +(ws://\S+)$`)[1]
	i.nats = i.await(`^nats +(nats://\S+)$`)[1]
	i.admin = i.await(`^admin +(http://\S+)$`)[1]
	return i
}

// console is one whose commands reach the installation by default.
func (i *installation) console() console {
	return console{vars: map[string]string{"RCCS_DATA": i.data, "RCCS_SERVER": i.nats, "RCCS_URL": i.edge}}
}

func TestServeSendConnect(t *testing.T) {
	t.Parallel()
	i := serve(t)
	c := i.console()

	// Stored before the device ever connected, and once.
	sent := c.succeed(t, "send", "alice/phone", `{"n":1}`, "--id", "m1", "--type", "greeting")
	if want := "stored: alice/phone, lane normal, seq 1, id m1\n"; sent.out != want || sent.err != "" {
		t.Errorf("printed %q and %q, want %q", sent.out, sent.err, want)
	}
	again := c.succeed(t, "send", "alice/phone", `{"n":1}`, "--id", "m1", "--type", "greeting")
	if want := "stored before: alice/phone, lane normal, seq 1, id m1\n"; again.out != want {
		t.Errorf("a repeat printed %q, want %q", again.out, want)
	}
	c.run(t, "send", "alice/phone", strings.Repeat("x", 2<<20)).refused(t, exitFailed, "not stored: ")
	c.succeed(t, "send", "alice/phone", "no JSON\x1b", "--priority", "critical", "--id", "m2")

	// The higher lane first; what is not JSON is safe for a terminal.
	got := c.succeed(t, "connect", "alice/phone", "--count", "2", "--timeout", patient)
	want := "critical #2      notification from service: \"no JSON\\u001b\"\n" +
		"normal   #1      greeting from service: {\"n\":1}\n"
	if got.out != want && !sameButSender(got.out, want) {
		t.Errorf("printed %q, want %q", got.out, want)
	}
	if !strings.Contains(got.err, "connected as alice/phone, 2 waiting") {
		t.Errorf("noted %q", got.err)
	}

	// They were acknowledged: nothing comes again.
	none, within := c.idles(t, "connected as alice/phone", "connect", "alice/phone", "--count", "1")
	if none.status != exitFailed || none.out != "" || !strings.Contains(none.err, fmt.Sprintf("rccs: 0 of 1 messages came within %s\n", within)) {
		t.Errorf("status %d, printed %q and %q", none.status, none.out, none.err)
	}
	if got, _ := c.idles(t, "connected as alice/phone", "connect", "alice/phone"); got.status != exitOK || got.out != "" {
		t.Errorf("status %d, printed %q and %q", got.status, got.out, got.err)
	}
	if status := i.stop(); status != exitOK {
		t.Errorf("serve ended with status %d: %s", status, i.stderr())
	}
}

// sameButSender compares lines up to what a service is called.
func sameButSender(got, want string) bool {
	a, b := strings.Split(got, "\n"), strings.Split(want, "\n")
	if len(a) != len(b) {
		return false
	}
	for i := range a {
		beforeA, afterA, _ := strings.Cut(a[i], " from ")
		beforeB, afterB, _ := strings.Cut(b[i], " from ")
		_, afterA, _ = strings.Cut(afterA, ": ")
		_, afterB, _ = strings.Cut(afterB, ": ")
		if beforeA != beforeB || afterA != afterB {
			return false
		}
	}
	return true
}

func TestTypedLinesAreSent(t *testing.T) {
	t.Parallel()
	i := serve(t)
	c := i.console()
	desktop := c.start(t, "connect", "alice/desktop", "--json")
	desktop.noted("connected as alice/desktop")
	phone := c.start(t, "connect", "alice/phone", "--type", "note")
	phone.noted("connected as alice/phone")
	for _, line := range []string{`desktop {"open":"main.go"}`, "desktop hello, \"world\"", "alone", "", "desktop last"} {
		if _, err := fmt.Fprintln(phone.in, line); err != nil {
			t.Fatal(err)
		}
	}
	for _, want := range []string{`{"open":"main.go"}`, `"hello, \"world\""`, `"last"`} {
		var m struct {
			Type         string          `json:"type"`
			FromDeviceID string          `json:"fromDeviceId"`
			Payload      json.RawMessage `json:"payload"`
		}
		if err := json.Unmarshal([]byte(desktop.await(`.+`)[0]), &m); err != nil {
			t.Fatal(err)
		}
		if m.Type != "note" || m.FromDeviceID != "phone" || string(m.Payload) != want {
			t.Errorf("got %+v with payload %s, want %s", m, m.Payload, want)
		}
	}
	phone.noted("stored for desktop, seq ")
	phone.noted("not sent: want DEVICE PAYLOAD")
	if status := phone.stop(); status != exitOK {
		t.Errorf("ended with status %d: %s", status, phone.stderr())
	}
	if status := desktop.stop(); status != exitOK {
		t.Errorf("ended with status %d: %s", status, desktop.stderr())
	}
}

func TestCredentialsFilesWork(t *testing.T) {
	t.Parallel()
	i := serve(t)
	c, dir := i.console(), t.TempDir()
	file := func(name string, args ...string) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(c.succeed(t, args...).out), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	service := file("service.creds", "creds", "service", "billing")
	phone := file("phone.creds", "creds", "device", "Jürgen B/phone 1")
	bearer := file("bearer.jwt", "creds", "device", "Jürgen B/phone 1", "--bearer")
	delete(c.vars, "RCCS_DATA") // from here on there are no keys
	c.succeed(t, "send", "Jürgen B/phone 1", "1", "--creds", service)
	c.succeed(t, "send", "Jürgen B/phone 1", "2", "--creds", service)
	for _, creds := range []string{phone, bearer} {
		if got := c.succeed(t, "connect", "Jürgen B/phone 1", "--creds", creds, "--count", "1", "--timeout", patient); strings.Count(got.out, "\n") != 1 {
			t.Errorf("printed %q", got.out)
		}
	}
	// Another's name is refused, by the edge and by NATS.
	c.run(t, "connect", "alice/phone", "--creds", phone, "--timeout", patient).refused(t, exitFailed, string(wire.IdentityMismatch), i.edge)
	got := c.run(t, "send", "alice/phone", "1", "--creds", phone)
	got.refused(t, exitFailed, "not allowed")
}

func TestKeysOfAnotherInstallationAreRefused(t *testing.T) {
	t.Parallel()
	i := serve(t)
	c := i.console()
	c.vars["RCCS_DATA"] = t.TempDir()
	c.succeed(t, "creds", "service", "a") // makes the keys, so that the notes below are of the refusal alone
	c.run(t, "send", "alice/phone", "1").refused(t, exitFailed, i.nats, "--data")
	c.run(t, "connect", "alice/phone", "--timeout", patient).refused(t, exitFailed, string(wire.AuthError), "--data")
}

// A command that talks to an installation makes none.
func TestClientsNeedKeysThatExist(t *testing.T) {
	t.Parallel()
	for _, line := range []string{"send a/b 1", "connect a/b"} {
		data := filepath.Join(t.TempDir(), "data")
		console{}.run(t, append(strings.Split(line, " "), "--data", data)...).refused(t, exitFailed, data, "--data")
		if _, err := os.Stat(data); err == nil {
			t.Errorf("%s: made %s", line, data)
		}
	}
}

func TestServeTwiceOnOneDirectory(t *testing.T) {
	t.Parallel()
	i := serve(t)
	got := console{}.run(t, "serve", "--data", i.data, "--listen", "127.0.0.1:0", "--nats-listen", "", "--admin-listen", "")
	got.refused(t, exitFailed, i.data)
}

func TestServeTellsAndServesHealth(t *testing.T) {
	t.Parallel()
	i := serve(t)
	testkit.Eventually(t, "it is ready", func() bool { // on a busy machine it is not for moments
		status, _ := ready(t, i.admin, "")
		return status == http.StatusOK
	})
	for _, path := range []string{"/healthz", "/metrics"} {
		req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, i.admin+path, nil)
		if err != nil {
			t.Fatal(err)
		}
		resp, err := (&http.Client{Transport: &http.Transport{DisableKeepAlives: true}}).Do(req)
		if err != nil {
			t.Fatal(err)
		}
		_ = resp.Body.Close()
		if resp.StatusCode != http.StatusOK {
			t.Errorf("%s: %s", path, resp.Status)
		}
	}
	if !strings.Contains(i.await(`connect alice/phone.*`)[0], "--data "+i.data) {
		t.Error("what to try next does not name the data directory")
	}
	// Logs are JSON lines where standard error is no terminal.
	if status := i.stop(); status != exitOK {
		t.Errorf("status %d", status)
	}
	for line := range strings.Lines(i.stderr()) {
		if !json.Valid([]byte(line)) {
			t.Errorf("logged %q", line)
		}
	}
}

// What creds prints opens a plain NATS connection.
func TestPrintedCredentialsOpenNATS(t *testing.T) {
	t.Parallel()
	i := serve(t)
	for _, args := range [][]string{{"creds", "service", "billing"}, {"creds", "device", "alice/phone"}} {
		cred, err := auth.ParseCredential([]byte(i.console().succeed(t, args...).out))
		if err != nil {
			t.Fatal(err)
		}
		nc, err := nats.Connect(i.nats, cred.Option(), nats.Timeout(testkit.Patience),
			nats.CustomInboxPrefix(subjects.ReplyPrefix(subjects.Address{User: "alice", Device: "phone"}.Key())))
		if err != nil {
			t.Fatalf("%q: %v", args, err)
		}
		nc.Close()
	}
}

func TestASecondServeOfTheSameDataSaysSo(t *testing.T) {
	t.Parallel()
	i := serve(t)
	const free = "127.0.0.1:0"
	taken := strings.TrimPrefix(i.admin, "http://")
	for _, admin := range []string{taken, free} {
		console{}.run(t, "serve", "--data", i.data, "--listen", free, "--nats-listen", free, "--admin-listen", admin).
			refused(t, exitFailed, "already being served", i.data)
	}
	console{}.run(t, "serve", "--data", filepath.Join(t.TempDir(), "other"), "--listen", free, "--nats-listen", free, "--admin-listen", taken).
		refused(t, exitFailed, taken, "--admin-listen")
}

// It ends at once, as serve does, and not only when its NATS servers are there.
func TestAnEdgeOnAnAddressInUseSaysSo(t *testing.T) {
	t.Parallel()
	c := console{vars: map[string]string{"RCCS_DATA": t.TempDir()}}
	c.succeed(t, "creds", "service", "a") // makes the keys
	taken, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = taken.Close() }()
	for _, flag := range []string{"--listen", "--admin-listen"} {
		args := []string{"edge", "--server", "nats://127.0.0.1:1", "--listen", "127.0.0.1:0", "--admin-listen", "", flag, taken.Addr().String()}
		c.run(t, args...).refused(t, exitFailed, taken.Addr().String(), "address already in use", flag)
	}
}
