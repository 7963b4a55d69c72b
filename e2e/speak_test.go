package e2e_test

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	envelopes "github.com/rccs-io/rccs/internal/envelope"
	"github.com/rccs-io/rccs/internal/layout"
	"github.com/rccs-io/rccs/internal/proof"
	"github.com/rccs-io/rccs/subjects"
	"github.com/rccs-io/rccs/wire"
)

// forged is a tag of a key that everybody knows, which the server does not use.
func forged(purpose string, parts ...string) string { return (*proof.Key)(nil).Tag(purpose, parts...) }

func originalType(t *testing.T, e envelope) string {
	t.Helper()
	var all struct{ OriginalType string }
	if err := json.Unmarshal([]byte(e.raw), &all); err != nil {
		t.Fatal(err)
	}
	return all.OriginalType
}

// What RCCS says in its own name a service cannot say, whatever its headers and
// however small the frames that the device takes.
func TestAServiceCannotSpeakForRCCS(t *testing.T) {
	t.Parallel()
	for name, registration := range frames() {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			triesToSpeakForRCCS(t, registration)
		})
	}
}

// frames are registrations of devices that take any frame, and small ones only.
func frames() map[string]object {
	return map[string]object{"any frame": nil, "small frames": {"maxFrameBytes": 1024}}
}

func triesToSpeakForRCCS(t *testing.T, registration object) {
	t.Helper()
	s, u := serverAndUser(t)
	phone := connect(t, s, u+"/phone", registration)
	v := s.service(t, "billing")
	body := `{"originalMessageId":"m1","status":"delivered","deviceId":"desktop","seq":1}`
	types := []string{
		"ack", "error", "gap", "presence", "topic", "device_register", "request", "response", "heartbeat", "device_list", "subscribe",
	}
	key := token(u) + ".phone"
	for i, typ := range types {
		id := fmt.Sprintf("forged-%d", i)
		v.publish(inbox(u, "phone", "normal"), body, "Rccs-Type", typ, "Rccs-Id", id, "Rccs-Proof", forged(proof.Server, key, id, body))
		e := phone.message()
		if e.Type != "notification" || originalType(t, e) != typ || e.FromDeviceID != "service:nats" {
			t.Errorf("a stored %s of a service came as %s", typ, e.raw)
		}
		phone.ack(e.Seq)
		m := nats.NewMsg("rccs.signal." + key)
		m.Header["Rccs-Type"], m.Data = []string{typ}, []byte(body)
		if err := v.nc.PublishMsg(m); err != nil {
			t.Fatal(err)
		}
		if e := phone.pick(false); e.Type != "notification" || originalType(t, e) != typ || e.FromDeviceID != "service:nats" {
			t.Errorf("a signal %s of a service came as %s", typ, e.raw)
		}
	}
	for _, from := range []string{"server", "service:other"} {
		v.publish(inbox(u, "phone", "normal"), `1`, "Rccs-From", from)
		e := phone.message()
		if e.FromDeviceID != "service:nats" {
			t.Errorf("a service that says it is %s came as %s", from, e.raw)
		}
		phone.ack(e.Seq)
	}
	if len(phone.outcomes) > 0 {
		t.Error("an outcome was taken for one of RCCS")
	}
}

// A service that publishes under the id that a device's message would have does
// not swallow it.
func TestAServiceCannotSwallowADevicesMessage(t *testing.T) {
	t.Parallel()
	s, u := serverAndUser(t)
	phone, desktop := connect(t, s, u+"/phone", nil), connect(t, s, u+"/desktop", nil)
	v := s.service(t, "billing")
	from := token(u) + ".phone"
	for _, id := range []string{from + "/m1", "m1", forged(proof.Inbox, from, "m1")} {
		v.publish(inbox(u, "other", "normal"), `0`, "Nats-Msg-Id", id)
	}
	phone.send(object{"id": "m1", "type": "user_message", "toDeviceId": "desktop", "payload": 1, "requiresAck": true})
	if a := phone.wantAck(); a.Duplicate || len(a.Recipients) != 1 {
		t.Fatalf("answered with %+v", a)
	}
	e := desktop.message()
	if e.ID != "m1" || e.FromDeviceID != "phone" {
		t.Fatalf("the desktop got %s", e.raw)
	}
	desktop.ack(e.Seq)
	phone.wantOutcome("m1", "delivered", "desktop")
}

// A service that names a device as the sender does not have that device told an
// outcome: it is an event, as of any message of a service.
func TestAServiceHasNoDeviceToldAnOutcome(t *testing.T) {
	t.Parallel()
	for name, registration := range frames() {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			triesToHaveADeviceTold(t, registration)
		})
	}
}

func triesToHaveADeviceTold(t *testing.T, registration object) {
	t.Helper()
	s, u := serverAndUser(t)
	phone, desktop := connect(t, s, u+"/phone", nil), connect(t, s, u+"/desktop", registration)
	v := s.service(t, "billing")
	v.publish(inbox(u, "desktop", "normal"), `0`, "Rccs-From", "phone", "Rccs-Id", "m1", "Rccs-Ack", "true",
		"Rccs-Proof", forged(proof.Sender, token(u), "phone", "m1"))
	events, err := v.nc.SubscribeSync("rccs.event." + token(u) + ".desktop.delivered")
	if err != nil {
		t.Fatal(err)
	}
	if err := v.nc.FlushTimeout(patience); err != nil {
		t.Fatal(err)
	}
	desktop.ack(desktop.message().Seq)
	if _, err := events.NextMsg(patience); err != nil {
		t.Fatalf("the service hears no event: %v", err)
	}
	phone.beat()
	if len(phone.outcomes) > 0 {
		t.Error("the phone heard an outcome of what it did not send")
	}
}

// On topics a service is a service, whoever it says it is; a device is itself.
func TestOnTopicsNobodyIsTakenForAnother(t *testing.T) {
	t.Parallel()
	s, u := serverAndUser(t)
	phone := connect(t, s, u+"/phone", nil)
	topic := "speak." + newID()
	phone.subscribe(topic, nil)
	phone.publishTopic(topic, 1)
	if e := phone.onTopic(); e.FromDeviceID != "phone" || e.UserID != u {
		t.Errorf("a device's message came as %s", e.raw)
	}
	v := s.service(t, "billing")
	if _, err := v.try("rccs.topic."+topic, `2`, "Rccs-From", "phone", "Rccs-User", u, "Rccs-Id", "x",
		"Rccs-Proof", forged(proof.Said, "rccs.topic."+topic, u, "phone", "x", `2`)); err != nil {
		t.Fatal(err)
	}
	if e := phone.onTopic(); e.FromDeviceID != "service:nats" || e.UserID != "" {
		t.Errorf("a service's message came as %s", e.raw)
	}
}

// A service hears what a device publishes, tag and all. What it publishes again, word
// for word, is dropped as a repeat while JetStream knows the id, and is a service's
// message from then on.
func TestAServiceHasNoDeviceSayATopicsMessageAgain(t *testing.T) {
	t.Parallel()
	s, u := serverAndUser(t)
	phone := connect(t, s, u+"/phone", nil)
	topic := "again." + newID()
	subject := "rccs.topic." + topic
	phone.subscribe(topic, nil)
	v := s.service(t, "billing")
	heard, err := v.nc.SubscribeSync(subject)
	if err != nil {
		t.Fatal(err)
	}
	if err := v.nc.FlushTimeout(patience); err != nil {
		t.Fatal(err)
	}
	again := func() *jetstream.PubAck {
		t.Helper()
		m, err := heard.NextMsg(patience)
		if err != nil {
			t.Fatal(err)
		}
		for name := range m.Header { // what the stream adds to what it publishes again
			if strings.HasPrefix(name, "Nats-") && name != "Nats-Msg-Id" {
				delete(m.Header, name)
			}
		}
		m.Header.Set("Rccs-Timestamp", "2026-01-01T00:00:00Z")
		ack, err := v.js.PublishMsg(t.Context(), &nats.Msg{Subject: subject, Header: m.Header, Data: m.Data})
		if err != nil {
			t.Fatal(err)
		}
		return ack
	}
	phone.publishTopic(topic, 1)
	phone.send(object{"type": "publish", "payload": object{"topic": topic, "data": 2}}) // without an id
	for n := range 2 {
		if e := phone.onTopic(); e.FromDeviceID != "phone" || e.Payload[0] != '1'+byte(n) {
			t.Fatalf("a device's message came as %s", e.raw)
		}
		if ack := again(); !ack.Duplicate {
			t.Errorf("message %d is stored again: %+v", n+1, ack)
		}
	}

	// The same of a message that an edge published a while ago.
	part := s.serviceBy(t, must(t, "creds", "part", "x", "--data", s.data))
	key, err := proof.Load(t.Context(), part.js)
	if err != nil {
		t.Fatal(err)
	}
	at := subjects.Address{User: subjects.UserID(u), Device: "phone"}
	e := wire.NewEnvelope("old", "publish", nil)
	old := envelopes.Topic(&e, envelopes.Sender{Key: at.Key(), Device: at.Device, Proof: key}, subject, []byte(`3`), time.Now().Add(-layout.DedupWindow-time.Second))
	if _, err := v.js.PublishMsg(t.Context(), old); err != nil {
		t.Fatal(err)
	}
	if e := phone.onTopic(); e.FromDeviceID != "service:nats" || e.UserID != "" || string(e.Payload) != "3" {
		t.Errorf("a message that a service published again came as %s", e.raw)
	}
}

// onTopic is the next message of a topic.
func (d *device) onTopic() envelope {
	d.t.Helper()
	if len(d.early) > 0 {
		e := d.early[0]
		d.early = d.early[1:]
		return e
	}
	for {
		e, err := d.receive()
		if err != nil {
			d.t.Fatal(err)
		}
		if e.Type == "topic" {
			return e
		}
	}
}
