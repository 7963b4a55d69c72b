package wire_test

import (
	"bytes"
	"encoding/json"
	"reflect"
	"testing"
	"unicode/utf8"

	"github.com/rccs-io/rccs/wire"
)

func FuzzDecodeFrame(f *testing.F) {
	for _, v := range vectors(f, "frames") {
		f.Add(v.frame())
	}
	f.Add([]byte(typical))
	f.Fuzz(func(t *testing.T, frame []byte) {
		checkAgainstReference(t, frame)
		if _, err := wire.DecodeRegister(frame); err != nil && wire.AsError(err).Code != wire.BadMessage {
			t.Fatalf("registration refused with %v", err)
		}
	})
}

// FuzzAck holds DecodeAck to encoding/json, and what it takes to a round trip.
func FuzzAck(f *testing.F) {
	for _, v := range vectors(f, "acks") {
		f.Add(v.frame())
	}
	f.Fuzz(func(t *testing.T, payload []byte) {
		got, err := wire.DecodeAck(nil, payload)
		if want, ok := refAck(payload); ok != (err == nil) || ok && !sameAck(got, want) {
			t.Fatalf("payload %q: %+v, %v; reference %+v, %v", payload, got, err, want, ok)
		}
		if err != nil {
			return
		}
		items, err := wire.DecodeFrame(nil, got.Append(nil))
		if err != nil || items[0].Err != nil {
			t.Fatalf("%+v encodes to %q", got, got.Append(nil))
		}
		if len(got.Seqs) == 0 && got.UpTo == 0 && got.Cancel == "" && got.Reject.Seq == 0 {
			return // an empty list says nothing, and is not written
		}
		if again, err := wire.DecodeAck(nil, items[0].Payload); err != nil || !sameAck(again, got) {
			t.Fatalf("%+v came back as %+v, %v", got, again, err)
		}
	})
}

func sameAck(a, b wire.Ack) bool {
	return a.UpTo == b.UpTo && a.Cancel == b.Cancel && a.Reject == b.Reject && len(a.Seqs) == len(b.Seqs) &&
		(len(a.Seqs) == 0 || reflect.DeepEqual(a.Seqs, b.Seqs))
}

func refAck(payload []byte) (a wire.Ack, ok bool) {
	var o refObject
	if !utf8.Valid(payload) {
		// The payload of a frame is valid UTF-8; for any other the two may
		// differ in the text of an id, and nowhere else.
		got, err := wire.DecodeAck(nil, payload)
		return got, err == nil
	}
	if json.Unmarshal(payload, &o.members) != nil || o.members == nil {
		return a, false
	}
	if o.has("seq") {
		a.Seqs = append(a.Seqs, uint64(o.positive("seq")))
	}
	var list []json.RawMessage
	o.read("seqs", &list)
	for _, raw := range list {
		one := refObject{members: map[string]json.RawMessage{"n": raw}}
		a.Seqs = append(a.Seqs, uint64(one.positive("n")))
		o.bad = o.bad || one.bad || !one.has("n")
	}
	a.UpTo = uint64(o.positive("upTo"))
	a.Cancel = o.str("cancel")
	if o.has("reject") {
		var in refObject
		if json.Unmarshal(o.members["reject"], &in.members) != nil || !in.has("seq") {
			return a, false
		}
		a.Reject = wire.Reject{Seq: uint64(in.positive("seq")), Reason: in.prose("reason")}
		o.bad = o.bad || in.bad || len(a.Reject.Reason) > 256
	}
	if o.has("cancel") && !refKey(a.Cancel) {
		return a, false
	}
	return a, !o.bad && (o.has("seq") || o.has("seqs") || o.has("upTo") || o.has("cancel") || o.has("reject"))
}

// FuzzAccepted holds what is read in the common form to what encoding/json
// makes of it.
func FuzzAccepted(f *testing.F) {
	for _, recipients := range [][]wire.Recipient{nil, {{DeviceID: "desk", Seq: 7}}, {{DeviceID: "a", Seq: 1 << 63}, {DeviceID: "b"}}} {
		for _, duplicate := range []bool{false, true} {
			a := wire.Accepted{OriginalID: "message-1", Recipients: recipients, Duplicate: duplicate}
			f.Add(a.AppendPayload(nil))
		}
	}
	f.Add([]byte(`{"originalMessageId":"m","status":"accepted","recipients":[{"deviceId":"d","seq":07}],"duplicate":false}`))
	f.Add([]byte(`{"originalMessageId":"m","status":"accepted","recipients":[{"deviceId":"d","seq":99999999999999999999}],"duplicate":false}`))
	f.Add([]byte(`{"originalMessageId":"m\n","status":"accepted","recipients":[{"deviceId":"d"},],"duplicate":true} `))
	f.Fuzz(func(t *testing.T, payload []byte) {
		want := new(wire.Answer)
		wantErr := json.Unmarshal(payload, want)
		got, err := wire.DecodeAnswer(payload)
		if (err == nil) != (wantErr == nil) {
			t.Fatalf("DecodeAnswer(%s): %v, encoding/json says %v", payload, err, wantErr)
		}
		if err == nil && !reflect.DeepEqual(got, want) {
			t.Fatalf("DecodeAnswer(%s) = %+v, encoding/json reads %+v", payload, got, want)
		}
	})
}

// FuzzPayloads gives the same bytes to every payload codec.
func FuzzPayloads(f *testing.F) {
	all := codecs()
	for dir := range all {
		for _, v := range vectors(f, dir) {
			f.Add(v.frame())
		}
	}
	f.Add([]byte(`{"taskId":"\u0061"}`))
	f.Fuzz(func(t *testing.T, payload []byte) {
		if !utf8.Valid(payload) {
			return // a frame is UTF-8, and a payload is cut out of one
		}
		for name, c := range all {
			checkTaken(t, name, c, payload)
			checkTravels(t, name, c, payload)
		}
		var task struct{ members map[string]any }
		want := ""
		if bytes.Contains(payload, []byte(`\u`)) {
			return // an escape of half a pair stays as it is
		}
		if json.Unmarshal(payload, &task.members) == nil {
			want, _ = task.members["taskId"].(string)
		}
		if got := wire.TaskID(payload); json.Valid(payload) && got != want {
			t.Fatalf("TaskID(%s) = %q, want %q", payload, got, want)
		}
	})
}
