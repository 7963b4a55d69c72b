package main

import (
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/nats-io/nats.go"

	"github.com/rccs-io/rccs/client"
	"github.com/rccs-io/rccs/internal/ops"
	"github.com/rccs-io/rccs/internal/testkit"
	"github.com/rccs-io/rccs/wire"
)

// device connects with the Go SDK.
func (i *installation) device(tb testing.TB, name string, opts client.Options) *client.Client {
	tb.Helper()
	file := filepath.Join(tb.TempDir(), "device.creds")
	if err := os.WriteFile(file, []byte(i.console().succeed(tb, "creds", "device", name).out), 0o600); err != nil {
		tb.Fatal(err)
	}
	opts.Credentials, opts.HandshakeTimeout = client.CredentialsFile(file), testkit.Patience
	c, err := client.Dial(tb.Context(), i.edge, &opts)
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() { _ = c.Close() })
	return c
}

func TestRejectedMessagesAreListedReplayedAndDropped(t *testing.T) {
	t.Parallel()
	i := serve(t)
	c := i.console()
	phone := i.device(t, "alice/phone", client.Options{MaxFrameBytes: 2000})
	if got := c.succeed(t, "inbox", "rejected", "alice/phone"); got.out != "no message is rejected\n" {
		t.Errorf("printed %q", got.out)
	}
	if got := c.succeed(t, "inbox", "rejected", "--json"); got.out != "[]\n" {
		t.Errorf("printed %q", got.out)
	}
	c.succeed(t, "send", "alice/phone", `1`, "--id", "m1", "--type", "order")
	m, err := phone.Receive(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	m.Reject("cannot\x1b[31m parse")
	c.succeed(t, "send", "alice/phone", `"`+strings.Repeat("x", 3000)+`"`, "--id", "m2", "--type", "photo", "--priority", "high")
	listed := func() (list []map[string]any) {
		t.Helper()
		if err := json.Unmarshal([]byte(c.succeed(t, "inbox", "rejected", "alice/phone", "--json").out), &list); err != nil {
			t.Fatal(err)
		}
		return list
	}
	testkit.Eventually(t, "both are listed", func() bool { return len(listed()) == 2 })
	for n, want := range []map[string]any{
		{"seq": 1.0, "lane": "normal", "id": "m1", "type": "order", "reason": "cannot\x1b[31m parse"},
		{"seq": 2.0, "lane": "high", "id": "m2", "type": "photo", "reason": "tooLarge"},
	} {
		got := listed()[n]
		for _, field := range []string{"timestamp", "rejectedAt"} {
			if at, err := time.Parse(time.RFC3339Nano, got[field].(string)); err != nil || time.Since(at).Abs() > time.Hour {
				t.Errorf("%s is %v", field, got[field])
			}
			delete(got, field)
		}
		if len(got) != len(want) {
			t.Errorf("listed %v, want %v", got, want)
		}
		for field, value := range want {
			if got[field] != value {
				t.Errorf("%s is %v, want %v", field, got[field], value)
			}
		}
	}
	shown := c.succeed(t, "inbox", "rejected", "alice").out
	if strings.Count(shown, "\n") != 3 || !strings.Contains(shown, "alice/phone") || strings.Contains(shown, "\x1b") {
		t.Errorf("printed %q", shown)
	}
	c.run(t, "inbox", "rejected", "alice/nosuch").refused(t, exitFailed, "alice/nosuch", "rccs devices ls")

	// What one device cannot take another can.
	tablet := i.device(t, "alice/tablet", client.Options{})
	if got := c.succeed(t, "replay", "alice/phone", "--rejected", "--to", "alice/tablet"); !strings.Contains(got.out, "replayed 2 from alice/phone to alice/tablet") {
		t.Errorf("printed %q", got.out)
	}
	for range 2 {
		m, err := tablet.Receive(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if !m.Replay || m.ID != "m1" && m.ID != "m2" {
			t.Errorf("the tablet got %+v", m.Envelope)
		}
		m.Ack()
	}
	if len(listed()) != 2 {
		t.Error("what was replayed is not listed any more")
	}

	// The device is not told a loss of what is dropped: it has refused it.
	gaps := make(chan wire.Gap, 4)
	if got := c.succeed(t, "inbox", "rejected", "alice/phone", "--drop", "--id", "m1", "--yes"); got.out != "removed 1 rejected of alice/phone\n" {
		t.Errorf("printed %q", got.out)
	}
	if left := listed(); len(left) != 1 || left[0]["id"] != "m2" {
		t.Errorf("listed %v", left)
	}
	if err := phone.Close(); err != nil {
		t.Fatal(err)
	}
	phone = i.device(t, "alice/phone", client.Options{OnGap: func(g wire.Gap) { gaps <- g }})
	c.succeed(t, "send", "alice/phone", `3`, "--id", "m3")
	if m, err = phone.Receive(t.Context()); err != nil || m.ID != "m3" {
		t.Errorf("got %+v, %v", m, err)
	}
	select {
	case g := <-gaps:
		if g.Reason != wire.ReasonTooLarge { // it is told again, since nothing behind it was acknowledged
			t.Errorf("told %+v", g)
		}
	default:
	}
	var acts []struct{ Action, Target, Detail, Result string }
	if err := json.Unmarshal([]byte(c.succeed(t, "audit", "--json").out), &acts); err != nil {
		t.Fatal(err)
	}
	purged := false
	for _, a := range acts {
		purged = purged || a.Action == "purge" && a.Target == "alice/phone" && a.Detail == "rejected, id m1" && a.Result == "done"
	}
	if !purged {
		t.Errorf("audited %v", acts)
	}
}

func TestDelayedMessagesAreListedAndCancelled(t *testing.T) {
	t.Parallel()
	i := serve(t)
	c := i.console()
	i.device(t, "alice/desktop", client.Options{})
	i.device(t, "alice/tablet", client.Options{})
	phone := i.device(t, "alice/phone", client.Options{})
	if got := c.succeed(t, "later", "ls"); got.out != "nothing waits to become due\n" {
		t.Errorf("printed %q", got.out)
	}
	soon, late := time.Now().Add(time.Hour), time.Now().Add(48*time.Hour)
	for id, at := range map[string]time.Time{"r1": late, "r2": soon} {
		e, err := client.Compose("reminder", "x", client.WithID(id), client.WithDeliverAt(at))
		if err == nil {
			_, err = phone.Send(t.Context(), e)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	var list []ops.Delayed
	if err := json.Unmarshal([]byte(c.succeed(t, "later", "ls", "alice", "--json").out), &list); err != nil {
		t.Fatal(err)
	}
	if len(list) != 4 || list[0].ID != "r2" || list[3].ID != "r1" || list[3].Due.Sub(late).Abs() > time.Second || list[0].From != "phone" {
		t.Errorf("listed %+v", list)
	}
	if shown := c.succeed(t, "later", "ls", "alice/tablet").out; strings.Count(shown, "\n") != 3 || !strings.Contains(shown, "59m") && !strings.Contains(shown, "1h") {
		t.Errorf("printed %q", shown)
	}
	c.offers(t, "r2\nr1", "later", "cancel", "alice", "r")
	if got := c.succeed(t, "later", "cancel", "alice", "r1"); got.out != "cancelled 2 of alice\n" {
		t.Errorf("printed %q", got.out)
	}
	c.run(t, "later", "cancel", "alice", "r1").refused(t, exitFailed, `"r1"`, "rccs later ls alice")
	if got := c.succeed(t, "later", "ls", "--json", "--limit", "1"); strings.Count(got.out, `"id": "r2"`) != 1 || !strings.Contains(got.err, "there are 2") {
		t.Errorf("printed %q and %q", got.out, got.err)
	}
}

// On 80 columns nothing wraps, whatever devices and senders call things.
func TestListsOfRejectedAndDelayedFit80Columns(t *testing.T) {
	t.Parallel()
	now := time.Now()
	for name, tab := range map[string]*table{
		"rejected": rejectedTable([]*ops.RejectedMessage{{
			User: "alice", Device: "macbook-pro", Seq: 4503599627, Lane: "critical", ID: "0196b7a4-6a5e-7f10", Type: "approval.request.v2",
			Timestamp: now.Format(time.RFC3339Nano), Reason: strings.Repeat("cannot parse ", 10), RejectedAt: now,
		}}, true),
		"later": laterTable([]*ops.Delayed{{
			User: "alice", Device: "macbook-pro", Lane: "critical", ID: "0196b7a4-6a5e-7f10", Type: "approval.request.v2", From: "service:billing",
			Due: now.Add(100 * time.Hour), Bytes: 1 << 20,
		}}),
	} {
		var out strings.Builder
		fitting, _ := tab.fit(80)
		if err := fitting.print(&out, 80); err != nil {
			t.Fatal(err)
		}
		for line := range strings.Lines(out.String()) {
			if utf8.RuneCountInString(strings.TrimSpace(line)) > 80 {
				t.Errorf("%s: %q", name, line)
			}
		}
		if !strings.Contains(out.String(), "0196b7a4-6a5e-7f10") || !strings.Contains(out.String(), "alice/macbook-pro") {
			t.Errorf("%s: %q", name, out.String())
		}
	}
}

// --max-delay holds for devices and for services alike.
func TestNothingIsDelayedLongerThanTheFlagSays(t *testing.T) {
	t.Parallel()
	i := serve(t, "--max-delay", "2d")
	phone := i.device(t, "alice/phone", client.Options{})
	nc := i.service(t, "billing")
	for ahead, code := range map[time.Duration]wire.Code{47 * time.Hour: "", 49 * time.Hour: wire.BadMessage} {
		at := time.Now().Add(ahead)
		e, err := client.Compose("reminder", "x", client.To("phone"), client.WithDeliverAt(at))
		if err != nil {
			t.Fatal(err)
		}
		if _, err = phone.Send(t.Context(), e); (code == "") != (err == nil) || code != "" && !errors.Is(err, code) {
			t.Errorf("%s ahead: %v, want %q", ahead, err, code)
		}
		answer, err := nc.RequestMsg(&nats.Msg{Subject: "rccs.later.alice.phone.normal.x" + string(code), Data: []byte("1"), Header: nats.Header{
			"Nats-Schedule": {"@at " + at.UTC().Format(time.RFC3339)}, "Nats-Schedule-Target": {"rccs.due.alice.phone.normal"},
		}}, testkit.Patience)
		if err != nil {
			t.Fatal(err)
		}
		if refused := strings.Contains(string(answer.Data), `"error"`); refused != (code != "") {
			t.Errorf("%s ahead a service is answered %s", ahead, answer.Data)
		}
	}
}

// service connects as a service does.
func (i *installation) service(tb testing.TB, name string) *nats.Conn {
	tb.Helper()
	file := filepath.Join(tb.TempDir(), "service.creds")
	if err := os.WriteFile(file, []byte(i.console().succeed(tb, "creds", "service", name).out), 0o600); err != nil {
		tb.Fatal(err)
	}
	nc, err := nats.Connect(i.nats, nats.UserCredentials(file), nats.Timeout(testkit.Patience))
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(nc.Close)
	return nc
}

// Whatever a service publishes that can reach nobody ends in an event, in the
// metric and in the doctor, whoever listens when it comes.
func TestWhatAServicePublishesToNobodyIsSeen(t *testing.T) {
	t.Parallel()
	i := serve(t)
	c := i.console()
	nc := i.service(t, "billing")
	heard, err := nc.SubscribeSync("rccs.event.*.*.*")
	if err != nil {
		t.Fatal(err)
	}
	for subject, want := range map[string]string{
		"rccs.inbox.user:42.phone.normal":  "rccs.event.%.phone.undeliverable badSubject",
		"rccs.inbox.alice.a%2fb.low":       "rccs.event.alice.%.undeliverable badSubject",
		"rccs.inbox.alice.server.low":      "rccs.event.alice.%.undeliverable badSubject",
		"rccs.later.alice.phone.normal.m1": "rccs.event.alice.phone.undeliverable badSchedule",
		"rccs.later.alice.ph:one.low.m2":   "rccs.event.alice.%.undeliverable badSubject",
		"rccs.later.alice.server.low.m3":   "rccs.event.alice.%.undeliverable badSubject",
		"rccs.route.nobody.all":            "rccs.event.nobody.%.undeliverable noDevice",
		"rccs.route.alice.sideways":        "rccs.event.alice.%.undeliverable badSubject",
		"rccs.topic.user:42":               "rccs.event.%.%.undeliverable badSubject",
	} {
		if err := nc.Publish(subject, []byte(`{}`)); err != nil {
			t.Fatal(err)
		}
		m, err := heard.NextMsg(testkit.Patience)
		if err != nil {
			t.Fatalf("%s: %v", subject, err)
		}
		var body struct{ Reason, Subject string }
		if err := json.Unmarshal(m.Data, &body); err != nil || body.Subject != subject || m.Subject+" "+body.Reason != want {
			t.Errorf("%s is told as %s %s, want %s", subject, m.Subject, m.Data, want)
		}
	}
	for _, want := range []string{"badSubject: 7", "badSchedule: 1", "noDevice: 1", "rccs.route.nobody.all"} {
		testkit.Eventually(t, "the doctor to say "+want, func() bool { return strings.Contains(c.run(t, "doctor").out, want) })
	}
	answer, err := http.Get(i.admin + "/metrics") //nolint:noctx // it ends with the test
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = answer.Body.Close() }()
	page, err := io.ReadAll(answer.Body)
	if err != nil {
		t.Fatal(err)
	}
	metrics := string(page)
	for _, want := range []string{`rccs_undeliverable_total{reason="badSubject"}`, `rccs_undeliverable_total{reason="badSchedule"} 1`, `rccs_undeliverable_total{reason="noDevice"} 1`} {
		if !strings.Contains(metrics, want) {
			t.Errorf("no metric %s", want)
		}
	}
}

// A device that is revoked is gone for others at once, however long it wanted
// lost connections to be held back.
func TestARevokedDeviceIsOfflineAtOnce(t *testing.T) {
	t.Parallel()
	i := serve(t)
	heard := make(chan client.Presence, 10)
	i.device(t, "alice/desktop", client.Options{OnPresence: func(p client.Presence) { heard <- p }})
	i.device(t, "alice/phone", client.Options{OfflineDelay: 5 * time.Minute})
	if p := <-heard; p.Device != "phone" || p.Status != wire.Online {
		t.Fatalf("heard %+v", p)
	}
	i.console().succeed(t, "devices", "revoke", "alice/phone")
	select {
	case p := <-heard:
		if p.Device != "phone" || p.Status != wire.Offline {
			t.Errorf("heard %+v", p)
		}
	case <-time.After(testkit.Patience):
		t.Error("it is still shown")
	}
}
