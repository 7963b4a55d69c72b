package e2e_test

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/nats-io/jwt/v2"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nkeys"

	"github.com/rccs-io/rccs/internal/natstest"
)

// A pattern with a wildcard in the place of "topic" bounds what a credential may
// do with topics, as NATS reads it: to subscribe, to publish, and to read the past.
func TestATopicPatternOfACredentialBoundsItsTopics(t *testing.T) {
	t.Parallel()
	s := use(t)
	mine, others := "safety-"+newID(), "safety-"+newID()
	for _, pattern := range []string{"rccs.*." + mine, "*.*." + mine, "rccs.topic." + mine} {
		d := connect(t, s, user(t)+"/d", object{"authToken": s.allowing(t, user(t)+"/d", pattern)})
		d.subscribe(mine, nil)
		d.wantTopic(mine, `1`, d.publishTopic(mine, 1))
		for what, payload := range map[string]object{
			"subscribe": {"topic": others}, "publish": {"topic": others, "data": 1}, "history": {"topic": others},
		} {
			d.send(object{"id": newID(), "type": what, "payload": payload})
			if f := d.wantError("PERMISSION_DENIED"); f.Message == "" {
				t.Errorf("%s: %s is refused without a reason", pattern, what)
			}
		}
		d.beat()
	}
}

// allowing is a token of a device whose permissions an operator has bounded with
// another tool, which has the tenant's key.
func (s *server) allowing(t *testing.T, name, pattern string) string {
	t.Helper()
	seed, err := os.ReadFile(filepath.Join(s.data, "keys", "default-signing.nk"))
	if err != nil {
		t.Fatal(err)
	}
	key, err := nkeys.FromSeed([]byte(strings.TrimSpace(string(seed))))
	if err != nil {
		t.Fatal(err)
	}
	claims, err := jwt.DecodeUserClaims(s.token(t, name))
	if err != nil {
		t.Fatal(err)
	}
	claims.Pub.Allow, claims.Sub.Allow = jwt.StringList{pattern}, jwt.StringList{pattern}
	token, err := claims.Encode(key)
	if err != nil {
		t.Fatal(err)
	}
	return token
}

// Whatever reply subject a device or a service names, nothing is asked of JetStream
// there, and nothing is written: the answer of a server has the server's rights.
func TestAReplySubjectAsksNothingInTheServersName(t *testing.T) {
	t.Parallel()
	s := use(t)
	u := user(t)
	s.register(t, u+"/victim")
	v := s.service(t, "asker")
	kept := v.publish(inbox(u, "victim", "normal"), `"kept"`)
	d := natstest.Dial(t, s.NATS, credsOption(t, must(t, "creds", "device", u+"/asker", "--data", s.data)),
		nats.CustomInboxPrefix("_INBOX."+token(u)+".asker"), nats.ErrorHandler(nobody))
	own := "rccs.coordinator.device." + token(u) + ".asker."
	asks := []struct {
		nc            *nats.Conn
		subject, body string
	}{
		{d, own + "fetch", `{"limit":1}`},
		{d, own + "send", `{"type":"note","id":"m","toDeviceId":"asker","payload":1}`},
		{v.nc, "rccs.coordinator.missed", fmt.Sprintf(`{"user":%q,"device":"victim"}`, u)},
		{v.nc, "$JS.API.STREAM.INFO.RCCS_UP", ""},
		{v.nc, "$JS.API.CONSUMER.LIST.RCCS_UP", ""},
		{v.nc, "$SRV.INFO", ""},
		{v.nc, inbox(u, "asker", "normal"), `1`},
		{v.nc, "rccs.rpc." + token(u) + ".victim.m", `1`},
	}
	replies := []string{
		"$JS.API.STREAM.PURGE.RCCS_INBOX", "$JS.API.STREAM.DELETE.RCCS_INBOX", "$JS.API.STREAM.MSG.DELETE.RCCS_INBOX",
		"$JS.API.CONSUMER.CREATE.RCCS_INBOX", "$JS.API.CONSUMER.MSG.NEXT.RCCS_INBOX.x", "$JS.ACK.RCCS_INBOX.x.1.1.1.1.1",
		inbox(u, "victim", "normal"), "rccs.signal." + token(u) + ".victim", "rccs.route." + token(u) + ".all",
		"rccs.coordinator.forget", "rccs.coordinator.part.forget", "$SYS.REQ.SERVER.PING", "_R_.x.y", "_GR_.x.y.z",
		"$KV.RCCS_DEVICES.x", "_INBOX." + token(u) + ".victim.x",
	}
	for _, ask := range asks {
		for _, reply := range replies {
			if err := ask.nc.PublishRequest(ask.subject, reply, []byte(ask.body)); err != nil {
				t.Fatal(err)
			}
		}
	}
	// Both were heard out, and are still served.
	for _, ask := range asks[2:4] {
		if m, err := ask.nc.Request(ask.subject, []byte(ask.body), patience); err != nil || !json.Valid(m.Data) {
			t.Errorf("%s is answered with %v, %v", ask.subject, m, err)
		}
	}
	if m, err := d.Request(own+"fetch", []byte(`{"limit":1}`), patience); err != nil || m.Header.Get("Nats-Service-Error") != "" {
		t.Errorf("the device is answered with %v, %v", m, err)
	}
	victim := connect(t, s, u+"/victim", nil)
	if victim.session.Pending != 1 {
		t.Errorf("%d messages wait for the other device, want one", victim.session.Pending)
	}
	if e := victim.message(); e.Seq != kept || string(e.Payload) != `"kept"` {
		t.Errorf("the other device got %s", e.raw)
	}
	victim.ack(kept)
	victim.beat()
	victim.silent(quiet)
}
