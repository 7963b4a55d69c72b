package main

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/gorilla/websocket"

	"github.com/rccs-io/rccs/wire"
)

// typed types lines.
func (r *running) typed(lines ...string) {
	r.tb.Helper()
	for _, line := range lines {
		if _, err := fmt.Fprintln(r.in, line); err != nil {
			r.tb.Fatal(err)
		}
	}
}

func TestTypedRequestsAreAnswered(t *testing.T) {
	t.Parallel()
	i := serve(t)
	c := i.console()
	desktop := c.start(t, "connect", "alice/desktop", "--device-type", "desktop", "--capability", "supportsFileSync")
	desktop.noted("connected as alice/desktop")
	phone := c.start(t, "connect", "alice/phone")
	phone.noted("connected as alice/phone")
	phone.typed(`?desktop open {"file":"main.go"}`)
	id := desktop.await(`^request (\S+) from phone: .*"method":"open".*"file":"main\.go"`)[1]
	desktop.typed("=" + id + ` {"ok":true}`)
	phone.await(`^response from desktop: {"ok":true}$`)
	phone.typed("?nobody open", "/nonsense", "?desktop", "#a..b 1")
	phone.noted("DEVICE_NOT_FOUND")
	phone.noted("no command /nonsense")
	phone.noted("want DEVICE PAYLOAD")
	phone.noted("BAD_MESSAGE")
}

func TestConnectAdvisesToLookAtTheEdgeThatItWasSentTo(t *testing.T) {
	t.Parallel()
	var up websocket.Upgrader
	home := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		c, err := up.Upgrade(w, r, http.Header{"Sec-WebSocket-Protocol": {"rccs.v1"}})
		if err != nil {
			return
		}
		defer func() { _ = c.Close() }()
		_ = c.WriteMessage(websocket.TextMessage, (&wire.Challenge{Challenge: "bm9uY2U", Nonce: "bm9uY2U", ServerTime: "2025-01-31T12:00:00.000Z"}).Append(nil, "s1"))
		_, _, _ = c.ReadMessage()
		_ = c.WriteMessage(websocket.TextMessage, (&wire.Error{Code: wire.WrongEdge, URLs: []string{"ws://127.0.0.1:1"}}).Append(nil))
		_ = c.WriteMessage(websocket.CloseMessage, websocket.FormatCloseMessage(int(wire.CloseWrongEdge), ""))
	}))
	t.Cleanup(home.Close)
	i := serve(t)
	got := i.console().run(t, "connect", "alice/phone", "--url", "ws"+strings.TrimPrefix(home.URL, "http"))
	if got.status != exitFailed || !strings.Contains(got.err, "--advertise") || strings.Contains(got.err, "is 'rccs serve' running there") {
		t.Errorf("connect ends with status %d and says %s", got.status, got.err)
	}
}

func TestAGapIsToldWithWhatIsKnownOfIt(t *testing.T) {
	t.Parallel()
	for want, g := range map[string]wire.Gap{
		"gone before they were read: 3 messages from seq 4 to 6 (normal, damaged)":          {Lane: "normal", From: 4, To: 6, Count: 3, Reason: "damaged"},
		"gone before it was read: 1 message from seq 4 to 4 (high, purged)":                 {Lane: "high", From: 4, To: 4, Count: 1, Reason: "purged"},
		"gone before they were read: at least 2 messages from seq 4 to 9 (normal, damaged)": {Lane: "normal", From: 4, To: 9, AtLeast: 2, Reason: "damaged"},
		"messages may be gone that were never read, from seq 7 to 7 (low, damaged)":         {Lane: "low", From: 7, To: 7, Reason: "damaged"},
	} {
		if got := gapText(&g); got != want {
			t.Errorf("%+v is told as %q, want %q", g, got, want)
		}
	}
}

func TestDevicesAndPresenceAreShown(t *testing.T) {
	t.Parallel()
	i := serve(t)
	c := i.console()
	phone := c.start(t, "connect", "alice/phone", "--presence")
	phone.noted("connected as alice/phone")
	desktop := c.start(t, "connect", "alice/desktop", "--device-type", "desktop")
	phone.await(`^presence desktop is online$`)
	desktop.typed("/status busy", "/status asleep", "/devices", "* hello")
	desktop.noted("status is busy")
	phone.await(`^presence desktop is busy$`)
	desktop.noted("BAD_MESSAGE")
	desktop.noted("desktop desktop busy")
	desktop.noted("(this one)")
	desktop.noted("stored for phone")
	phone.await(`user_message from desktop: "hello"$`)
	if status := desktop.stop(); status != exitOK {
		t.Errorf("ended with status %d: %s", status, desktop.stderr())
	}
	phone.await(`^presence desktop is offline$`)
}

func TestTopicsArePrintedFromWhereTheyAreWanted(t *testing.T) {
	t.Parallel()
	i := serve(t)
	c := i.console()
	phone := c.start(t, "connect", "alice/phone")
	phone.noted("connected as alice/phone")
	phone.typed(`#builds.main {"state":"green"}`, "#builds.main red")
	phone.noted("stored in topic builds.main, seq ")
	got := c.succeed(t, "connect", "bob/desktop", "--topic", "builds.main,builds.other", "--since", "1h", "--count", "2", "--timeout", patient)
	if !strings.Contains(got.out, `from phone: {"state":"green"}`) || !strings.Contains(got.out, `from phone: "red"`) || strings.Count(got.out, "topic builds.main #") != 2 {
		t.Errorf("printed %q", got.out)
	}
	got = c.succeed(t, "connect", "bob/desktop", "--topic", "builds.main", "--since", "last", "--count", "1", "--timeout", patient, "--json")
	if !strings.Contains(got.out, `"topic":"builds.main"`) || !strings.Contains(got.out, `"payload":"red"`) || strings.Count(got.out, "\n") != 1 {
		t.Errorf("printed %q", got.out)
	}
}

// A standard input without line ends, such as /dev/zero, ends with a note and
// not with the memory of the machine. Messages still arrive.
func TestAnEndlessLineIsNotReadIntoMemory(t *testing.T) {
	t.Parallel()
	i := serve(t)
	c := i.console()
	phone := c.start(t, "connect", "alice/phone")
	phone.noted("connected as alice/phone")
	go func() {
		block := strings.Repeat("x", 1<<20)
		for range maxTyped>>20 + 1 {
			if _, err := fmt.Fprint(phone.in, block); err != nil {
				return
			}
		}
	}()
	phone.noted("nothing more is read from it")
	c.succeed(t, "send", "alice/phone", `{"n":1}`)
	phone.await(`\{"n":1\}$`)
}

// What no message can name is no capability.
func TestConnectRefusesACapabilityThatNoMessageCanName(t *testing.T) {
	t.Parallel()
	for _, name := range []string{strings.Repeat("x", 129), "a\x00b", "\xff"} {
		console{}.run(t, "connect", "alice/phone", "--capability", name).refused(t, exitUsage, "--capability")
	}
}
