package main

import (
	"encoding/json"
	"errors"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/rccs-io/rccs/internal/devicetest"
	"github.com/rccs-io/rccs/internal/testkit"
	"github.com/rccs-io/rccs/subjects"
)

// A part's credential, such as that of an edge, may do all in its tenant, and
// nothing beyond: in hostile hands it hears and reads nothing of another tenant, asks
// nothing of the system, and is no operator, service or device.
func TestAPartReachesNothingBeyondItsTenant(t *testing.T) {
	t.Parallel()
	i := serve(t)
	c := i.console()
	c.succeed(t, "tenants", "add", "acme")
	file := filepath.Join(t.TempDir(), "edge.creds")
	text := c.succeed(t, "creds", "part", "edge-1", "--tenant", "acme").out
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	var hostile *nats.Conn
	testkit.Eventually(t, "the tenant is served", func() bool {
		var err error
		hostile, err = nats.Connect(i.nats, nats.UserCredentials(file), nats.CustomInboxPrefix("_RCCS"), nats.Timeout(testkit.Patience), nats.ErrorHandler(func(*nats.Conn, *nats.Subscription, error) {}))
		return err == nil
	})
	t.Cleanup(hostile.Close)
	heard, err := hostile.SubscribeSync(">")
	if err != nil {
		t.Fatal(err)
	}
	if err := hostile.FlushTimeout(testkit.Patience); err != nil {
		t.Fatal(err)
	}

	// What it publishes reaches no device of the default tenant, and it hears
	// nothing of it.
	if err := hostile.Publish("rccs.inbox.alice.phone.normal", []byte(`"forged"`)); err != nil {
		t.Fatal(err)
	}
	if err := hostile.Publish("rccs.signal.alice.phone", []byte(`"forged"`)); err != nil {
		t.Fatal(err)
	}
	c.succeed(t, "send", "alice/phone", `"of the default tenant"`)
	if got := c.succeed(t, "connect", "alice/phone", "--count", "1", "--timeout", patient).out; strings.Contains(got, "forged") || !strings.Contains(got, "of the default tenant") {
		t.Errorf("the device got %q", got)
	}
	if err := hostile.Publish("rccs.last", nil); err != nil {
		t.Fatal(err)
	}
	for {
		m, err := heard.NextMsg(testkit.Patience)
		if err != nil {
			t.Fatal(err)
		}
		if m.Subject == "rccs.last" {
			break
		}
		if strings.Contains(string(m.Data), "of the default tenant") {
			t.Errorf("it hears %s: %s", m.Subject, m.Data)
		}
	}

	// The system, and who signs.
	account := strings.Split(jwtOf(t, text), ".")[1]
	for _, subject := range []string{
		"$SYS.REQ.SERVER.PING", "$SYS.REQ.SERVER.PING.CONNZ", "$SYS.REQ.SERVER.PING.JSZ", "$SYS.REQ.ACCOUNT.PING.CONNZ", "$SYS.REQ.CLAIMS.LIST", "$SYS.REQ.CLAIMS.UPDATE",
		"$SYS.REQ.CLAIMS.DELETE", "$SYS.REQ.USER.AUTH", "$SYS.REQ.SERVER.X.RELOAD", "$JS.API.ACCOUNT.PURGE.X", "$JS.API.SERVER.REMOVE",
	} {
		m, err := hostile.Request(subject, []byte(account), 300*time.Millisecond)
		if err == nil && !strings.Contains(string(m.Data), `"error"`) && len(m.Data) > 0 {
			t.Errorf("%s is answered: %.200s", subject, m.Data)
		}
	}
	m, err := hostile.Request("$JS.API.STREAM.LIST", nil, testkit.Patience)
	if err != nil {
		t.Fatal(err)
	}
	var list struct {
		Streams []struct {
			Config struct{ Name string }
			State  struct{ Messages uint64 }
		}
	}
	if err := json.Unmarshal(m.Data, &list); err != nil || len(list.Streams) < 5 {
		t.Fatalf("%s, %v", m.Data, err)
	}
	for _, s := range list.Streams {
		if s.Config.Name == "RCCS_INBOX" && s.State.Messages != 1 { // its own forged one
			t.Errorf("its tenant's inboxes have %d messages", s.State.Messages)
		}
	}

	// It is nobody else.
	token := jwtOf(t, text)
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, i.admin+"/v1/users", nil)
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Authorization", "Bearer "+token)
	answer, err := (&http.Client{Transport: &http.Transport{DisableKeepAlives: true}}).Do(req)
	if err != nil {
		t.Fatal(err)
	}
	_ = answer.Body.Close()
	if answer.StatusCode != http.StatusUnauthorized {
		t.Errorf("over HTTP it is answered %d", answer.StatusCode)
	}
	d := devicetest.Connect(t, i.edge, devicetest.How{})
	d.SendRegister(token, "")
	if kind, frame := d.Next(); kind != "error" || !strings.Contains(frame, "AUTH_ERROR") {
		t.Errorf("as a device it is told %s", frame)
	}
}

// A part of a tenant that answers in the place of its coordinator, and deletes all
// that the tenant has, takes no other tenant down: these are listed, the process is
// ready for them, and it ends in order.
func TestAPartOfATenantTakesNoOtherTenantDown(t *testing.T) {
	t.Parallel()
	i := serve(t)
	c := i.console()
	c.succeed(t, "tenants", "add", "acme")
	c.succeed(t, "tenants", "add", "zed")
	file := filepath.Join(t.TempDir(), "edge.creds")
	if err := os.WriteFile(file, []byte(c.succeed(t, "creds", "part", "edge-1", "--tenant", "acme").out), 0o600); err != nil {
		t.Fatal(err)
	}
	served := func() (names []string) {
		var all []struct {
			Name   string
			Served bool
		}
		if err := json.Unmarshal([]byte(c.succeed(t, "tenants", "ls", "--json").out), &all); err != nil {
			t.Fatal(err)
		}
		for _, one := range all {
			if one.Served {
				names = append(names, one.Name)
			}
		}
		return names
	}
	testkit.Eventually(t, "the tenants are served", func() bool { return len(served()) == 3 })
	hostile, err := nats.Connect(i.nats, nats.UserCredentials(file), nats.CustomInboxPrefix("_RCCS"), nats.Timeout(testkit.Patience))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(hostile.Close)

	var silent []*nats.Subscription
	for range 20 { // one of a group is asked
		sub, err := hostile.QueueSubscribe(subjects.CoordinatorEndpoint("status"), "q", func(*nats.Msg) {})
		if err != nil {
			t.Fatal(err)
		}
		silent = append(silent, sub)
	}
	if err := hostile.FlushTimeout(testkit.Patience); err != nil {
		t.Fatal(err)
	}
	testkit.Eventually(t, "only the silent tenant is not known", func() bool { return slices.Equal(served(), []string{"default", "zed"}) })
	for _, sub := range silent {
		_ = sub.Unsubscribe()
	}

	js, err := jetstream.New(hostile, jetstream.WithDefaultTimeout(testkit.Patience))
	if err != nil {
		t.Fatal(err)
	}
	names := js.StreamNames(t.Context())
	var all []string
	for name := range names.Name() {
		all = append(all, name)
	}
	for _, name := range all {
		if err := js.DeleteStream(t.Context(), name); err != nil {
			t.Fatal(err)
		}
	}
	i.noted("a tenant cannot be served")
	testkit.Eventually(t, "the process is ready", func() bool {
		status, _ := ready(t, i.admin, "")
		return status == http.StatusOK
	})
	c.succeed(t, "send", "alice/phone", "1", "--tenant", "zed")
	if got := c.succeed(t, "connect", "alice/phone", "--count", "1", "--timeout", patient, "--tenant", "zed").out; !strings.Contains(got, "1") {
		t.Errorf("a device of another tenant got %q", got)
	}
	i.stop()
	if _, said, _ := strings.Cut(i.stderr(), `"msg":"stopping"`); strings.Contains(said, "still writing") || strings.Contains(said, "tenant zed") {
		t.Errorf("the others did not end in order: %s", i.stderr())
	}
}

// A tenant that does not start, since a part of it has put something in the place of
// its streams, is removed all the same: servers refuse its credentials.
func TestATenantThatCannotStartIsRemoved(t *testing.T) {
	t.Parallel()
	i := serve(t)
	c := i.console()
	c.succeed(t, "tenants", "add", "acme")
	file := filepath.Join(t.TempDir(), "edge.creds")
	if err := os.WriteFile(file, []byte(c.succeed(t, "creds", "part", "edge-1", "--tenant", "acme").out), 0o600); err != nil {
		t.Fatal(err)
	}
	connect := func(url string) (*nats.Conn, error) {
		return nats.Connect(url, nats.UserCredentials(file), nats.CustomInboxPrefix("_RCCS"), nats.Timeout(testkit.Patience))
	}
	i.noted("tenant is served")
	hostile, err := connect(i.nats)
	if err != nil {
		t.Fatal(err)
	}
	js, err := jetstream.New(hostile, jetstream.WithDefaultTimeout(testkit.Patience))
	if err != nil {
		t.Fatal(err)
	}
	if err := js.DeleteStream(t.Context(), subjects.StreamTopic); err != nil {
		t.Fatal(err)
	}
	if _, err := js.CreateStream(t.Context(), jetstream.StreamConfig{Name: "MINE", Subjects: []string{"rccs.topic.>"}}); err != nil {
		t.Fatal(err)
	}
	hostile.Close()
	i.stop()

	again := serve(t, "--data", i.data)
	again.data = i.data
	again.noted("tenant is not served, trying again")
	if hostile, err = connect(again.nats); err != nil {
		t.Fatalf("the server does not know the tenant: %v", err)
	}
	t.Cleanup(hostile.Close)
	again.console().succeed(t, "tenants", "rm", "acme", "--yes")
	if nc, err := connect(again.nats); !errors.Is(err, nats.ErrAuthorization) {
		if err == nil {
			nc.Close()
		}
		t.Errorf("a credential of a removed tenant: %v", err)
	}
}

// jwtOf is the token of a credentials file.
func jwtOf(t *testing.T, text string) string {
	t.Helper()
	for line := range strings.Lines(text) {
		if strings.HasPrefix(line, "eyJ") {
			return strings.TrimSpace(line)
		}
	}
	t.Fatalf("no token in %d bytes", len(text))
	return ""
}
