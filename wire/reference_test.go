package wire_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"math"
	"math/big"
	"reflect"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/rccs-io/rccs/subjects"
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

func (o *refObject) flag(key string) (b bool) { o.read(key, &b); return b }

// str is a string that names something.
func (o *refObject) str(key string) (s string) {
	o.read(key, &s)
	if o.has(key) && refHalves(o.members[key]) {
		o.bad = true
		return ""
	}
	return s
}

// prose is a string for people.
func (o *refObject) prose(key string) (s string) { o.read(key, &s); return s }

var (
	refEscape = regexp.MustCompile(`\\u[0-9a-fA-F]{4}|\\.`)
	refPair   = regexp.MustCompile(`(?i)(\\ud[89ab][0-9a-f]{2})(\\ud[c-f][0-9a-f]{2})`)
	refHalf   = regexp.MustCompile(`(?i)^\\ud[89a-f]`)
)

// refHalves reports whether a JSON string has half a surrogate pair in it.
func refHalves(raw json.RawMessage) bool {
	// What is escaped otherwise must not be taken for the start of an escape.
	text := refEscape.ReplaceAllStringFunc(string(raw), func(e string) string {
		if e[1] != 'u' {
			return "."
		}
		return e
	})
	text = refPair.ReplaceAllString(text, ".")
	return slices.ContainsFunc(refEscape.FindAllString(text, -1), refHalf.MatchString)
}

// refInt is a number that is an integer, however it is written. One that no
// int64 holds is the nearest, and huge.
func refInt(raw json.RawMessage) (n int64, huge, ok bool) {
	mantissa, exponent, _ := strings.Cut(strings.ToLower(string(raw)), "e")
	if raw == nil || strings.IndexByte("-0123456789", raw[0]) < 0 {
		return 0, false, false
	}
	m, ok := new(big.Rat).SetString(mantissa)
	if !ok {
		return 0, false, false
	}
	e := new(big.Int)
	if exponent != "" {
		e.SetString(strings.TrimPrefix(exponent, "+"), 10)
	}
	if m.Sign() == 0 {
		return 0, false, true
	}
	far := big.NewInt(int64(len(raw)) + 30)
	if e.CmpAbs(far) > 0 {
		nearest := int64(math.MaxInt64)
		if m.Sign() < 0 {
			nearest = -nearest
		}
		return nearest, true, e.Sign() > 0
	}
	scale := new(big.Rat).SetInt(new(big.Int).Exp(big.NewInt(10), new(big.Int).Abs(e), nil))
	if e.Sign() < 0 {
		scale.Inv(scale)
	}
	if m.Mul(m, scale); !m.IsInt() {
		return 0, false, false
	}
	switch {
	case m.Num().IsInt64() && m.Num().Int64() > math.MinInt64:
		return m.Num().Int64(), false, true
	case m.Sign() < 0:
		return -math.MaxInt64, true, true
	}
	return math.MaxInt64, true, true
}

func (o *refObject) integer(key string) (n int64) {
	if !o.has(key) {
		return 0
	}
	n, huge, ok := refInt(o.members[key])
	o.bad = o.bad || huge || !ok
	return n
}

func (o *refObject) positive(key string) (n int64) {
	n = o.integer(key)
	if o.has(key) && n < 1 {
		o.bad = true
	}
	return n
}

// atMost is positive, and the nearest bound where it is larger.
func (o *refObject) atMost(key string) {
	if o.has(key) {
		n, _, ok := refInt(o.members[key])
		o.bad = o.bad || !ok || n < 1
	}
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
		var ok bool
		if t, ok = refTime(s); !ok {
			o.bad = true
		}
	}
	return t
}

var refRFC3339 = regexp.MustCompile(
	`^([0-9]{4})-([0-9]{2})-([0-9]{2})[Tt]([0-9]{2}):([0-9]{2}):([0-9]{2})(\.[0-9]+)?([Zz]|[+-]([0-9]{2}):([0-9]{2}))$`)

// refTime reads RFC 3339 by its grammar, and counts days by itself.
func refTime(s string) (time.Time, bool) {
	m := refRFC3339.FindStringSubmatch(s)
	if m == nil || len(s) > 128 {
		return time.Time{}, false
	}
	var n [11]int64
	for i := range m {
		n[i], _ = strconv.ParseInt(m[i], 10, 64)
	}
	year, month, day, hour, minute, second, east, eastMinute := n[1], n[2], n[3], n[4], n[5], n[6], n[9], n[10]
	lengths := []int64{0, 31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31}
	leap := year%4 == 0 && (year%100 != 0 || year%400 == 0)
	if leap {
		lengths[2] = 29
	}
	if month < 1 || month > 12 || day < 1 || day > lengths[month] || hour > 23 || minute > 59 || second > 60 || east > 23 || eastMinute > 59 {
		return time.Time{}, false
	}
	days := int64(0) // since the first of January of the year 0
	for y := range year {
		days += 365
		if y%4 == 0 && (y%100 != 0 || y%400 == 0) {
			days++
		}
	}
	for _, l := range lengths[1:month] {
		days += l
	}
	offset := east*3600 + eastMinute*60
	if strings.HasPrefix(m[8], "-") {
		offset = -offset
	}
	const before1970 = 719_528 // days
	unix := (days+day-1-before1970)*86400 + hour*3600 + minute*60 + second - offset
	digits := (strings.TrimPrefix(m[7], ".") + "000000000")[:9]
	nanos, _ := strconv.ParseInt(digits, 10, 64)
	t := time.Unix(unix, nanos).UTC()
	if second == 60 && (t.Format("15:04:05") != "00:00:00" || t.Day() != 1) {
		return time.Time{}, false
	}
	return t, t.Year() >= 0 && t.Year() <= 9999
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
		ID: id, Type: o.str("type"), FromDeviceID: subjects.DeviceID(o.str("fromDeviceId")), UserID: subjects.UserID(o.str("userId")),
		ToDeviceID: subjects.DeviceID(o.name("toDeviceId")), CorrelationID: o.key("correlationId"), CollapseKey: o.key("collapseKey"),
		Traceparent: o.key("traceparent"), Encoding: o.str("encoding"), Topic: o.str("topic"),
		TTLMs: o.positive("ttlMs"), Seq: uint64(o.positive("seq")), DeliverAt: o.when("deliverAt"), Priority: wire.Normal,
		RequiresAck: o.flag("requiresAck"), Ephemeral: o.flag("ephemeral"), Redelivered: o.flag("redelivered"),
		OriginalType: o.str("originalType"), TooLarge: o.flag("tooLarge"), Replay: o.flag("replay"), Partial: o.flag("partial"), Timestamp: o.timestamp(), To: o.to(),
	}
	priority := int64(wire.Normal)
	if o.has("priority") {
		priority = o.integer("priority")
	}
	e.Priority = uint8(min(uint64(priority), math.MaxUint8))
	payload, given := members["payload"]
	if given {
		e.Payload = payload
	} else if e.TooLarge && !wire.IsControl(e.Type) {
		e.Payload, given = []byte("null"), true
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
	ms, _, ok := refInt(o.members["timestamp"])
	if !ok {
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
		Device: subjects.DeviceID(in.name("device")), DeviceType: in.name("deviceType"), Capability: in.name("capability"),
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
	others := 0
	for key := range in.members {
		if key != "mode" {
			others++
		}
	}
	nobody := others > 0 && n == 0 && !in.has("service")
	o.bad = o.bad || in.bad || n > 1 || nobody || !mode || device != "" && subjects.DeviceID(device) != to.Device
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
