package e2e_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"testing"

	"github.com/nats-io/nats.go"
)

type request struct {
	Method    string          `json:"method"`
	Params    json.RawMessage `json:"params"`
	TimeoutMs int             `json:"timeoutMs"`
}

func (d *device) ask(to, id, method string, extra object) {
	d.t.Helper()
	payload := object{"method": method, "params": object{"n": 1}}
	maps.Copy(payload, extra)
	d.send(object{"id": id, "type": "request", "toDeviceId": to, "payload": payload})
}

// asked is the next request.
func (d *device) asked() (envelope, request) {
	d.t.Helper()
	e := d.pick(false)
	if e.Type != "request" {
		d.t.Fatalf("%s: want a request, got %s", d.name, e.raw)
	}
	var r request
	decode(d.t, e.Payload, &r)
	return e, r
}

func (d *device) reply(id string, payload any, partial bool) {
	d.t.Helper()
	e := object{"id": newID(), "type": "response", "correlationId": id, "payload": payload}
	if partial {
		e["partial"] = true
	}
	d.send(e)
}

func (d *device) wantResponse(id string) envelope {
	d.t.Helper()
	e := d.pick(false)
	if e.Type != "response" || e.CorrelationID != id {
		d.t.Fatalf("%s: want the response to %s, got %s", d.name, id, e.raw)
	}
	return e
}

func TestProtocol_7_RequestAndResponse(t *testing.T) {
	t.Parallel()
	s, u := serverAndUser(t)
	a, b := connect(t, s, u+"/a", nil), connect(t, s, u+"/b", nil)
	a.ask("b", "q", "open file.x", nil)
	e, r := b.asked()
	if e.ID != "q" || e.FromDeviceID != "a" || e.Seq != 0 || r.Method != "open file.x" || string(r.Params) != `{"n":1}` {
		t.Errorf("asked %s", e.raw)
	}
	const payload = `{"result":{"ok": [1, 2.50]}}`
	b.sendText(`{"id":"r","type":"response","correlationId":"q","payload":` + payload + `}`)
	if e := a.wantResponse("q"); string(e.Payload) != payload || e.FromDeviceID != "b" || e.Partial {
		t.Errorf("response %s", e.raw)
	}
	a.ask("b", "q2", "m", nil)
	b.asked()
	b.reply("q2", object{"error": object{"code": "NO", "message": "not today"}}, false)
	var p struct {
		Error struct{ Code, Message string }
	}
	decode(t, a.wantResponse("q2").Payload, &p)
	if p.Error.Code != "NO" || p.Error.Message != "not today" {
		t.Errorf("error %+v", p)
	}
	b.reply("q2", object{"result": 1}, false) // answered already
	b.wantError("BAD_MESSAGE")
	a.beat()
}

func TestProtocol_7_ResponseInParts(t *testing.T) {
	t.Parallel()
	s, u := serverAndUser(t)
	a, b := connect(t, s, u+"/a", nil), connect(t, s, u+"/b", nil)
	a.ask("b", "q", "stream", nil)
	b.asked()
	const parts = 200
	for i := range parts {
		b.reply("q", object{"result": i}, i < parts-1)
	}
	for i := range parts {
		e := a.wantResponse("q")
		if string(e.Payload) != fmt.Sprintf(`{"result":%d}`, i) || e.Partial != (i < parts-1) {
			t.Fatalf("part %d is %s", i, e.raw)
		}
	}
}

func TestProtocol_7_OfflineAndTimeoutAreTold(t *testing.T) {
	t.Parallel()
	s, u := serverAndUser(t)
	a, b := connect(t, s, u+"/a", nil), connect(t, s, u+"/b", nil)
	s.register(t, u+"/away")
	a.ask("away", "off", "m", nil)
	if f := a.wantError("DEVICE_OFFLINE"); f.OriginalMessageID != "off" {
		t.Errorf("about %q", f.OriginalMessageID)
	}
	a.ask("b", "slow", "m", object{"timeoutMs": 200})
	e, r := b.asked()
	if r.TimeoutMs != 200 {
		t.Errorf("asked %s", e.raw)
	}
	if f := a.wantError("TIMEOUT"); f.OriginalMessageID != "slow" {
		t.Errorf("about %q", f.OriginalMessageID)
	}
	b.wantCancel("slow")
	a.ask("b", "cut", "m", nil)
	b.asked()
	b.close()
	if f := a.wantError("DEVICE_OFFLINE"); f.OriginalMessageID != "cut" {
		t.Errorf("about %q", f.OriginalMessageID)
	}
	a.beat()
}

// wantCancel is the word that nobody waits for a response any more.
func (d *device) wantCancel(id string) {
	d.t.Helper()
	e := d.pick(false)
	var p struct{ Cancel string }
	decode(d.t, e.Payload, &p)
	if e.Type != "ack" || p.Cancel != id {
		d.t.Fatalf("%s: want the cancellation of %s, got %s", d.name, id, e.raw)
	}
}

func TestProtocol_7_CancelAndGoingAway(t *testing.T) {
	t.Parallel()
	s, u := serverAndUser(t)
	a, b := connect(t, s, u+"/a", nil), connect(t, s, u+"/b", nil)
	a.ask("b", "q", "m", nil)
	b.asked()
	a.acknowledge(object{"cancel": "q"})
	b.wantCancel("q")
	b.reply("q", object{"result": 1}, false)
	b.wantError("BAD_MESSAGE")
	a.beat() // and no response
	a.ask("b", "q2", "m", nil)
	b.asked()
	a.close()
	b.wantCancel("q2")
}

func TestProtocol_7_ServicesAskDevices(t *testing.T) {
	t.Parallel()
	s, u := serverAndUser(t)
	v := s.service(t, "asker")
	b := connect(t, s, u+"/b", nil)
	subject := "rccs.rpc." + token(u) + ".b.read%20all"
	inbox := nats.NewInbox()
	sub, err := v.nc.SubscribeSync(inbox)
	if err != nil {
		t.Fatal(err)
	}
	for i, c := range []struct {
		payload any
		partial bool
		body    string
		code    string
	}{
		{object{"result": object{"a": 1}}, false, `{"a":1}`, ""},
		{object{"error": object{"code": "E7", "message": "no"}}, false, "", "E7"},
		{object{"result": "part"}, true, `"part"`, ""},
	} {
		if err := v.nc.PublishRequest(subject, inbox, []byte(`[1,2]`)); err != nil {
			t.Fatal(err)
		}
		e, r := b.asked()
		if r.Method != "read all" || string(r.Params) != `[1,2]` || e.ID == "" {
			t.Fatalf("asked %s", e.raw)
		}
		b.reply(e.ID, c.payload, c.partial)
		m, err := sub.NextMsg(patience)
		if err != nil {
			t.Fatal(err)
		}
		if string(m.Data) != c.body || m.Header.Get("Nats-Service-Error-Code") != c.code || (m.Header.Get("Rccs-Partial") == "true") != c.partial {
			t.Errorf("case %d: answered %q %v", i, m.Data, m.Header)
		}
	}
	b.leave()
	for { // NATS may hear a moment later that nobody listens
		m, err := v.nc.Request(subject, nil, patience)
		if errors.Is(err, nats.ErrNoResponders) {
			break
		}
		if err != nil || m.Header.Get("Rccs-Error") != "DEVICE_OFFLINE" || m.Header.Get("Nats-Service-Error-Code") != "503" {
			t.Fatalf("with the device away: %+v %v, want no responders", m, err)
		}
	}
}

func TestProtocol_2_EphemeralReachesThoseConnectedNow(t *testing.T) {
	t.Parallel()
	s := use(t)
	u, all := household(t, s)
	s.register(t, u+"/away")
	send := func(e object) answer {
		t.Helper()
		e["id"], e["ephemeral"], e["requiresAck"] = newID(), true, true
		all["phone"].send(e)
		return all["phone"].wantAck()
	}
	if a := send(object{"type": "user_message", "payload": 7}); len(a.Recipients) != 3 {
		t.Errorf("answered with %+v", a)
	}
	for _, name := range []string{"desktop", "editor", "watch"} {
		if e := all[name].pick(false); string(e.Payload) != "7" || e.Seq != 0 || e.FromDeviceID != "phone" || e.Type != "user_message" {
			t.Errorf("%s got %s", name, e.raw)
		}
	}
	if a := send(object{"type": "note", "toDeviceId": "away", "payload": 8}); a.Status != "accepted" || len(a.Recipients) != 0 {
		t.Errorf("answered with %+v", a)
	}
	away := connect(t, s, u+"/away", nil)
	if away.session.Pending != 0 {
		t.Errorf("stored: %+v", away.session)
	}
	away.silent(quiet)
	all["phone"].beat()
	if len(all["phone"].outcomes) > 0 {
		t.Error("an outcome was told")
	}
}

func TestProtocol_9_SignalsOfServicesAndOnPlainNATS(t *testing.T) {
	t.Parallel()
	s, u := serverAndUser(t)
	v := s.service(t, "signaller")
	d := connect(t, s, u+"/d", nil)
	if err := v.nc.Publish("rccs.signal."+token(u)+".d", []byte(`{"typing":true}`)); err != nil {
		t.Fatal(err)
	}
	if e := d.pick(false); string(e.Payload) != `{"typing":true}` || e.Type != "notification" || e.Seq != 0 {
		t.Errorf("got %s", e.raw)
	}
	plain := s.serviceBy(t, must(t, "creds", "device", u+"/plain", "--data", s.data), nats.CustomInboxPrefix("_INBOX."+token(u)+".plain"))
	sub, err := plain.nc.SubscribeSync("rccs.signal." + token(u) + ".plain")
	if err != nil {
		t.Fatal(err)
	}
	if err := plain.nc.FlushTimeout(patience); err != nil {
		t.Fatal(err)
	}
	s.register(t, u+"/plain")
	d.send(object{"id": "e", "type": "note", "toDeviceId": "plain", "payload": 9, "ephemeral": true})
	m, err := sub.NextMsg(patience)
	if err != nil || string(m.Data) != "9" {
		t.Errorf("got %v (%v)", m, err)
	}
}

func TestProtocol_9_DevicesReachServices(t *testing.T) {
	t.Parallel()
	s, u := serverAndUser(t)
	v := s.service(t, "listener")
	sub, err := v.nc.SubscribeSync("rccs.up." + token(u) + ".>")
	if err != nil {
		t.Fatal(err)
	}
	if err := v.nc.FlushTimeout(patience); err != nil {
		t.Fatal(err)
	}
	d := connect(t, s, u+"/d.1", nil)
	d.send(object{"id": "m", "type": "usage.report", "to": object{"service": true}, "payload": object{"n": 1}, "requiresAck": true, "correlationId": "c"})
	if a := d.wantAck(); a.Status != "accepted" || a.OriginalMessageID != "m" || len(a.Recipients) != 0 {
		t.Errorf("answered with %+v", a)
	}
	m, err := sub.NextMsg(patience)
	if err != nil {
		t.Fatal(err)
	}
	if want := "rccs.up." + token(u) + ".d%2E1.usage%2Ereport"; m.Subject != want || string(m.Data) != `{"n":1}` {
		t.Errorf("got %s %s, want %s", m.Subject, m.Data, want)
	}
	if h := m.Header; h.Get("Rccs-Id") != "m" || h.Get("Rccs-From") != "d.1" || h.Get("Rccs-Correlation") != "c" {
		t.Errorf("headers %v", h)
	}
}
