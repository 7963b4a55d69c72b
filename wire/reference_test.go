package wire_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"math"
	"reflect"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/rccs-io/rccs/wire"
)

// The reference decoder says the same as the package, slowly and on top of
// encoding/json. It shares no code with it.

// refFrame is what the frame must decode to; ok is false for a bad frame. An
// item that is nil is a bad message, whose readable id is in ids.
func refFrame(frame []byte) (items []*wire.Envelope, ids []string, ok bool) {
	if !utf8.Valid(frame) || !json.Valid(frame) {
		return nil, nil, false
	}
	objects := []json.RawMessage{frame}
	if text := bytes.TrimLeft(frame, " \t\r\n"); text[0] == '[' {
		objects = nil // or they would be read into frame
		if json.Unmarshal(frame, &objects) != nil {
			return nil, nil, false
		}
	} else if !json.Valid(append(append([]byte{'['}, frame...), ']')) {
		return nil, nil, false // one level too deep for an array
	}
	if len(objects) > wire.MaxEnvelopes {
		return nil, nil, false
	}
	for _, object := range objects {
		var members map[string]json.RawMessage
		if json.Unmarshal(object, &members) != nil || members == nil {
			return nil, nil, false
		}
		e, id := refEnvelope(members)
		items, ids = append(items, e), append(ids, id)
	}
	return items, ids, true
}

// refObject reads members and remembers whether all was well.
type refObject struct {
	members map[string]json.RawMessage
	bad     bool
}

func (o *refObject) has(key string) bool {
	raw, ok := o.members[key]
	return ok && string(raw) != "null"
}

func (o *refObject) read(key string, into any) {
	if o.has(key) && json.Unmarshal(o.members[key], into) != nil {
		o.bad = true
	}
}

func (o *refObject) str(key string) (s string) { o.read(key, &s); return s }
func (o *refObject) flag(key string) (b bool)  { o.read(key, &b); return b }

func (o *refObject) positive(key string) (n int64) {
	o.read(key, &n)
	if o.has(key) && n < 1 {
		o.bad = true
	}
	return n
}

func (o *refObject) key(key string) string {
	s := o.str(key)
	if s != "" && !refKey(s) {
		o.bad = true
	}
	return s
}

func (o *refObject) name(key string) string {
	s := o.str(key)
	control := strings.ContainsFunc(s, func(r rune) bool { return unicode.Is(unicode.Cc, r) && r != '\t' })
	if o.has(key) && (s == "" || len(s) > 128 || control) {
		o.bad = true
	}
	return s
}

func (o *refObject) when(key string) (t time.Time) {
	if s := o.str(key); o.has(key) {
		if t.UnmarshalText([]byte(s)) != nil || t.UTC().Year() < 0 || t.UTC().Year() > 9999 {
			o.bad = true
		}
	}
	return t
}

func refKey(s string) bool {
	odd := func(r rune) bool { return unicode.In(r, unicode.Cc, unicode.Zl, unicode.Zp) }
	return s != "" && len(s) <= 128 && strings.TrimSpace(s) == s && !strings.ContainsFunc(s, odd)
}

var refType = regexp.MustCompile(`^[a-z][a-z0-9_.-]{0,63}$`)

func refEnvelope(members map[string]json.RawMessage) (*wire.Envelope, string) {
	o := refObject{members: members}
	id := o.str("id")
	if !refKey(id) {
		o.bad = o.bad || o.has("id")
		id = ""
	}
	e := &wire.Envelope{
		ID: id, Type: o.str("type"), FromDeviceID: o.str("fromDeviceId"), UserID: o.str("userId"),
		ToDeviceID: o.name("toDeviceId"), CorrelationID: o.key("correlationId"), CollapseKey: o.key("collapseKey"),
		Traceparent: o.key("traceparent"), Encoding: o.str("encoding"), Topic: o.str("topic"),
		TTLMs: o.positive("ttlMs"), Seq: uint64(o.positive("seq")), DeliverAt: o.when("deliverAt"), Priority: wire.Normal,
		RequiresAck: o.flag("requiresAck"), Ephemeral: o.flag("ephemeral"), Redelivered: o.flag("redelivered"),
		Replay: o.flag("replay"), Partial: o.flag("partial"), Timestamp: o.timestamp(), To: o.to(),
	}
	priority := int64(wire.Normal)
	o.read("priority", &priority)
	e.Priority = uint8(min(uint64(priority), math.MaxUint8))
	payload, given := members["payload"]
	if given {
		e.Payload = payload
	}
	application := !wire.IsControl(e.Type)
	if o.bad || e.Priority > wire.Critical || !refType.MatchString(e.Type) || application && (id == "" || !given) {
		return nil, id
	}
	return e, id
}

func (o *refObject) timestamp() string {
	raw := string(o.members["timestamp"])
	if !o.has("timestamp") || raw[0] == '"' {
		o.when("timestamp")
		return o.str("timestamp")
	}
	ms, err := strconv.ParseInt(raw, 10, 64)
	if err != nil {
		f, err := strconv.ParseFloat(raw, 64)
		if err != nil || math.Abs(f) > 1e15 {
			o.bad = true
			return ""
		}
		ms = int64(f)
	}
	t := time.UnixMilli(ms).UTC()
	if ms > 1e15 || ms < -1e15 || t.Year() < 0 || t.Year() > 9999 || t.Year() < -7000 {
		o.bad = true
		return ""
	}
	return fmt.Sprintf("%04d%s", t.Year(), t.Format("-01-02T15:04:05.000Z"))
}

func (o *refObject) to() *wire.To {
	if !o.has("to") {
		return nil
	}
	in := refObject{}
	if json.Unmarshal(o.members["to"], &in.members) != nil {
		o.bad = true
		return nil
	}
	to := &wire.To{
		Device: in.name("device"), DeviceType: in.name("deviceType"), Capability: in.name("capability"),
		Service: in.flag("service"), Mode: in.str("mode"),
	}
	n := 0
	for _, key := range []string{"device", "deviceType", "capability"} {
		if in.has(key) {
			n++
		}
	}
	if to.Service {
		n++
	}
	mode := !in.has("mode") || to.Mode == "all" || to.Mode == "any"
	device := o.str("toDeviceId")
	o.bad = o.bad || in.bad || n > 1 || !mode || device != "" && device != to.Device
	return to
}

// checkAgainstReference fails the test where the package and the reference
// disagree about the frame.
func checkAgainstReference(t *testing.T, frame []byte) {
	t.Helper()
	before := bytes.Clone(frame)
	items, err := wire.DecodeFrame(nil, frame)
	if !bytes.Equal(before, frame) {
		t.Fatalf("decoding changed the frame to %q", frame)
	}
	want, ids, ok := refFrame(frame)
	if (err == nil) != ok {
		t.Fatalf("frame %q: error %v, reference accepts it: %v", frame, err, ok)
	}
	if err != nil {
		if e := wire.AsError(err); e.Code != wire.BadFrame || items != nil {
			t.Fatalf("frame %q: error %v with %d items, want BAD_FRAME and none", frame, e, len(items))
		}
		return
	}
	if len(items) != len(want) {
		t.Fatalf("frame %q: %d items, want %d", frame, len(items), len(want))
	}
	for i := range items {
		checkItem(t, frame, &items[i], want[i], ids[i])
	}
}

func checkItem(t *testing.T, frame []byte, got *wire.Item, want *wire.Envelope, id string) {
	t.Helper()
	if want == nil {
		if got.Err == nil || got.Err.Code != wire.BadMessage || got.Err.OriginalID != id || got.Err.Message == "" {
			t.Fatalf("frame %s\nitem %+v with error %v, want BAD_MESSAGE about id %q", frame, got.Envelope, got.Err, id)
		}
		return
	}
	if got.Err != nil {
		t.Fatalf("frame %s\nitem refused with %v, want %+v", frame, got.Err, want)
	}
	if !got.DeliverAt.Equal(want.DeliverAt) {
		t.Fatalf("deliverAt %v, want %v", got.DeliverAt, want.DeliverAt)
	}
	have := got.Envelope
	have.DeliverAt = want.DeliverAt
	if !reflect.DeepEqual(&have, want) {
		t.Fatalf("frame %s\ndecoded\n%+v, want\n%+v", frame, have, *want)
	}
	checkRoundTrip(t, &got.Envelope)
}

// checkRoundTrip encodes, decodes, and encodes again.
func checkRoundTrip(t *testing.T, e *wire.Envelope) {
	t.Helper()
	frame := e.Append(nil)
	if !json.Valid(frame) || !utf8.Valid(frame) {
		t.Fatalf("encoded to %q, which is not JSON", frame)
	}
	items, err := wire.DecodeFrame(nil, frame)
	if err != nil || len(items) != 1 || items[0].Err != nil {
		t.Fatalf("encoded to %q, which decodes to %v, %v", frame, items, err)
	}
	if again := items[0].Append(nil); !bytes.Equal(again, frame) {
		t.Fatalf("encoded to\n%s, then to\n%s", frame, again)
	}
	if !bytes.Equal(items[0].Payload, e.Payload) {
		t.Fatalf("payload %q became %q", e.Payload, items[0].Payload)
	}
}
