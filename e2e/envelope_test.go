package e2e_test

import (
	"fmt"
	"maps"
	"strings"
	"testing"
	"time"
)

func TestProtocol_2_TheEdgeSaysWhoSentWhatAndWhen(t *testing.T) {
	t.Parallel()
	s, u := serverAndUser(t)
	phone, desktop := connect(t, s, u+"/phone", nil), connect(t, s, u+"/desktop", nil)
	begin := time.Now().Add(-time.Second)
	desktop.give("phone", object{"n": 1}, object{
		"type": "user_message", "correlationId": "corr 1", "priority": 2,
		"traceparent": "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
		// What only the edge may say is not taken from a sender.
		"seq": 999999, "redelivered": true, "replay": true, "encoding": "base64",
	})
	e := phone.message()
	if e.FromDeviceID != "desktop" || e.UserID != u || e.Type != "user_message" || e.ID == "" {
		t.Errorf("sender %q of %q, type %q, id %q in %s", e.FromDeviceID, e.UserID, e.Type, e.ID, e.raw)
	}
	if e.CorrelationID != "corr 1" || e.Traceparent != "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01" {
		t.Errorf("not carried through: %s", e.raw)
	}
	if e.Priority == nil || *e.Priority != 2 {
		t.Errorf("priority is not 2 in %s", e.raw)
	}
	if e.Redelivered || e.Encoding != "" || e.Seq == 999999 || strings.Contains(e.raw, `"replay"`) {
		t.Errorf("the sender forged what the edge says: %s", e.raw)
	}
	at, err := time.Parse(time.RFC3339, e.Timestamp)
	if err != nil || at.Before(begin) || at.After(time.Now().Add(time.Second)) {
		t.Errorf("timestamp %q (%v), want the edge's time", e.Timestamp, err)
	}
}

func TestProtocol_2_TimestampIsTheSendersWhenGiven(t *testing.T) {
	t.Parallel()
	s := use(t)
	d := connect(t, s, user(t)+"/d", nil)
	want := time.Date(2024, 2, 29, 23, 59, 59, 123000000, time.UTC)
	for _, text := range []any{"2024-02-29T23:59:59.123Z", "2024-03-01T01:59:59.123+02:00", want.UnixMilli()} {
		d.give("d", 1, object{"timestamp": text})
		got, err := time.Parse(time.RFC3339, d.message().Timestamp)
		if err != nil || !got.Equal(want) {
			t.Errorf("timestamp %v became %v (%v)", text, got, err)
		}
	}
}

func TestProtocol_2_EveryPriorityIsALane(t *testing.T) {
	t.Parallel()
	s := use(t)
	d := connect(t, s, user(t)+"/d", nil)
	for priority := range 4 {
		d.give("d", priority, object{"priority": priority})
		if e := d.message(); e.Priority == nil || *e.Priority != priority {
			t.Errorf("priority %d came as %s", priority, e.raw)
		}
	}
	d.give("d", "default", nil)
	if e := d.message(); e.Priority != nil && *e.Priority != 1 {
		t.Errorf("default priority came as %s", e.raw)
	}
}

func TestProtocol_2_UnknownFieldsAreIgnored(t *testing.T) {
	t.Parallel()
	s := use(t)
	d := connect(t, s, user(t)+"/d", object{"favouriteColour": []int{1}, "capabilities": object{"new": true}})
	d.sendText(`{"x":{"deep":[[[{}]]]},"id":"a","ID":"b","type":"note","Type":7,"toDeviceId":"d","payload":1,"requiresAck":true,"":null,"y":"\u0000"}`)
	d.wantAccepted("a", "d")
	if e := d.message(); e.ID != "a" || strings.Contains(e.raw, "deep") {
		t.Errorf("got %s", e.raw)
	}
}

func TestProtocol_2_TargetAsObject(t *testing.T) {
	t.Parallel()
	s := use(t)
	d := connect(t, s, user(t)+"/d", nil)
	for name, target := range map[string]object{
		"to":   {"to": object{"device": "d"}},
		"both": {"to": object{"device": "d"}, "toDeviceId": "d"},
	} {
		e := object{"id": newID(), "type": "note", "payload": name, "requiresAck": true}
		maps.Copy(e, target)
		d.send(e)
		d.wantAccepted(e["id"].(string), "d")
		d.wantMessage(`"` + name + `"`)
	}
}

func TestProtocol_2_RequiresAckDefaultsToFalse(t *testing.T) {
	t.Parallel()
	s, u := serverAndUser(t)
	sender, receiver := connect(t, s, u+"/sender", nil), connect(t, s, u+"/receiver", nil)
	for range 3 {
		sender.send(object{"id": newID(), "type": "note", "toDeviceId": "receiver", "payload": 1})
	}
	for range 3 {
		receiver.message() // so they are stored
	}
	sender.beat() // no accepted was before it
	sender.beat()
}

func TestProtocol_2_IdentityOfAnotherIsRefused(t *testing.T) {
	t.Parallel()
	s, u := serverAndUser(t)
	d := connect(t, s, u+"/d", nil)
	for i, claim := range []object{
		{"fromDeviceId": "other"},
		{"fromDeviceId": "server"},
		{"fromDeviceId": "service:backend"},
		{"userId": "mallory"},
		{"fromDeviceId": "D"},
		{"userId": u + " "},
	} {
		for _, kind := range []string{"note", "heartbeat"} {
			e := object{"id": fmt.Sprint(kind, i), "type": kind, "toDeviceId": "d", "payload": object{}, "requiresAck": true}
			maps.Copy(e, claim)
			d.send(e)
			if f := d.wantError("IDENTITY_MISMATCH"); f.OriginalMessageID != e["id"] {
				t.Errorf("error about %q, want %q", f.OriginalMessageID, e["id"])
			}
		}
	}
	d.give("d", "own", object{"fromDeviceId": "d", "userId": u})
	if e := d.message(); string(e.Payload) != `"own"` {
		t.Errorf("a refused message was delivered: %s", e.raw)
	}
}

func TestProtocol_2_LimitsOfIDs(t *testing.T) {
	t.Parallel()
	s := use(t)
	d := connect(t, s, user(t)+"/d", nil)
	for _, field := range []string{"id", "correlationId", "traceparent"} {
		for _, good := range []string{
			"a", strings.Repeat("x", 128), "with space inside", `q"uo\te/<&>`, strings.Repeat("é", 64), "日本", "😀", "%0A", "a.b.*.>",
		} {
			id := newID()
			if field == "id" {
				id = good
			}
			d.send(object{"id": id, "type": "note", "toDeviceId": "d", "payload": 1, "requiresAck": true, field: good})
			d.wantAccepted(id, "d")
			e := d.message()
			got := map[string]string{"id": e.ID, "correlationId": e.CorrelationID, "traceparent": e.Traceparent}[field]
			if got != good {
				t.Errorf("%s %q came as %q", field, good, got)
			}
		}
		for _, bad := range []string{
			strings.Repeat("x", 129), strings.Repeat("é", 65), " a", "a ", "a\nb", "a\rNats-Rollup: all", "a\x00b", "a\tb", "\x7f", "a\u0085b",
		} {
			d.send(object{"id": newID(), "type": "note", "toDeviceId": "d", "payload": 1, "requiresAck": true, field: bad})
			d.wantError("BAD_MESSAGE")
		}
	}
	d.send(object{"id": "", "type": "note", "toDeviceId": "d", "payload": 1})
	d.wantError("BAD_MESSAGE")
	d.beat()
}

func TestProtocol_2_LimitsOfTypes(t *testing.T) {
	t.Parallel()
	s := use(t)
	d := connect(t, s, user(t)+"/d", nil)
	for _, good := range []string{"a", "a0_.-", "user_message", "x" + strings.Repeat("9", 63)} {
		d.give("d", 1, object{"type": good})
		if e := d.message(); e.Type != good {
			t.Errorf("type %q came as %q", good, e.Type)
		}
	}
	for _, bad := range []any{"", "A", "9", "_x", "a b", "a\n", "é", "x" + strings.Repeat("y", 64), 7, nil, true} {
		d.send(object{"id": newID(), "type": bad, "toDeviceId": "d", "payload": 1, "requiresAck": true})
		d.wantError("BAD_MESSAGE")
	}
	d.beat()
}

func TestProtocol_2_RepeatedIDIsStoredOnce(t *testing.T) {
	t.Parallel()
	s, u := serverAndUser(t)
	sender, other, receiver := connect(t, s, u+"/sender", nil), connect(t, s, u+"/other", nil), connect(t, s, u+"/receiver", nil)
	first := sender.give("receiver", 1, object{"id": "same"})
	if first.Duplicate {
		t.Errorf("the first is called a duplicate")
	}
	for _, again := range []object{nil, {"payload": "changed"}, {"priority": 3}, {"toDeviceId": "other"}} {
		e := object{"id": "same", "type": "note", "toDeviceId": "receiver", "payload": 1, "requiresAck": true}
		maps.Copy(e, again)
		sender.send(e)
		a := sender.wantAccepted("same", "receiver")
		if !a.Duplicate || a.Recipients[0] != first.Recipients[0] {
			t.Errorf("repeat with %v answered with %+v, want the first's recipient %+v and duplicate", again, a, first.Recipients)
		}
	}
	// Not a repeat: the id is unique for its sender.
	if a := other.give("receiver", 2, object{"id": "same"}); a.Duplicate {
		t.Errorf("another device's message under the same id is called a duplicate")
	}
	// Once more over a new connection of the same device.
	sender.close()
	sender = connect(t, s, u+"/sender", nil)
	if a := sender.give("receiver", 1, object{"id": "same"}); !a.Duplicate {
		t.Errorf("a repeat on a new connection was stored again")
	}
	sender.give("receiver", 3, nil)
	for want := 1; want <= 3; want++ {
		if e := receiver.message(); string(e.Payload) != fmt.Sprint(want) {
			t.Fatalf("want message %d, got %s", want, e.raw)
		}
	}
	other.give("other", "marker", nil)
	if e := other.message(); string(e.Payload) != `"marker"` {
		t.Errorf("a repeat reached another recipient: %s", e.raw)
	}
}

func TestProtocol_2_AnyNameWorksAndIsItsOwn(t *testing.T) {
	t.Parallel()
	s, u := serverAndUser(t)
	names := []string{
		"a.b", "a%2Eb", "a%252Eb", "a%2eb", "*", ">", "a b", " lead", "trail ", "tab\there", "a/b", "/", "é", "e\u0301", "日本語", "😀",
		"A", "a", "%", "%%", ".", "..", "_", "-", `"`, `\`, "<&>", strings.Repeat("x", 128), strings.Repeat("é", 64), "\u2028",
	}
	service := s.service(t, "names")
	devices := map[string]*device{}
	for _, name := range names {
		devices[name] = connect(t, s, u+"/"+name, nil)
		if got := devices[name].session; got.DeviceID != name || got.UserID != u {
			t.Errorf("device %q registered as %q of %q", name, got.DeviceID, got.UserID)
		}
	}
	sender := connect(t, s, u+"/sender", nil)
	for _, name := range names {
		sender.give(name, name, nil)
		service.publish(inbox(u, name, "normal"), encode(t, name+"!"))
	}
	for _, name := range names {
		for _, want := range []string{encode(t, name), encode(t, name+"!")} {
			if e := devices[name].message(); string(e.Payload) != want {
				t.Errorf("device %q received %s, want %s", name, e.Payload, want)
			}
		}
		devices[name].beat() // and nothing of another's
	}
}

func TestProtocol_2_UsersDoNotReachEachOther(t *testing.T) {
	t.Parallel()
	s, u := serverAndUser(t)
	for i, pair := range [][2]string{{u, u + "x"}, {u + ".", u + "%2E"}, {u + "*", u + ">"}} {
		alice, bob := connect(t, s, pair[0]+"/d", nil), connect(t, s, pair[1]+"/d", nil)
		bob.beat()
		alice.give("d", i, nil)
		alice.message()
		alice.send(object{"id": newID(), "type": "note", "toDeviceId": pair[1] + "/d", "payload": 1})
		alice.wantError("DEVICE_NOT_FOUND")
		bob.give("d", "own", nil)
		if e := bob.message(); string(e.Payload) != `"own"` {
			t.Errorf("%q received what %q sent: %s", pair[1], pair[0], e.raw)
		}
	}
}
