package envelope_test

import (
	"bytes"
	"math"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/rccs-io/rccs/internal/envelope"
	"github.com/rccs-io/rccs/subjects"
	"github.com/rccs-io/rccs/wire"
)

func TestUnusableTimeToLiveIsNone(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]time.Duration{
		"": 0, "1": time.Millisecond, "60000": time.Minute, "0": 0, "-1": 0, "1.5": 0, "soon": 0, " 1": 0,
		strconv.Itoa(math.MaxInt64): 0,
		"9223372036854":             9223372036854 * time.Millisecond,
		"9223372036855":             0,
	} {
		if got := envelope.TTL(nats.Header{subjects.HeaderTTL: {text}}); got != want {
			t.Errorf("%q is %s, want %s", text, got, want)
		}
	}
	// A time to live that ends after the last moment that can be counted.
	m := envelope.Message{Stored: 1, Header: nats.Header{subjects.HeaderTTL: {"9223372036854"}}}
	if m.Stored = math.MaxInt64 - 1; m.Expires() != 0 {
		t.Errorf("it expires at %d, want never", m.Expires())
	}
	if m.Stored = 1; m.Expires() != 1+9223372036854*int64(time.Millisecond) {
		t.Errorf("it expires at %d", m.Expires())
	}
}

func TestIDOfAStoredMessage(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		h    nats.Header
		want string
	}{
		{nil, "seq-7"},
		{nats.Header{subjects.HeaderID: {}}, "seq-7"},
		{nats.Header{"Nats-Msg-Id": {"b"}}, "b"},
		{nats.Header{subjects.HeaderID: {""}, "Nats-Msg-Id": {"b"}}, "b"},
		{nats.Header{subjects.HeaderID: {"a"}, "Nats-Msg-Id": {"b"}}, "a"},
	} {
		m := envelope.Message{Seq: 7, Header: c.h}
		if got := m.ID(); got != c.want {
			t.Errorf("the id of %v is %q, want %q", c.h, got, c.want)
		}
	}
}

// Whatever a service writes into headers and body, the device gets an envelope
// that decodes by the rules of the protocol, with the id and the time to live
// that the server goes by.
func FuzzAppend(f *testing.F) {
	f.Add("id", "note", "phone", "1000", "2026-01-02T03:04:05Z", "true", "a key", []byte(`{"a":1}`), true)
	f.Add("", "ack", "", "-1", "", "yes", "", []byte(nil), false)
	f.Add("\xff", "\x00", "service:x", "9223372036855", "yesterday", "", " ", []byte("{"), false)
	f.Add(strings.Repeat("x", 129), "Note", "server", "1e3", "2026-01-02 03:04:05Z", "TRUE", "\u202e", []byte("\xff"), false)
	f.Add("a\x00b", "response", "service:", "0", "2026-01-02T3:04:05Z", "false", "ü", []byte(strings.Repeat("[", 9_999)+strings.Repeat("]", 9_999)), false)
	f.Fuzz(func(t *testing.T, id, typ, from, ttl, at, ack, key string, body []byte, authentic bool) {
		to := subjects.Address{User: "alice", Device: "desk"}
		h := nats.Header{
			subjects.HeaderID: {id}, subjects.HeaderType: {typ}, subjects.HeaderFrom: {from}, subjects.HeaderTTL: {ttl},
			subjects.HeaderTimestamp: {at}, subjects.HeaderAck: {ack}, subjects.HeaderCorrelation: {key}, subjects.HeaderCollapse: {key},
			subjects.HeaderTrace: {key}, subjects.HeaderUser: {from},
		}
		m := envelope.Message{Key: to.Key(), Lane: subjects.High, Seq: 7, Stored: 1, Data: body, Authentic: authentic, Header: h}
		frame := envelope.Append(nil, &envelope.Delivery{Message: &m}, to)
		read, ok := envelope.Parse(nil, envelope.Stored{Subject: subjects.Inbox(m.Key, m.Lane), Seq: 7, Time: 1, Header: h, Data: body})
		if !ok {
			t.Fatal("an inbox's subject is not read")
		}
		read.Authentic = authentic
		if same := envelope.Append(nil, &envelope.Delivery{Message: read}, to); !bytes.Equal(same, frame) {
			t.Errorf("%s, but %s when it was read from the store", frame, same)
		}
		if read.BadHeader() != m.BadHeader() || read.HeaderBytes() != m.HeaderBytes() {
			t.Errorf("of %v %q cannot be used, in %d bytes; but %q in %d when it was read from the store", h, m.BadHeader(), m.HeaderBytes(), read.BadHeader(), read.HeaderBytes())
		}
		e := shown(t, frame)
		if e.ID != m.ID() || e.Seq != 7 || e.TTLMs != m.TTL().Milliseconds() || e.UserID != "alice" || e.RequiresAck != (ack == "true") {
			t.Errorf("%+v is not what the server goes by: id %q, time to live %s", e, m.ID(), m.TTL())
		}
		if !authentic && wire.IsControl(e.Type) {
			t.Errorf("%+v passes for one of RCCS's own", e)
		}
		if envelope.BadHeader(h) == "" && (id != "" && e.ID != id || at != "" && e.Timestamp != at || e.CollapseKey != key) {
			t.Errorf("%+v is not what headers say that are all fine: %v", e, h)
		}
		shown(t, envelope.AppendTopic(nil, nil, "a.b", envelope.Stored{Subject: "rccs.topic.a.b", Seq: 1 << 52, Time: 1, Header: h, Data: body}))
	})
}

// shown is what a device reads.
func shown(t *testing.T, frame []byte) wire.Envelope {
	t.Helper()
	all, err := wire.DecodeFrame(nil, frame)
	if err != nil || len(all) != 1 {
		t.Fatalf("%.300q: %v", frame, err)
	}
	if all[0].Err != nil {
		t.Fatalf("%.300q: %v", frame, all[0].Err)
	}
	return all[0].Envelope
}

func TestAHeaderThatCannotBeUsedIsNamed(t *testing.T) {
	t.Parallel()
	long := strings.Repeat("x", 129)
	for _, c := range []struct {
		h    nats.Header
		want string
	}{
		{nil, ""},
		{nats.Header{"Rccs-Id": {"a"}, "Rccs-Type": {"note"}, "Rccs-Ttl-Ms": {"1"}, "Rccs-Ack": {"false"}, "Rccs-Other": {"\xff"}}, ""},
		{nats.Header{"Rccs-Id": {""}, "Rccs-Type": {}}, ""},
		{nats.Header{"Rccs-Id": {long}}, "Rccs-Id"},
		{nats.Header{"Nats-Msg-Id": {long}}, "Nats-Msg-Id"},
		{nats.Header{"Nats-Msg-Id": {long}, "Rccs-Id": {"a"}}, ""},
		{nats.Header{"Rccs-Type": {"Note"}}, "Rccs-Type"},
		{nats.Header{"Rccs-From": {"a\u200bb"}}, "Rccs-From"},
		{nats.Header{"Rccs-Timestamp": {"yesterday"}}, "Rccs-Timestamp"},
		{nats.Header{"Rccs-Ttl-Ms": {"1s"}}, "Rccs-Ttl-Ms"},
		{nats.Header{"Rccs-Ttl-Ms": {"0"}}, "Rccs-Ttl-Ms"},
		{nats.Header{"Rccs-Ack": {"yes"}}, "Rccs-Ack"},
		{nats.Header{"Rccs-Correlation": {" a"}}, "Rccs-Correlation"},
		{nats.Header{"Rccs-Collapse": {"a\tb"}}, "Rccs-Collapse"},
		{nats.Header{"traceparent": {"\xff"}}, "traceparent"},
		{nats.Header{"Rccs-Priority": {"high"}}, "Rccs-Priority"},
	} {
		if got := envelope.BadHeader(c.h); got != c.want {
			t.Errorf("of %v %q cannot be used, want %q", c.h, got, c.want)
		}
	}
}
