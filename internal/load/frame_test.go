package load

import (
	"encoding/json"
	"fmt"
	"slices"
	"testing"
)

// What is sent is an envelope with a payload of its size, and is found again.
func TestFrames(t *testing.T) {
	t.Parallel()
	sent := arrival{run: 1 << 60, flow: topicFlow, n: 42, at: 123456789}
	for _, size := range []int{MinBytes, 256, 5000} {
		for kind, frame := range map[string][]byte{
			"user_message": appendMessage(nil, "r\"ight", sent, Options{Bytes: size, Receipts: true}),
			"publish":      appendPublish(nil, "bench.x", sent, size),
		} {
			var e struct {
				ID, Type, ToDeviceID string
				Payload              json.RawMessage
			}
			if err := json.Unmarshal(frame, &e); err != nil {
				t.Fatal(err)
			}
			payload := e.Payload
			if kind == "publish" {
				var p struct {
					Topic string
					Data  json.RawMessage
				}
				if err := json.Unmarshal(payload, &p); err != nil || p.Topic != "bench.x" {
					t.Fatal(err, p.Topic)
				}
				payload = p.Data
			} else if e.ToDeviceID != "r\"ight" {
				t.Errorf("to %q", e.ToDeviceID)
			}
			if e.Type != kind || len(payload) != size {
				t.Errorf("%s with %d bytes, want %s with %d", e.Type, len(payload), kind, size)
			}
			got, ok := scan(fmt.Appendf(nil, `{"redelivered":true,"seq":7,"payload":%s}`, payload))
			want := sent
			want.seq, want.again = 7, true
			if !ok || got != want {
				t.Errorf("found %+v, want %+v", got, want)
			}
		}
	}
}

func TestOtherFramesAreNot(t *testing.T) {
	t.Parallel()
	for _, frame := range []string{
		``, `{}`, `{"payload":{"run":1}}`, `{"payload":{"run":1,"flow":2}}`, `{"payload":{"run":1,"flow":2,"n":3}}`,
		`{"type":"ack","payload":{"status":"accepted"}}`, `{"payload":{"flow":2,"run":1}}`,
	} {
		if a, ok := scan([]byte(frame)); ok {
			t.Errorf("%s is taken for %+v", frame, a)
		}
	}
}

func FuzzScan(f *testing.F) {
	f.Add(appendMessage(nil, "right", arrival{run: 1, flow: 2, n: 3, at: 4}, Options{Bytes: MinBytes}))
	f.Add([]byte(`{"payload":{"run":1,"flow":2,"n":3,"at":4},"seq":5,"redelivered":true}`))
	f.Add([]byte(`{"seq":`))
	f.Fuzz(func(t *testing.T, frame []byte) {
		a, ok := scan(frame)
		if !ok {
			return
		}
		a.seq, a.again = 0, false
		if a.at < 0 {
			return // it was no time of ours
		}
		again, ok := scan(fmt.Appendf(nil, `{"payload":%s}`, appendPayload(nil, a, MinBytes)))
		if !ok || again != a {
			t.Errorf("%+v, then %+v", a, again)
		}
	})
}

func TestEnvelopesOfAFrame(t *testing.T) {
	t.Parallel()
	for frame, want := range map[string][]string{
		`{"a":1}`:                       {`{"a":1}`},
		`[]`:                            nil,
		`[{"a":{"b":"}\"{"}},{"c":[]}]`: {`{"a":{"b":"}\"{"}}`, `{"c":[]}`},
		`[{"a":"\\"},{"b":"]"},{}]`:     {`{"a":"\\"}`, `{"b":"]"}`, `{}`},
		`[{"cut off":`:                  nil,
		``:                              {``},
	} {
		var got []string
		for e := range envelopes([]byte(frame)) {
			got = append(got, string(e))
		}
		if !slices.Equal(got, want) {
			t.Errorf("%s has %q, want %q", frame, got, want)
		}
	}
}
