package envelope_test

import (
	"encoding/json"
	"math"
	"strconv"
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

func decode(t *testing.T, frame []byte, into any) {
	t.Helper()
	if err := json.Unmarshal(frame, into); err != nil {
		t.Fatalf("%s: %v", frame, err)
	}
}

// Whatever a service writes into headers, the device gets an envelope that it
// can read, with the id and the time to live that the server goes by.
func FuzzAppend(f *testing.F) {
	f.Add("id", "note", "phone", "1000", "2026-01-02T03:04:05Z", "true", []byte(`{"a":1}`), true)
	f.Add("", "ack", "", "-1", "", "yes", []byte(nil), false)
	f.Add("\xff", "\x00", "service:x", "9223372036855", "yesterday", "", []byte("{"), false)
	f.Fuzz(func(t *testing.T, id, typ, from, ttl, at, ack string, body []byte, authentic bool) {
		to := subjects.Address{User: "alice", Device: "desk"}
		m := envelope.Message{Key: to.Key(), Lane: subjects.High, Seq: 7, Stored: 1, Data: body, Authentic: authentic, Header: nats.Header{
			subjects.HeaderID: {id}, subjects.HeaderType: {typ}, subjects.HeaderFrom: {from}, subjects.HeaderTTL: {ttl},
			subjects.HeaderTimestamp: {at}, subjects.HeaderAck: {ack},
		}}
		frame := envelope.Append(nil, &envelope.Delivery{Message: &m}, to)
		var e struct {
			ID     string `json:"id"`
			Seq    uint64 `json:"seq"`
			TTLMs  int64  `json:"ttlMs"`
			ToUser string `json:"userId"`
		}
		decode(t, frame, &e)
		if e.ID != m.ID() || e.Seq != 7 || e.TTLMs != m.TTL().Milliseconds() || e.ToUser != "alice" {
			t.Errorf("%s is not what the server goes by: id %q, time to live %s", frame, m.ID(), m.TTL())
		}
		if !authentic && typ == wire.TypeAck && from == "" {
			var shown struct {
				Type string `json:"type"`
			}
			if decode(t, frame, &shown); shown.Type == wire.TypeAck {
				t.Errorf("%s passes for an outcome", frame)
			}
		}
	})
}
