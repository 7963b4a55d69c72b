package e2e_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/gorilla/websocket"
)

func TestProtocol_8_ThreeBadFramesInARowClose(t *testing.T) {
	t.Parallel()
	s := use(t)
	d := connect(t, s, user(t)+"/d", nil)
	for range 3 { // two in a row, several times, are no reason
		d.sendText("{")
		d.wantError("BAD_FRAME")
		d.sendText("nonsense")
		d.wantError("BAD_FRAME")
		d.beat()
	}
	for range 5 { // nor are bad messages
		d.send(object{"id": "x", "type": 7})
		d.wantError("BAD_MESSAGE")
	}
	d.sendText("{")
	d.wantError("BAD_FRAME")
	d.sendText("[1]")
	d.wantError("BAD_FRAME")
	d.sendText("")
	d.wantError("BAD_FRAME")
	d.wantClose(1008)
}

func TestProtocol_8_BinaryFrameIsABadFrame(t *testing.T) {
	t.Parallel()
	s := use(t)
	d := connect(t, s, user(t)+"/d", nil)
	for _, data := range []string{`{"id":"x","type":"heartbeat"}`, "", "\xff\x00"} {
		if err := d.ws.WriteMessage(websocket.BinaryMessage, []byte(data)); err != nil {
			t.Fatal(err)
		}
		d.wantError("BAD_FRAME")
		d.beat()
	}
}

// badFrames are frames of which nothing can be used.
func badFrames() map[string]string {
	return map[string]string{
		"empty":              "",
		"space":              " \n",
		"cut object":         `{"id":"x"`,
		"cut string":         `{"id":"x`,
		"cut array":          `[{"id":"x","type":"heartbeat"}`,
		"two objects":        `{"id":"x","type":"heartbeat"}{"id":"y","type":"heartbeat"}`,
		"trailing text":      `{"id":"x","type":"heartbeat"} x`,
		"trailing NUL":       "{\"id\":\"x\",\"type\":\"heartbeat\"}\x00",
		"NUL":                "\x00",
		"NUL in a string":    "{\"id\":\"a\x00b\",\"type\":\"heartbeat\"}",
		"newline in string":  "{\"id\":\"a\nb\",\"type\":\"heartbeat\"}",
		"number":             "7",
		"string":             `"heartbeat"`,
		"null":               "null",
		"true":               "true",
		"array of numbers":   "[1,2,3]",
		"array of arrays":    "[[]]",
		"trailing comma":     `{"id":"x","type":"heartbeat",}`,
		"single quotes":      `{'id':'x','type':'heartbeat'}`,
		"no quotes":          `{id:"x",type:"heartbeat"}`,
		"comment":            `{"id":"x",/* c */"type":"heartbeat"}`,
		"NaN":                `{"id":"x","type":"note","toDeviceId":"d","payload":NaN}`,
		"hex number":         `{"id":"x","type":"note","toDeviceId":"d","payload":0x10}`,
		"leading zero":       `{"id":"x","type":"note","toDeviceId":"d","payload":01}`,
		"plus":               `{"id":"x","type":"note","toDeviceId":"d","payload":+1}`,
		"bare dot":           `{"id":"x","type":"note","toDeviceId":"d","payload":1.}`,
		"bad escape":         `{"id":"x","type":"note","toDeviceId":"d","payload":"\q"}`,
		"short escape":       `{"id":"x","type":"note","toDeviceId":"d","payload":"\u12"}`,
		"byte order mark":    "\ufeff" + `{"id":"x","type":"heartbeat"}`,
		"mismatched":         `{"id":"x","type":"note","payload":[}]}`,
		"deep cut arrays":    strings.Repeat("[", 200_000),
		"deep cut objects":   strings.Repeat(`{"a":`, 150_000),
		"deep payload":       `{"id":"x","type":"note","toDeviceId":"d","payload":` + strings.Repeat("[", 200_000) + strings.Repeat("]", 200_000) + `}`,
		"deep unknown field": `{"id":"x","type":"heartbeat","y":` + strings.Repeat(`{"a":`, 100_000) + "1" + strings.Repeat("}", 100_000) + `}`,
	}
}

func TestProtocol_8_BadFramesAreToldAndTheConnectionStays(t *testing.T) {
	t.Parallel()
	s, u := serverAndUser(t)
	d, neighbour := connect(t, s, u+"/d", nil), connect(t, s, u+"/neighbour", nil)
	for name, text := range badFrames() {
		d.sendText(text)
		d.name = name
		d.wantError("BAD_FRAME")
		d.beat()
		neighbour.beat()
	}
	d.give("d", "only this", nil)
	if e := d.message(); string(e.Payload) != `"only this"` {
		t.Errorf("something of a bad frame was processed: %s", e.raw)
	}
}

// badFields are values that fields of a message must not have.
func badFields() map[string][]string {
	wrong := []string{"{}", "[]", "true", "7"}
	with := func(more ...string) []string { return append(more, wrong...) }
	huge := "1" + strings.Repeat("0", 5000)
	return map[string][]string{
		"id":            with(`""`, "null", `"\u0000"`, `"a\u000ab"`, `"`+strings.Repeat("x", 129)+`"`),
		"type":          with(`""`, "null", `"NOTE"`, `"a b"`, `"\u0000"`, `"`+strings.Repeat("x", 65)+`"`),
		"toDeviceId":    with(`"\u0000"`, `"a\u0001"`, `"`+strings.Repeat("x", 129)+`"`),
		"to":            {"7", "[]", `"d"`, "true", `{"device":7}`, `{"device":"e"}`, `{"device":"d","service":true}`, `{"mode":"some"}`, `{"device":"d","deviceType":"x"}`},
		"timestamp":     {"{}", "[]", "true", `"yesterday"`, `""`, `"2024-13-01T00:00:00Z"`, huge, "-1e400", "1.5e300"},
		"priority":      {"{}", "[]", "true", `"1"`, "-1", "4", "1.5", huge, "1e400", "-0.5", "9223372036854775808"},
		"requiresAck":   {"{}", "[]", "1", `"true"`},
		"correlationId": with(`"a\u000db"`, `"`+strings.Repeat("x", 129)+`"`, `" x"`),
		"traceparent":   with(`"\u0000"`, `"x "`),
		"ttlMs":         {"{}", `"1"`, "-1", "1.5", huge, "true"},
		"deliverAt":     {"{}", `"soon"`, "true", "[]"},
		"collapseKey":   with(`"\u007f"`, `"`+strings.Repeat("x", 129)+`"`),
		"ephemeral":     {"1", `"true"`, "{}", "[]"},
		"fromDeviceId":  wrong,
		"userId":        wrong,
	}
}

func TestProtocol_8_WrongFieldsAreToldAndTheConnectionStays(t *testing.T) {
	t.Parallel()
	s, u := serverAndUser(t)
	d, neighbour := connect(t, s, u+"/d", nil), connect(t, s, u+"/neighbour", nil)
	for field, values := range badFields() {
		for _, value := range values {
			fields := map[string]string{"id": `"m"`, "type": `"note"`, "toDeviceId": `"d"`, "payload": `"bad"`, "requiresAck": "true"}
			fields[field] = value
			d.name = fmt.Sprintf("%s: %.60s", field, value)
			d.sendText(members(fields))
			f := d.wantError("BAD_MESSAGE")
			if field != "id" && f.OriginalMessageID != "m" {
				t.Errorf("%s: the error is about %q", d.name, f.OriginalMessageID)
			}
			if !strings.Contains(f.Message, field) {
				t.Errorf("%s: the error does not name the field: %q", d.name, f.Message)
			}
		}
		d.beat()
		neighbour.beat()
	}
	for _, missing := range []string{"id", "type", "payload"} {
		fields := map[string]string{"id": `"m"`, "type": `"note"`, "toDeviceId": `"d"`, "payload": `"bad"`, "requiresAck": "true"}
		delete(fields, missing)
		d.name = missing + " missing"
		d.sendText(members(fields))
		d.wantError("BAD_MESSAGE")
	}
	d.give("d", "only this", nil)
	if e := d.message(); string(e.Payload) != `"only this"` {
		t.Errorf("a bad message was processed: %s", e.raw)
	}
}

// members is an object of fields given as JSON.
func members(fields map[string]string) string {
	var parts []string
	for name, value := range fields {
		parts = append(parts, fmt.Sprintf("%q:%s", name, value))
	}
	return "{" + strings.Join(parts, ",") + "}"
}

func TestProtocol_8_WrongAcksAreTold(t *testing.T) {
	t.Parallel()
	s := use(t)
	d := connect(t, s, user(t)+"/d", nil)
	d.give("d", 1, nil)
	seq := d.message().Seq
	for _, payload := range []string{
		`{"seq":"1"}`, `{"seq":-1}`, `{"seq":1.5}`, `{"seq":1e400}`, `{"seqs":1}`, `{"seqs":["1"]}`, `{"seqs":[1,-1]}`, `{"seqs":[[1]]}`,
		`{"upTo":"x"}`, `{"upTo":-1}`, `{"upTo":true}`, `[]`, `7`, `"x"`,
	} {
		d.name = payload
		d.sendText(`{"id":"a","type":"ack","payload":` + payload + `}`)
		d.wantError("BAD_MESSAGE")
		d.beat()
	}
	d.close()
	d = connect(t, s, d.session.UserID+"/d", nil)
	if e := d.message(); e.Seq != seq {
		t.Errorf("a wrong ack acknowledged something: %s", e.raw)
	}
}

func TestProtocol_8_WrongRegistrationFields(t *testing.T) {
	t.Parallel()
	s := use(t)
	name := user(t) + "/d"
	for field, values := range map[string][]any{
		"id": {7, true, []int{}}, "userId": {7, object{}}, "authToken": {7, object{}}, "sig": {7}, "ackMode": {7, "maybe"},
		"window": {"1", 1.5, true}, "batch": {1, "true"}, "heartbeatMs": {"1", true}, "type": {7}, "platform": {7}, "version": {7},
		"capabilities": {7, "x", []int{}},
	} {
		for _, value := range values {
			d := greeted(t, s, dialing{})
			d.name = fmt.Sprintf("%s: %v", field, value)
			payload := object{"authToken": s.token(t, name)}
			payload[field] = value
			d.send(object{"id": "reg", "type": "device_register", "payload": payload})
			d.wantError("BAD_MESSAGE")
			d.wantClose(4001)
		}
	}
}

// A key that is there twice is answered once, and one of the two counts.
func TestProtocol_8_DuplicateKeys(t *testing.T) {
	t.Parallel()
	s, u := serverAndUser(t)
	d := connect(t, s, u+"/d", nil)
	d.sendText(`{"id":"a","id":"b","type":"note","type":"note","toDeviceId":"d","payload":1,"payload":2,"requiresAck":true}`)
	switch e := d.pick(false); e.Type {
	case "ack":
		m := d.message()
		if !strings.Contains(e.raw, `"`+m.ID+`"`) {
			t.Errorf("answered with %s, delivered as %s", e.raw, m.raw)
		}
	case "error":
	default:
		t.Errorf("answered with %s", e.raw)
	}
	// Identity cannot be smuggled in behind an honest one.
	for _, pair := range []string{`"fromDeviceId":"d","fromDeviceId":"e"`, `"fromDeviceId":"e","fromDeviceId":"d"`} {
		id := newID()
		d.sendText(`{"id":"` + id + `","type":"note","toDeviceId":"d",` + pair + `,"payload":"","requiresAck":true}`)
		if e := d.pick(false); e.Type == "ack" {
			if m := d.message(); m.FromDeviceID != "d" {
				t.Errorf("delivered with a forged sender: %s", m.raw)
			}
		}
	}
	d.beat()
}

func TestProtocol_8_EmptyArrayIsHarmless(t *testing.T) {
	t.Parallel()
	d := connect(t, use(t), user(t)+"/d", nil)
	d.sendText("[]")
	d.sendText(" [ ] ")
	d.send(object{"id": "last", "type": "heartbeat"})
	for {
		e := d.next()
		if e.Type == "ack" {
			return
		}
		if e.Type != "error" {
			t.Fatalf("got %s", e.raw)
		}
	}
}
