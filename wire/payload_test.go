package wire_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/rccs-io/rccs/wire"
)

// codec is a payload that travels: its decoder, then its encoder.
type codec struct {
	decode func(payload []byte) (value any, err error)
	encode func(value any) []byte // the payload alone
}

// appender is what a value that is a payload can do.
type appender[T any] interface {
	*T
	AppendPayload(dst []byte) []byte
}

// ofPayload is the codec of a payload that encodes alone.
func ofPayload[T any, P appender[T]](decode func([]byte) (T, error)) codec {
	return codec{
		decode: func(payload []byte) (any, error) { return decode(payload) },
		encode: func(value any) []byte {
			v := value.(T)
			return P(&v).AppendPayload(nil)
		},
	}
}

// ofAnswer is the codec of a payload that encodes as a whole envelope only.
func ofAnswer[T any](decode func([]byte) (T, error), encode func(T) []byte) codec {
	return codec{
		decode: func(payload []byte) (any, error) { return decode(payload) },
		encode: func(value any) []byte {
			items, err := wire.DecodeFrame(nil, encode(value.(T)))
			if err != nil || len(items) != 1 || items[0].FromDeviceID != wire.Server {
				return nil
			}
			return items[0].Payload
		},
	}
}

// codecs are all payloads that are decoded strictly, by name.
func codecs() map[string]codec {
	return map[string]codec{
		"status":       ofPayload(wire.DecodeDeviceStatus),
		"presence":     ofPayload(wire.DecodePresence),
		"unregister":   ofPayload(wire.DecodeUnregister),
		"subscribe":    ofPayload(wire.DecodeSubscribe),
		"publish":      ofPayload(wire.DecodePublish),
		"history":      ofPayload(wire.DecodeHistory),
		"gap":          ofPayload(wire.DecodeGap),
		"request":      ofPayload(wire.DecodeRequest),
		"response":     ofPayload(wire.DecodeResponse),
		"list-devices": ofPayload(wire.DecodeListDevices),
		"device-list":  ofAnswer(wire.DecodeDeviceList, func(l *wire.DeviceList) []byte { return l.Append(nil) }),
		"history-page": ofAnswer(wire.DecodeHistoryPage, func(p wire.HistoryPage) []byte { return p.Append(nil) }),
	}
}

// checkTravels holds a codec to its promises for any payload that a frame can
// hold: a clear refusal, or a value that comes back as it was.
func checkTravels(t *testing.T, name string, c codec, payload []byte) {
	t.Helper()
	before := string(payload)
	value, err := c.decode(payload)
	if string(payload) != before {
		t.Fatalf("%s: decoding changed %q to %q", name, before, payload)
	}
	if err != nil {
		if told := wire.AsError(err); told.Code != wire.BadMessage || told.Message == "" {
			t.Fatalf("%s %q: refused with %v, want BAD_MESSAGE with words", name, payload, err)
		}
		return
	}
	if payload != nil && !json.Valid(payload) {
		t.Fatalf("%s: accepted %q", name, payload)
	}
	encoded := c.encode(value)
	if !json.Valid(encoded) {
		t.Fatalf("%s %q: encodes to %q", name, payload, encoded)
	}
	again, err := c.decode(encoded)
	if err != nil {
		t.Fatalf("%s %q: encodes to %q, which is refused: %v", name, payload, encoded, err)
	}
	if twice := c.encode(again); string(twice) != string(encoded) {
		t.Fatalf("%s %q: encodes to %q, then to %q", name, payload, encoded, twice)
	}
}

func TestPayloadsTravel(t *testing.T) {
	t.Parallel()
	at := time.Date(2025, 1, 31, 12, 0, 0, 5e8, time.UTC)
	for name, value := range map[string][]any{
		"status": {
			wire.DeviceStatus{Status: wire.Away},
			wire.DeviceStatus{Status: wire.Busy, Extra: []byte(`{"battery": 40,"a\"b":[1, {}]}`)},
		},
		"presence": {
			wire.Presence{DeviceID: "phone", Status: wire.Offline, Type: "mobile", LastSeen: "2025-01-31T12:00:00Z"},
			wire.Presence{DeviceID: "é", Status: wire.Online, Extra: []byte(`{"x":null}`)},
		},
		"unregister": {wire.Unregister{}, wire.Unregister{Forget: true}},
		"subscribe": {
			wire.Subscribe{Topic: "t"},
			wire.Subscribe{Topic: "t.a", Since: wire.Since{Kind: wire.SinceSeq}},
			wire.Subscribe{Topic: "t.a", Since: wire.Since{Kind: wire.SinceSeq, Seq: 1<<63 - 1}},
			wire.Subscribe{Topic: "t.*", Since: wire.Since{Kind: wire.SinceTime, Time: at}},
			wire.Subscribe{Topic: "t.>", Since: wire.Since{Kind: wire.SinceLast}},
		},
		"publish": {wire.Publish{Topic: "t", Data: []byte(`null`)}, wire.Publish{Topic: "t", Data: []byte(`{"n": 1.0}`)}},
		"history": {
			wire.History{Topic: "inbox", Limit: wire.HistoryLimit},
			wire.History{Inbox: true, From: 7, Limit: wire.MaxHistoryLimit},
		},
		"gap": {
			wire.Gap{Lane: "normal", From: 1, To: 9, Count: 3},
			wire.Gap{Topic: "t.a", From: 5, To: 1<<63 - 1},
		},
		"request": {
			wire.Request{Method: "open file"},
			wire.Request{Method: "m", Params: []byte(`null`), Timeout: 1500 * time.Millisecond},
		},
		"response": {
			wire.Response{Result: []byte(`{"ok": true}`)},
			wire.Response{Result: []byte(`null`)},
			wire.Response{Failure: &wire.Failure{Code: "busy", Message: "two\nlines"}},
		},
		"device-list": {
			&wire.DeviceList{OriginalID: "m1"},
			&wire.DeviceList{Devices: []wire.Device{
				{ID: "phone", Status: wire.Offline},
				{
					ID: "desk/1", Type: "desktop", Platform: "linux", Version: "2", Capabilities: []byte(`{"a": true}`),
					Status: wire.Busy, LastSeen: "2025-01-31T12:00:00Z", Extra: []byte(`{"battery":1}`),
				},
			}},
		},
		"history-page": {
			wire.HistoryPage{OriginalID: "m1", Messages: []byte(`[]`)},
			wire.HistoryPage{Messages: []byte(`[{"type":"note","id":"m1","payload":1}, {}]`), Next: 12},
		},
	} {
		c := codecs()[name]
		for _, want := range value {
			payload := c.encode(want)
			got, err := c.decode(payload)
			if err != nil || !reflect.DeepEqual(got, want) {
				t.Errorf("%s %+v encodes to %s and comes as %+v, %v", name, want, payload, got, err)
			}
			checkTravels(t, name, c, payload)
		}
	}
}

func TestEdgeSaysWhatItDid(t *testing.T) {
	t.Parallel()
	for want, frame := range map[string][]byte{
		`{"status":"success","originalMessageId":"m\"1"}`: wire.AppendSuccess(nil, `m"1`),
		`{"status":"success"}`:                            wire.AppendSuccess(nil, ""),
		`{"cancel":"q1"}`:                                 wire.AppendCancel(nil, "q1"),
		`{"status":"success","originalMessageId":"m1","topic":"t.a","seq":0}`: (&wire.Subscribed{
			OriginalID: "m1", Topic: "t.a",
		}).Append(nil),
		`{"status":"success","originalMessageId":"m1","topic":"t.a","seq":0,"since":7}`: (&wire.Subscribed{
			OriginalID: "m1", Topic: "t.a", Since: 7,
		}).Append(nil),
		`{"status":"accepted","originalMessageId":"m1","topic":"t.a","seq":9,"duplicate":true}`: (&wire.Published{
			OriginalID: "m1", Topic: "t.a", Seq: 9, Duplicate: true,
		}).Append(nil),
	} {
		e := control(t, frame, wire.TypeAck)
		if string(e.Payload) != want {
			t.Errorf("payload %s, want %s", e.Payload, want)
		}
		a, err := wire.DecodeAnswer(e.Payload)
		if err != nil {
			t.Errorf("%s: %v", frame, err)
			continue
		}
		again := fmt.Sprint(a.Status, a.OriginalMessageID, a.Topic, a.Seq, a.Duplicate, a.Cancel, a.Since)
		var all map[string]any
		if err := json.Unmarshal([]byte(want), &all); err != nil {
			t.Fatal(err)
		}
		for _, value := range all {
			if !strings.Contains(again, fmt.Sprint(value)) {
				t.Errorf("%s decodes to %s, without %v", want, again, value)
			}
		}
	}
	presence := wire.Presence{DeviceID: "phone", Status: wire.Online}
	if e := control(t, presence.Append(nil), wire.TypePresence); string(e.Payload) != string(presence.AppendPayload(nil)) {
		t.Errorf("presence %s", e.Payload)
	}
	gap := wire.Gap{Lane: "low", From: 1, To: 2, Count: 2}
	if e := control(t, gap.Append(nil), wire.TypeGap); string(e.Payload) != `{"lane":"low","from":1,"to":2,"count":2}` {
		t.Errorf("gap %s", e.Payload)
	}
}

func TestRefusalsNameTheField(t *testing.T) {
	t.Parallel()
	for name, bad := range map[string]map[string]string{
		"status": {
			``: "object", `null`: "object", `{}`: "payload.status is missing", `{"status":"offline"}`: "payload.status",
			`{"status":1}`: "payload.status", `{"status":"away","x":"` + strings.Repeat("x", 4096) + `"}`: "4096 bytes",
		},
		"unregister":   {`{"forget":1}`: "payload.forget", `[]`: "object", ``: "object"},
		"list-devices": {`{"from":1}`: "payload.from", `[]`: "object"},
		"subscribe": {
			`{}`: "payload.topic is missing", `{"topic":5}`: "payload.topic", `{"topic":""}`: "payload.topic",
			`{"topic":"a..b"}`: "payload.topic", `{"topic":"a."}`: "payload.topic", `{"topic":"a\u0000"}`: "payload.topic",
			`{"topic":"` + strings.Repeat("a.", 256) + `a"}`: "payload.topic", `{"topic":"` + strings.Repeat("a", 129) + `"}`: "payload.topic",
			`{"topic":"t","since":-1}`: "payload.since", `{"topic":"t","since":1.5}`: "payload.since",
			`{"topic":"t","since":"first"}`: "payload.since", `{"topic":"t","since":true}`: "payload.since",
			`{"topic":"t","since":"2025-01-31"}`: "payload.since", `{"topic":"t","since":9223372036854775808}`: "payload.since",
		},
		"publish": {`{"topic":"t"}`: "payload.data is missing", `{"data":1}`: "payload.topic is missing"},
		"history": {
			`{}`: "payload.topic is missing", `{"inbox":false}`: "payload.topic is missing", `{"inbox":1}`: "payload.inbox",
			`{"inbox":true,"topic":"t"}`: "payload.topic", `{"topic":"t","limit":0}`: "payload.limit",
			`{"topic":"t","from":-1}`: "payload.from", `{"topic":"t","from":"1"}`: "payload.from",
		},
		"request": {
			`{}`: "payload.method is missing", `{"method":""}`: "payload.method", `{"method":"m","timeoutMs":0}`: "payload.timeoutMs",
		},
		"response": {
			`{}`: "payload.result is missing", `{"error":null}`: "payload.result is missing", `{"result":1,"error":{"code":"x"}}`: "payload.error",
			`{"error":"x"}`: "payload.error", `{"error":{}}`: "payload.error.code is missing", `{"error":{"code":""}}`: "payload.error.code",
			`{"error":{"code":"a\nb"}}`: "payload.error.code", `{"error":{"code":"a","message":1}}`: "payload.error.message",
		},
		"presence":     {`{"status":"online"}`: "payload.deviceId is missing", `{"deviceId":"a"}`: "payload.status is missing"},
		"device-list":  {`{"devices":{}}`: "payload.devices", `{"devices":[1]}`: "object", `{"devices":[{"id":"a","status":"x","capabilities":1}]}`: "payload.capabilities"},
		"history-page": {`{"messages":1}`: "payload.messages", `{"next":-1}`: "payload.next"},
		"gap":          {`{"from":"1"}`: "payload.from", `{"lane":1}`: "payload.lane"},
	} {
		for payload, names := range bad {
			_, err := codecs()[name].decode([]byte(payload))
			if !errors.Is(err, wire.BadMessage) || !strings.Contains(fmt.Sprint(err), names) {
				t.Errorf("%s %.80s: %v, want BAD_MESSAGE that names %s", name, payload, err, names)
			}
		}
	}
}

func TestHowPayloadsAreRead(t *testing.T) {
	t.Parallel()
	if u, err := wire.DecodeUnregister(nil); err != nil || u.Forget {
		t.Errorf("a device_unregister without payload: %+v, %v", u, err)
	}
	s, err := wire.DecodeDeviceStatus([]byte(`{"type":"x","battery":{"level": 4} ,"status":"busy","lastSeen":1,"\u0069d":1, "y":1}`))
	if err != nil || string(s.Extra) != `{"battery":{"level": 4},"y":1}` {
		t.Errorf("extra %s, %v: want what no device has as a field, untouched", s.Extra, err)
	}
	if h, err := wire.DecodeHistory([]byte(`{"topic":"t","limit":100000}`)); err != nil || h.Limit != wire.MaxHistoryLimit {
		t.Errorf("a history past the limit: %+v, %v", h, err)
	}
	r, err := wire.DecodeResponse([]byte(`{"result":null,"error":{"code":-32601}}`))
	if err != nil || r.Result != nil || r.Failure == nil || r.Failure.Code != "-32601" {
		t.Errorf("an error in the way of JSON-RPC: %+v, %v", r, err)
	}
	if text := r.Failure.Error(); text != "-32601" {
		t.Errorf("as an error: %q", text)
	}
}

func TestTaskID(t *testing.T) {
	t.Parallel()
	for payload, want := range map[string]string{
		`{"taskId":"t1"}`: "t1", ` {"a":{"taskId":"no"},"taskId":"t\u00e9"}`: "té", `{"taskId":"a","taskId":"b"}`: "b",
		`{"taskId":5}`: "", `{"taskId":null}`: "", `{"taskid":"x"}`: "", `["taskId"]`: "", `"taskId"`: "", `null`: "", ``: "", `{"taskId":"x"`: "",
	} {
		if got := wire.TaskID([]byte(payload)); got != want {
			t.Errorf("TaskID(%s) = %q, want %q", payload, got, want)
		}
	}
}
