package main

import (
	"encoding/json"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/rccs-io/rccs/internal/devicetest"
	"github.com/rccs-io/rccs/internal/testkit"
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
		hostile, err = nats.Connect(i.nats, nats.UserCredentials(file), nats.CustomInboxPrefix("_RCCS"), nats.ErrorHandler(func(*nats.Conn, *nats.Subscription, error) {}))
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
	if got := c.succeed(t, "connect", "alice/phone", "--count", "1", "--timeout", "30s").out; strings.Contains(got, "forged") || !strings.Contains(got, "of the default tenant") {
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
