package e2e_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/rccs-io/rccs/internal/natstest"
)

// revoke runs a command of `rccs revoke` against the server.
func (s *server) revoke(t *testing.T, args ...string) {
	t.Helper()
	must(t, append(append([]string{"revoke"}, args...), "--data", s.data, "--server", s.NATS)...)
}

// refuses tries to register with a token that must be revoked.
func (s *server) refuses(t *testing.T, token string) {
	t.Helper()
	d := greeted(t, s, dialing{})
	d.send(object{"id": "r", "type": "device_register", "payload": object{"authToken": token}})
	d.wantError("DEVICE_REVOKED")
	d.wantClose(4003)
}

// dropped connects with a credential, and is closed when the connection is.
func dropped(t *testing.T, s *server, creds string) chan struct{} {
	t.Helper()
	closed := make(chan struct{})
	nc := natstest.Dial(t, s.NATS, credsOption(t, creds), nats.NoReconnect(), nats.ErrorHandler(nobody))
	nc.SetClosedHandler(func(*nats.Conn) { close(closed) })
	return closed
}

func TestRevokingAUserEndsAllItsDevices(t *testing.T) {
	t.Parallel()
	s := start(t)
	other := s.edge(t, "other")
	u := user(t)
	unused := s.token(t, u+"/unseen")
	phone, desk := connect(t, s, u+"/phone", nil), connect(t, other, u+"/desk", nil)
	neighbour := connect(t, other, user(t)+"x/phone", nil)
	plain := dropped(t, s, must(t, "creds", "device", u+"/phone", "--data", s.data))
	asleep := must(t, "creds", "device", u+"/asleep", "--data", s.data) // a key that no server has seen
	s.revoke(t, "user", u)
	for _, d := range []*device{phone, desk} {
		d.wantError("DEVICE_REVOKED")
		d.wantClose(4003)
	}
	select {
	case <-plain:
	case <-time.After(patience):
		t.Error("the connection to NATS stands")
	}
	s.refuses(t, unused)
	other.refuses(t, unused)
	s.keepsOut(t, "a credential that was never used", credsOption(t, asleep))
	neighbour.beat()
	var list []struct{ Kind, Name string }
	if err := json.Unmarshal([]byte(must(t, "revoke", "ls", "--json", "--data", s.data)), &list); err != nil || len(list) != 1 || list[0].Kind != "user" || list[0].Name != u {
		t.Errorf("listed %+v, %v", list, err)
	}
	fresh := s.token(t, u+"/phone")
	connect(t, other, u+"/phone", object{"authToken": fresh}).beat()
	s.restart(t)
	s.refuses(t, unused)
	s.revoke(t, "undo", "user", u)
	eventually(t, func() error {
		_, err := newGate(s).link(unused)
		return err
	})
}

func TestRevokingAServiceEndsIt(t *testing.T) {
	t.Parallel()
	s := start(t)
	creds := must(t, "creds", "service", "billing", "--data", s.data)
	other := s.service(t, "backend")
	gone := dropped(t, s, creds)
	s.revoke(t, "service", "billing")
	select {
	case <-gone:
	case <-time.After(patience):
		t.Error("its connection stands")
	}
	s.keepsOut(t, "it", credsOption(t, creds))
	other.publish("rccs.inbox.someone.phone.normal", "1")
}

// The parts of RCCS go on: they issue themselves what they need.
func TestRevokingAllEndsWhatIsOlder(t *testing.T) {
	t.Parallel()
	s := start(t)
	other := s.edge(t, "other")
	u := user(t)
	old := s.token(t, u+"/phone")
	phone := connect(t, other, u+"/phone", object{"authToken": old})
	service := dropped(t, s, must(t, "creds", "service", "billing", "--data", s.data))
	s.revoke(t, "all", "--yes")
	phone.wantError("DEVICE_REVOKED")
	phone.wantClose(4003)
	select {
	case <-service:
	case <-time.After(patience):
		t.Error("the connection of a service stands")
	}
	fresh := s.token(t, u+"/phone")
	eventually(t, func() error {
		l, err := newGate(other).link(fresh)
		if err == nil {
			err = l.ws.Close()
		}
		return err
	})
	s.refuses(t, old)
	desk := connect(t, s, u+"/desk", nil)
	desk.tell("phone", "after", nil)
	again := connect(t, other, u+"/phone", object{"authToken": fresh})
	again.wantMessage(`"after"`)
	if r := rccs(t, "", "revoke", "all", "--before", "tomorrow", "--data", s.data); r.status != 2 || !strings.Contains(r.stderr, "2026") {
		t.Errorf("status %d: %s", r.status, r.stderr)
	}
}

// What a service has delayed does not come once the service is revoked, and the
// other services are told. What others have delayed comes, and so does what the
// service delays with a credential made later.
func TestWhatARevokedServiceHasDelayedDoesNotCome(t *testing.T) {
	t.Parallel()
	s := start(t)
	u := user(t)
	d := connect(t, s, u+"/phone", nil)
	events := s.service(t, "watch")
	gone, err := events.nc.SubscribeSync("rccs.event." + token(u) + ".*.undeliverable")
	if err != nil {
		t.Fatal(err)
	}
	if err := events.nc.FlushTimeout(patience); err != nil {
		t.Fatal(err)
	}
	delay := func(v *service, id string, in time.Duration) {
		t.Helper()
		_, err := v.try("rccs.later."+token(u)+".phone.normal."+id, `"`+id+`"`, "Rccs-Id", id,
			"Nats-Schedule", "@at "+time.Now().Add(in).UTC().Format(time.RFC3339Nano), "Nats-Schedule-Target", "rccs.due."+token(u)+".phone.normal",
			"Rccs-Issued-To", "UAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA")
		if err != nil {
			t.Fatalf("%s: %v", id, err)
		}
	}
	bad, good := s.service(t, "bad"), s.service(t, "good")
	for i := range 20 {
		delay(bad, fmt.Sprint("bad", i), time.Hour+time.Duration(i)*time.Second)
	}
	delay(good, "good", time.Hour)
	s.revoke(t, "service", "bad")
	for range 20 {
		m, err := gone.NextMsg(patience)
		if err != nil {
			t.Fatalf("not told of what was delayed: %v", err)
		}
		if !strings.Contains(string(m.Data), `"reason":"badSchedule"`) || !strings.Contains(string(m.Data), `"id":"bad`) {
			t.Errorf("told %s", m.Data)
		}
	}
	eventually(t, func() error { // a message is removed after its end is told
		left := must(t, "later", "ls", u, "--json", "--data", s.data, "--server", s.NATS)
		if !strings.Contains(left, `"good"`) {
			t.Fatalf("left: %s", left)
		}
		if strings.Contains(left, `"bad`) {
			return errors.New(left)
		}
		return nil
	})
	delay(s.service(t, "bad"), "again", time.Second)
	if e := d.message(); e.ID != "again" {
		t.Errorf("it got %s", e.ID)
	}
}
