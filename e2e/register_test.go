package e2e_test

import (
	"encoding/base64"
	"encoding/json"
	"maps"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nkeys"
)

// challenge is what the edge greets with.
type challenge struct {
	Challenge  string `json:"challenge"`
	Nonce      string `json:"nonce"`
	ServerTime string `json:"serverTime"`
}

// recipient is one of `accepted`.
type recipient struct {
	DeviceID string `json:"deviceId"`
	Seq      uint64 `json:"seq"`
}

// answer is the payload of an ack.
type answer struct {
	Status            string      `json:"status"`
	OriginalMessageID string      `json:"originalMessageId"`
	Recipients        []recipient `json:"recipients"`
	Duplicate         bool        `json:"duplicate"`

	SessionID           string `json:"sessionId"`
	DeviceID            string `json:"deviceId"`
	UserID              string `json:"userId"`
	ServerTime          string `json:"serverTime"`
	Resumed             bool   `json:"resumed"`
	ExpiresAt           string `json:"expiresAt"`
	Pending             int    `json:"pending"`
	HeartbeatIntervalMs int    `json:"heartbeatIntervalMs"`
	MaxMessageBytes     int    `json:"maxMessageBytes"`
	Window              int    `json:"window"`
}

// failure is the payload of an error.
type failure struct {
	Code              string `json:"code"`
	Message           string `json:"message"`
	OriginalMessageID string `json:"originalMessageId"`
	RetryAfterMs      int    `json:"retryAfterMs"`
}

// credentials of a device that has to sign.
type credentials struct {
	jwt string
	key nkeys.KeyPair
}

// signing makes a credential whose JWT is not a bearer token.
func (s *server) signing(t testing.TB, name string) credentials {
	t.Helper()
	file := []byte(must(t, "creds", "device", name, "--data", s.data))
	return parseCredentials(t, file)
}

func parseCredentials(t testing.TB, file []byte) credentials {
	t.Helper()
	jwt, err := nkeys.ParseDecoratedJWT(file)
	if err != nil {
		t.Fatal(err)
	}
	key, err := nkeys.ParseDecoratedUserNKey(file)
	if err != nil {
		t.Fatal(err)
	}
	return credentials{jwt: jwt, key: key}
}

// sign answers a nonce.
func (c credentials) sign(t testing.TB, nonce string) string {
	t.Helper()
	sig, err := c.key.Sign([]byte(nonce))
	if err != nil {
		t.Fatal(err)
	}
	return base64.RawURLEncoding.EncodeToString(sig)
}

// greeted dials and reads the challenge.
func greeted(t testing.TB, s *server, how dialing) *device {
	t.Helper()
	d := dial(t, s, how)
	d.greet()
	return d
}

func (d *device) greet() {
	d.t.Helper()
	e := d.next()
	if e.Type != "device_register" {
		d.t.Fatalf("want the challenge, got %s", e.raw)
	}
	decode(d.t, e.Payload, &d.challenge)
}

// register sends a registration and returns its answer.
func (d *device) register(payload object) answer {
	d.t.Helper()
	d.send(object{"id": newID(), "type": "device_register", "payload": payload})
	return d.registered(d.pick(false))
}

// turnedAway tells that a registration was refused because the store did not answer
// in time, as on a machine that stalls: the device connects anew.
func turnedAway(e envelope) bool {
	var f failure
	return e.Type == "error" && json.Unmarshal(e.Payload, &f) == nil && f.Code == "UNAVAILABLE"
}

// registered reads the answer to a registration.
func (d *device) registered(e envelope) answer {
	d.t.Helper()
	d.session = d.acknowledgement(e)
	if d.session.Status != "success" {
		d.t.Fatalf("registration answered with %+v", d.session)
	}
	return d.session
}

// seldom is the longest heartbeat. A device that the test does not read from answers
// no ping, and on a starved machine that may last longer than the usual heartbeat
// allows.
const seldom = 300_000

// connect is a device that registered with a bearer token. extra goes into the
// registration, over what is there.
func connect(t testing.TB, s *server, name string, extra object) *device {
	t.Helper()
	return connectBy(t, s, name, dialing{}, extra)
}

func connectBy(t testing.TB, s *server, name string, how dialing, extra object) *device {
	t.Helper()
	_, id, _ := strings.Cut(name, "/")
	payload := object{"id": id, "type": "desktop", "authToken": s.token(t, name), "heartbeatMs": seldom}
	maps.Copy(payload, extra)
	return registering(t, s, name, how, func(*device) object { return payload })
}

// registering is a device that registered with a payload, which may depend on what it
// was greeted with.
func registering(t testing.TB, s *server, name string, how dialing, payload func(*device) object) *device {
	t.Helper()
	for began := time.Now(); ; {
		d := greeted(t, s, how)
		d.name = name
		d.send(object{"id": newID(), "type": "device_register", "payload": payload(d)})
		if e := d.pick(false); !turnedAway(e) || time.Since(began) > patience {
			d.registered(e)
			return d
		}
	}
}

// wantAck reads the next answer, which must be an ack.
func (d *device) wantAck() answer {
	d.t.Helper()
	return d.acknowledgement(d.pick(false))
}

func (d *device) acknowledgement(e envelope) answer {
	d.t.Helper()
	if e.Type != "ack" {
		d.t.Fatalf("%s: want an ack, got %s", d.name, e.raw)
	}
	var a answer
	decode(d.t, e.Payload, &a)
	return a
}

// wantError reads the next answer, which must be an error with a code.
func (d *device) wantError(code string) failure {
	d.t.Helper()
	e := d.pick(false)
	if e.Type != "error" {
		d.t.Fatalf("%s: want error %s, got %.2000s", d.name, code, e.raw)
	}
	var f failure
	decode(d.t, e.Payload, &f)
	if f.Code != code {
		d.t.Fatalf("%s: want error %s, got %s", d.name, code, e.raw)
	}
	if f.Message == "" {
		d.t.Errorf("%s: error %s explains nothing", d.name, code)
	}
	return f
}

// beat shows that the connection works, and that no other answer was under way.
func (d *device) beat() {
	d.t.Helper()
	id := newID()
	d.send(object{"id": id, "type": "heartbeat", "payload": object{}})
	if a := d.wantAck(); a.OriginalMessageID != id {
		d.t.Fatalf("%s: heartbeat %s answered for %q", d.name, id, a.OriginalMessageID)
	}
}

// give sends a message with requiresAck and returns once it is accepted.
func (d *device) give(to string, payload any, extra object) answer {
	d.t.Helper()
	e := object{"id": newID(), "type": "note", "toDeviceId": to, "payload": payload, "requiresAck": true}
	maps.Copy(e, extra)
	d.send(e)
	return d.wantAccepted(e["id"].(string), to)
}

// tell sends a message of which nobody wants to hear again.
func (d *device) tell(to string, payload any, extra object) {
	d.t.Helper()
	e := object{"id": newID(), "type": "note", "toDeviceId": to, "payload": payload}
	maps.Copy(e, extra)
	d.send(e)
}

// wantAccepted reads the answer to a message for one device.
func (d *device) wantAccepted(id, to string) answer {
	d.t.Helper()
	a := d.wantAck()
	if a.Status != "accepted" || a.OriginalMessageID != id {
		d.t.Fatalf("%s: message %s answered with %+v", d.name, id, a)
	}
	if len(a.Recipients) != 1 || a.Recipients[0].DeviceID != to || a.Recipients[0].Seq == 0 {
		d.t.Fatalf("%s: message %s has recipients %+v, want %s with a seq", d.name, id, a.Recipients, to)
	}
	return a
}

// register makes a device known, so that others can send to it.
func (s *server) register(t testing.TB, name string) {
	t.Helper()
	d := connect(t, s, name, nil)
	d.leave()
}

// caughtUp returns when what was stored before has been read back by the
// server, which follows the store by a moment: the stream is read in its order.
func (s *server) caughtUp(t testing.TB, u string) {
	t.Helper()
	witness := connect(t, s, u+"/witness", nil)
	witness.give("witness", 1, nil)
	witness.ack(witness.message().Seq)
	witness.leave()
}

// leave ends the session in the orderly way.
func (d *device) leave() {
	d.t.Helper()
	d.send(object{"id": newID(), "type": "device_unregister", "payload": object{}})
	d.wantAck()
	d.wantClose(1000)
	d.close()
}

func decode(t testing.TB, data []byte, v any) {
	t.Helper()
	if err := json.Unmarshal(data, v); err != nil {
		t.Fatalf("%v in %s", err, data)
	}
}
