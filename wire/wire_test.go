package wire_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"reflect"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/rccs-io/rccs/wire"
)

func TestCodes(t *testing.T) {
	t.Parallel()
	codes := wire.Codes()
	if len(codes) != 19 {
		t.Fatalf("%d codes, the protocol has 19", len(codes))
	}
	seen := map[wire.Code]bool{}
	for _, code := range codes {
		if seen[code] || !code.Known() || code.Message() == "" || code.Message() == wire.Code("?").Message() {
			t.Errorf("%s: seen %v, known %v, message %q", code, seen[code], code.Known(), code.Message())
		}
		seen[code] = true
		if end, ok := code.Close(); ok && (end.Reason() == "" || len(end.Reason()) > 123) {
			t.Errorf("%s closes with %s, whose reason is %q", code, end, end.Reason())
		}
	}
	if wire.Code("NEW").Known() || wire.Code("NEW").Retry() != wire.RetryLater {
		t.Error("a code of a later version must be unknown and worth a retry")
	}
}

func TestReconnect(t *testing.T) {
	t.Parallel()
	for code, want := range map[wire.CloseCode]wire.Reconnect{
		1000: wire.ReconnectNo, 1001: wire.ReconnectNow, 1007: wire.ReconnectNo, 1008: wire.ReconnectNo,
		1009: wire.ReconnectNow, 1013: wire.ReconnectLater, 4001: wire.ReconnectNo, 4002: wire.ReconnectNo,
		4003: wire.ReconnectNo, 4004: wire.ReconnectCredential, 4029: wire.ReconnectLater,
		1006: wire.ReconnectLater, 1012: wire.ReconnectLater, 4999: wire.ReconnectLater,
	} {
		if got := code.Reconnect(); got != want {
			t.Errorf("after %s: %d, want %d", code, got, want)
		}
	}
}

func TestAsError(t *testing.T) {
	t.Parallel()
	full := wire.NewError(wire.QueueFull, "").For("m1")
	for _, test := range []struct {
		err  error
		want wire.Error
	}{
		{fmt.Errorf("edge: publish: %w", full), wire.Error{Code: wire.QueueFull, OriginalID: "m1"}},
		{fmt.Errorf("edge: %w", wire.DeviceOffline), wire.Error{Code: wire.DeviceOffline}},
		{fmt.Errorf("nats: %w", context.DeadlineExceeded), wire.Error{Code: wire.Timeout}},
		{errors.New("secret path /var/lib"), wire.Error{Code: wire.Internal}},
	} {
		if got := wire.AsError(test.err); !reflect.DeepEqual(*got, test.want) {
			t.Errorf("AsError(%v) = %+v, want %+v", test.err, got, test.want)
		}
	}
	if wire.AsError(nil) != nil {
		t.Error("no error became one")
	}
	if !errors.Is(fmt.Errorf("x: %w", full), wire.QueueFull) || errors.Is(full, wire.Timeout) {
		t.Error("errors.Is must see the code, and no other")
	}
	if text := string(wire.AsError(errors.New("secret")).Append(nil)); strings.Contains(text, "secret") {
		t.Errorf("the inner text got out: %s", text)
	}
}

func TestErrorTravels(t *testing.T) {
	t.Parallel()
	sent := &wire.Error{Code: wire.RateLimited, Message: "a \"quote\"\n", OriginalID: "m1", RetryAfter: 1500 * time.Millisecond}
	got, err := wire.DecodeError(control(t, sent.Append(nil), wire.TypeError).Payload)
	if err != nil || !reflect.DeepEqual(got, sent) {
		t.Fatalf("%+v came as %+v, %v", sent, got, err)
	}
	for _, payload := range []string{`{}`, `[]`, `{"code":5}`, ``} {
		if _, err := wire.DecodeError([]byte(payload)); !errors.Is(err, wire.BadMessage) {
			t.Errorf("payload %q: %v, want BAD_MESSAGE", payload, err)
		}
	}
}

// control decodes one envelope that the edge says in its own name.
func control(t *testing.T, frame []byte, typ string) wire.Envelope {
	t.Helper()
	items, err := wire.DecodeFrame(nil, frame)
	if err != nil || len(items) != 1 || items[0].Err != nil {
		t.Fatalf("%s: %v, %v", frame, items, err)
	}
	if items[0].Type != typ || items[0].FromDeviceID != wire.Server {
		t.Fatalf("%s: want %s from the server", frame, typ)
	}
	return items[0].Envelope
}

func TestRegistrationTravels(t *testing.T) {
	t.Parallel()
	c := wire.Challenge{Challenge: "c", Nonce: "n\"", ServerTime: "2025-01-31T12:00:00.000Z"}
	e := control(t, c.Append(nil, "s1"), wire.TypeRegister)
	if got, err := wire.DecodeChallenge(e.Payload); err != nil || got != c || e.ID != "s1" {
		t.Errorf("challenge %+v came as %+v in %+v, %v", c, got, e, err)
	}
	r := wire.Registered{
		Status: wire.StatusSuccess, SessionID: "s", DeviceID: "phone/é", UserID: "alice", ServerTime: c.ServerTime,
		Resumed: true, ExpiresAt: c.ServerTime, Pending: 3, HeartbeatIntervalMs: 25000, MaxMessageBytes: 1 << 20,
		Window: 256, OriginalMessageID: "r1",
	}
	e = control(t, r.Append(nil), wire.TypeAck)
	if got, err := wire.DecodeAnswer(e.Payload); err != nil || got.Registered != r {
		t.Errorf("registered %+v came as %+v, %v", r, got, err)
	}
	want, _ := json.Marshal(r)
	sameJSON(t, e.Payload, want)
}

func TestReceiptsTravel(t *testing.T) {
	t.Parallel()
	for _, a := range []wire.Accepted{
		{OriginalID: "m1"},
		{OriginalID: "m\"1", Recipients: []wire.Recipient{{DeviceID: "phone", Seq: math.MaxInt64}, {DeviceID: "é\\"}}, Duplicate: true},
	} {
		e := control(t, a.Append(nil), wire.TypeAck)
		got, err := wire.DecodeAnswer(e.Payload)
		if err != nil || got.Status != wire.StatusAccepted || fmt.Sprint(got.Accepted()) != fmt.Sprint(a) {
			t.Errorf("%+v came as %+v, %v", a, got, err)
		}
		if !strings.Contains(string(e.Payload), `"recipients":[`) || !strings.Contains(string(e.Payload), `"duplicate":`) {
			t.Errorf("%s must say recipients and duplicate", e.Payload)
		}
	}
	for _, o := range []wire.Outcome{
		{OriginalID: "m1", Status: wire.StatusDelivered, DeviceID: "phone", DeliveredAt: "2025-01-31T12:00:00Z"},
		{OriginalID: "m1", Status: wire.StatusExpired, DeviceID: "phone"},
	} {
		if got, err := wire.DecodeAnswer(o.AppendPayload(nil)); err != nil || got.Outcome() != o {
			t.Errorf("%+v came as %+v, %v", o, got, err)
		}
	}
	for _, payload := range []string{``, `[]`, `{"status":1}`} {
		if _, err := wire.DecodeAnswer([]byte(payload)); !errors.Is(err, wire.BadMessage) {
			t.Errorf("payload %q: %v, want BAD_MESSAGE", payload, err)
		}
	}
}

func TestAppendStringMatchesJSON(t *testing.T) {
	t.Parallel()
	rng := rand.New(rand.NewPCG(1, 2))
	for range 5000 {
		raw := make([]byte, rng.IntN(12))
		for i := range raw {
			raw[i] = byte(rng.Uint32())
		}
		text := wire.AppendString(nil, string(raw))
		var got string
		if err := json.Unmarshal(text, &got); err != nil || !utf8.Valid(text) {
			t.Fatalf("%q encodes to %q: %v", raw, text, err)
		}
		if want := strings.Join(strings.Split(string([]rune(string(raw))), ""), ""); got != want {
			t.Fatalf("%q came as %q, want %q", raw, got, want)
		}
	}
}

// TestRandomFrames makes envelopes of valid and invalid pieces, which byte
// mutations seldom reach, and holds the decoder to the reference.
func TestRandomFrames(t *testing.T) {
	t.Parallel()
	rng := rand.New(rand.NewPCG(7, 7))
	for range 20_000 {
		checkAgainstReference(t, randomFrame(rng))
	}
}

func randomFrame(rng *rand.Rand) []byte {
	keys := []string{
		"id", "type", "fromDeviceId", "userId", "toDeviceId", "to", "payload", "timestamp", "priority", "requiresAck",
		"correlationId", "ttlMs", "deliverAt", "collapseKey", "ephemeral", "traceparent", "seq", "redelivered",
		"replay", "partial", "encoding", "topic", "other", "ID", `\u0069d`, `typ\u0065`, "",
	}
	values := []string{
		`null`, `true`, `false`, `0`, `1`, `3`, `4`, `-1`, `-0`, `1.0`, `1e2`, `1738324800123`, `1738324800123.75`,
		`253402300800000`, `-62167219200001`, `9223372036854775807`, `9223372036854775808`, `"a"`, `""`, `" a"`,
		`"note"`, `"ack"`, `"n\u006fte"`, `"é😀"`, `"\ud83d\ude00"`, `"\ud83d"`, `"a\u0085"`, `"a\u2028b"`, `"a\u2029b"`, `"a\tb"`, `"\u3000a"`,
		`"2025-01-31T12:00:00Z"`, `"2025-01-31T12:00:00.5+01:00"`, `"2025-01-31t12:00:00z"`, `"0000-01-01T00:00:00+01:00"`,
		`"9999-12-31T23:59:59-01:00"`, `"2025-01-31T24:00:00Z"`, `"2025-01-31T12\u003a00:00Z"`, `{}`, `[]`, `[1,{"a":[]}]`,
		`{"device":"a"}`, `{"device":"a","mode":"all"}`, `{"device":"a","device":"b"}`, `{"device":null,"capability":"c"}`,
		`{"deviceType":"t","mode":"\u0061ny"}`, `{"service":true}`, `{"service":false,"mode":"x"}`, `{"device":5}`,
		`{"device":"a","service":true}`, `"` + strings.Repeat("x", 128) + `"`, `"` + strings.Repeat("é", 65) + `"`,
		`01`, `tru`, `"\x"`, `{`, `[1,]`, ``,
	}
	space := func() string { return []string{"", "", "", " ", "\n\t", "\r "}[rng.IntN(6)] }
	object := func() string {
		var b strings.Builder
		b.WriteString(`{"id":"m1","type":"note","payload":{"a":[1,2]}`)
		for range rng.IntN(4) {
			value := values[rng.IntN(len(values))]
			if rng.IntN(8) > 0 { // seldom what is not JSON at all
				value = values[rng.IntN(len(values)-6)]
			}
			fmt.Fprintf(&b, `%s,%s"%s"%s:%s%s`, space(), space(), keys[rng.IntN(len(keys))], space(), space(), value)
		}
		return b.String() + space() + "}"
	}
	text := space() + object() + space()
	if rng.IntN(4) == 0 {
		text = "[" + text + "," + object() + space() + "]"
	}
	if rng.IntN(10) == 0 {
		text = text[:rng.IntN(len(text))]
	}
	return []byte(text)
}

func TestEmbeddable(t *testing.T) {
	t.Parallel()
	nested := func(n int) string { return strings.Repeat("[", n) + strings.Repeat("]", n) }
	for text, want := range map[string]bool{
		`{"a":1}`: true, ` null `: true, `"x"`: true, `1e5`: true, ``: false, `hello`: false, `{}{}`: false,
		"\"\xff\"": false, "\"a\nb\"": false, `{"a":1`: false, nested(9997): true, nested(9998): true, nested(9999): false,
	} {
		deep := strings.HasPrefix(text, nested(9998)[:9998])
		if got := wire.EmbeddableInObject([]byte(text)); got != (want && !deep) {
			t.Errorf("EmbeddableInObject(%.40q) = %v", text, got)
		}
		if got := wire.Embeddable([]byte(text)); got != want {
			t.Errorf("Embeddable(%.40q) = %v, want %v", text, got, want)
		}
		if want { // then it can be delivered, in an array too
			e := wire.NewEnvelope("m1", "note", []byte(text))
			frame := append(append([]byte("["), e.Append(nil)...), ']')
			if items, err := wire.DecodeFrame(nil, frame); err != nil || items[0].Err != nil || !json.Valid(frame) {
				t.Errorf("payload %.40q cannot be delivered: %v", text, err)
			}
		}
	}
}

func TestPayloadAliasesFrameAndNothingElseDoes(t *testing.T) {
	t.Parallel()
	frame := []byte(`{"id":"m1","type":"custom","fromDeviceId":"phone","to":{"device":"desk"},"payload":"secret"}`)
	items, err := wire.DecodeFrame(nil, frame)
	if err != nil {
		t.Fatal(err)
	}
	e := items[0].Envelope
	if extended := append(e.Payload, 'x'); &extended[0] == &e.Payload[0] {
		t.Error("appending to a payload writes into the frame")
	}
	for i := range frame {
		frame[i] = '!'
	}
	if e.ID != "m1" || e.Type != "custom" || e.FromDeviceID != "phone" || e.To.Device != "desk" {
		t.Errorf("the buffer's next use changed the envelope: %+v", e)
	}
	if string(e.Payload) != "!!!!!!!!" {
		t.Errorf("payload %q was copied", e.Payload)
	}
}

func TestTTLAndTarget(t *testing.T) {
	t.Parallel()
	if d := (&wire.Envelope{TTLMs: math.MaxInt64}).TTL(); d != math.MaxInt64 {
		t.Errorf("a TTL too long for a duration is %v", d)
	}
	if d := (&wire.Envelope{TTLMs: 1500}).TTL(); d != 1500*time.Millisecond {
		t.Errorf("TTL %v", d)
	}
	if to, ok := (&wire.Envelope{ToDeviceID: "a"}).Target(); !ok || to != (wire.To{Device: "a"}) {
		t.Errorf("target %+v, %v", to, ok)
	}
	if to, ok := (&wire.Envelope{To: &wire.To{Mode: wire.ModeAny}}).Target(); !ok || to.Mode != wire.ModeAny {
		t.Errorf("target %+v, %v", to, ok)
	}
	if _, ok := new(wire.Envelope).Target(); ok {
		t.Error("a target out of nothing")
	}
}

func TestDecodeAppends(t *testing.T) {
	t.Parallel()
	items, err := wire.DecodeFrame(nil, []byte(`{"type":"heartbeat"}`))
	if err != nil {
		t.Fatal(err)
	}
	if items, err = wire.DecodeFrame(items, []byte(`[{"type":"ack"},{"type":"gap"}]`)); err != nil || len(items) != 3 {
		t.Fatalf("%d items, %v", len(items), err)
	}
	kept, err := wire.DecodeFrame(items, []byte(`[{"type":"ack"},5]`))
	if err == nil || len(kept) != 3 {
		t.Fatalf("a bad frame left %d items, %v", len(kept), err)
	}
}

// TestAllocations holds the hot path to what it promises.
func TestAllocations(t *testing.T) {
	frame, items := []byte(typical), make([]wire.Item, 0, 1)
	payload, seqs := []byte(`{"seqs":[1,2,3]}`), make([]uint64, 0, 3)
	decoded, err := wire.DecodeFrame(nil, frame)
	if err != nil {
		t.Fatal(err)
	}
	publish, request := []byte(`{"topic":"builds.main","data":{"green":true}}`), []byte(`{"method":"file.open","params":[1]}`)
	task, presence := []byte(`{"prompt":"x","taskId":"t1"}`), wire.Presence{DeviceID: "phone", Status: wire.Online}
	buf := make([]byte, 0, 1024)
	for name, test := range map[string]struct {
		most float64
		run  func()
	}{
		"decode into nothing": {2, func() { _, _ = wire.DecodeFrame(nil, frame) }},
		"decode again":        {1, func() { _, _ = wire.DecodeFrame(items, frame) }},
		"append":              {0, func() { buf = decoded[0].Append(buf[:0]) }},
		"decode ack":          {0, func() { _, _ = wire.DecodeAck(seqs, payload) }},
		"decode publish":      {1, func() { _, _ = wire.DecodePublish(publish) }},
		"decode request":      {1, func() { _, _ = wire.DecodeRequest(request) }},
		"task id":             {1, func() { _ = wire.TaskID(task) }},
		"append presence":     {0, func() { buf = presence.Append(buf[:0]) }},
	} {
		if got := testing.AllocsPerRun(100, test.run); got > test.most {
			t.Errorf("%s: %v allocations, at most %v", name, got, test.most)
		}
	}
}

// TestEveryByteAtEveryPlace is for the reading of strings eight bytes at a time.
func TestEveryByteAtEveryPlace(t *testing.T) {
	t.Parallel()
	for at := range 20 {
		for c := range 256 {
			text := []byte(`"--------------------"`)
			text[1+at] = byte(c)
			if got, want := wire.Embeddable(text), json.Valid(text) && utf8.Valid(text); got != want {
				t.Fatalf("Embeddable(%q) = %v, want %v", text, got, want)
			}
		}
	}
}
