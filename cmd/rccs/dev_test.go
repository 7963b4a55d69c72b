package main

import (
	"encoding/json"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/rccs-io/rccs/client"
	"github.com/rccs-io/rccs/subjects"
)

// What 'rccs dev' prints to try works as it is printed.
func TestDevIsTriedAsItSays(t *testing.T) {
	t.Parallel()
	r := console{}.start(t, "dev", "--host", "127.0.0.1")
	r.await("[█▀▄]") // the QR code
	page := r.await(`^demo page  (http://127\.0\.0\.1:\d+/#\S+)$`)[1]
	r.await(`^console    http://127\.0\.0\.1:\d+/console/$`)
	try := func(command string) []string {
		line := r.await(`^  [^#]\S* (` + command + ` .*)$`)
		if len(line[0])-len(os.Args[0])+len("./bin/rccs") > 80 && strings.Contains(line[0], " --data /tmp/rccs-dev-") {
			t.Errorf("wraps on 80 columns: %q", line[0])
		}
		return strings.Fields(strings.ReplaceAll(line[1], "'read me later'", "'later'"))
	}
	now, later, connect := try("send"), try("send"), try("connect")
	r.await("What alice/phone receives")
	console{}.succeed(t, now...)
	r.await(`notification from service.*: "hello"`)
	console{}.succeed(t, later...)
	desktop := console{}.start(t, connect...)
	desktop.await("later") // what was stored comes
	if _, err := desktop.in.Write([]byte("phone hi there\n")); err != nil {
		t.Fatal(err)
	}
	r.await(`user_message from desktop: "hi there"`)
	desktop.stop()
	devPageIsADevice(t, r, page)
	data := now[len(now)-1]
	if code := r.stop(); code != exitOK {
		t.Errorf("ended with %d: %s", code, r.stderr())
	}
	if _, err := os.Stat(data); !os.IsNotExist(err) {
		t.Errorf("%s is still there: %v", data, err)
	}
}

// devPageIsADevice does what the page does in a browser.
func devPageIsADevice(t *testing.T, r *running, address string) {
	t.Helper()
	origin, key, _ := strings.Cut(address, "/#")
	ask := func(method, path, key string) (int, string) {
		req, err := http.NewRequestWithContext(t.Context(), method, origin+path, nil)
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set("X-Key", key)
		transport := &http.Transport{DisableKeepAlives: true}
		answer, err := (&http.Client{Transport: transport}).Do(req)
		if err != nil {
			t.Fatal(err)
		}
		defer answer.Body.Close()
		text, err := io.ReadAll(answer.Body)
		if err != nil {
			t.Fatal(err)
		}
		if answer.Header.Get("Content-Security-Policy") == "" {
			t.Errorf("%s has no policy", path)
		}
		return answer.StatusCode, string(text)
	}
	for path, want := range map[string]string{"/": "page.js", "/page.js": "device_register", "/page.css": "body"} {
		if status, text := ask(http.MethodGet, path, ""); status != http.StatusOK || !strings.Contains(text, want) {
			t.Errorf("%s: %d %.80q", path, status, text)
		}
	}
	if status, text := ask(http.MethodPost, "/token?device=page-0a1b", "another"); status != http.StatusForbidden || !strings.Contains(text, "rccs dev") {
		t.Errorf("another run's key: %d %q", status, text)
	}
	if status, _ := ask(http.MethodPost, "/token?device=phone", key); status != http.StatusBadRequest {
		t.Errorf("a page becomes the phone: %d", status)
	}
	status, text := ask(http.MethodPost, "/token?device=page-0a1b", key)
	var access struct {
		User, Token string
		Port        json.Number
	}
	if err := json.Unmarshal([]byte(text), &access); status != http.StatusOK || err != nil {
		t.Fatalf("%d %q, %v", status, text, err)
	}
	c, err := client.Dial(t.Context(), "ws://127.0.0.1:"+access.Port.String(), &client.Options{
		Token: access.Token, User: subjects.UserID(access.User), Device: "page-0a1b",
		Header: http.Header{"Origin": {origin}},
	})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = c.Close() }()
	if _, err := c.SendJSON(t.Context(), "user_message", "from the page", client.To("phone")); err != nil {
		t.Fatal(err)
	}
	r.await(`user_message from page-0a1b: "from the page"`)
}

func TestDevNeedsAnAddressOfThisMachine(t *testing.T) {
	t.Parallel()
	console{}.run(t, "dev", "--host", "192.0.2.1").refused(t, exitFailed, "--host 192.0.2.1")
}

// Commands find a running installation by its data directory, whatever its
// ports; what is given counts before that.
func TestDataFindsTheRunningInstallation(t *testing.T) {
	t.Parallel()
	i := serve(t)
	found := console{vars: map[string]string{"RCCS_DATA": i.data}}
	found.succeed(t, "send", "alice/phone", "1", "--id", "m1")
	found.succeed(t, "devices", "ls")
	if got := found.succeed(t, "connect", "alice/phone", "--count", "1", "--timeout", patient); !strings.Contains(got.out, ": 1") {
		t.Errorf("printed %q", got.out)
	}
	found.run(t, "status", "--server", "nats://127.0.0.1:1").refused(t, exitFailed, "127.0.0.1:1")
	found.vars["RCCS_SERVER"] = "nats://127.0.0.1:1"
	found.run(t, "status").refused(t, exitFailed, "127.0.0.1:1")

	// A second one on the same data takes nothing away, and a clean stop does.
	console{}.run(t, "serve", "--data", i.data, "--listen", "127.0.0.1:0", "--nats-listen", "127.0.0.1:0", "--admin-listen", "127.0.0.1:0").
		refused(t, exitFailed, "already being served")
	file := filepath.Join(i.data, addressesFile)
	if _, err := os.Stat(file); err != nil {
		t.Error(err)
	}
	i.stop()
	if _, err := os.Stat(file); !os.IsNotExist(err) {
		t.Errorf("%s after a clean stop: %v", file, err)
	}
	if err := os.WriteFile(file, []byte("{"), 0o600); err != nil {
		t.Fatal(err)
	}
	delete(found.vars, "RCCS_SERVER")
	if got := found.run(t, "send", "alice/phone", "1", "--server", "nats://127.0.0.1:1"); strings.Contains(got.err, addressesFile) {
		t.Errorf("a broken file is read where an address is given: %q", got.err)
	}
	if got := found.run(t, "connect", "alice/phone", "--timeout", "1s"); !strings.Contains(got.err, addressesFile) {
		t.Errorf("a broken file: %q", got.err)
	}
}

func TestEveryInterfaceIsReachedOnThisMachine(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]string{
		"nats://0.0.0.0:4222":   "nats://127.0.0.1:4222",
		"wss://[::]:443":        "wss://127.0.0.1:443",
		"ws://10.0.0.7:8080":    "ws://10.0.0.7:8080",
		"http://localhost:8081": "http://localhost:8081",
		"":                      "",
	} {
		if got := reachable(text); got != want {
			t.Errorf("%q is reached at %q, want %q", text, got, want)
		}
	}
}

func TestASystemCredentialIsOfTheSystemAccount(t *testing.T) {
	t.Parallel()
	i := serve(t)
	c := i.console()
	text := c.succeed(t, "creds", "system").out
	if !strings.Contains(text, "BEGIN NATS USER JWT") {
		t.Errorf("printed %q", text)
	}
	console{}.run(t, "creds", "system", "--data", t.TempDir()).refused(t, exitFailed, "--data")
}
