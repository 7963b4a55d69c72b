package bench

import (
	"encoding/json"
	"slices"
	"strings"
	"testing"
)

// The load must be what it says it is: an envelope, with a payload of the size
// given, that scan finds again.
func TestMessage(t *testing.T) {
	t.Parallel()
	for _, receipts := range []bool{false, true} {
		p := &pair{
			fleet:  &Fleet{opts: Options{Receipts: receipts}},
			prefix: "run-", receiver: &device{name: Name{"u", "right"}},
		}
		frame := p.appendMessage(nil, 42)
		var e struct {
			ID, Type, ToDeviceID string
			RequiresAck          bool
			Payload              json.RawMessage
		}
		if err := json.Unmarshal(frame, &e); err != nil {
			t.Fatal(err)
		}
		if e.ID != "run-42" || e.ToDeviceID != "right" || e.RequiresAck != receipts || len(e.Payload) != PayloadBytes {
			t.Errorf("envelope %s", frame)
		}
		if got, err := scan(nil, frame); err != nil || !slices.Equal(got, []arrival{{n: 42}}) {
			t.Errorf("scan found %v, error %v", got, err)
		}
	}
}

func TestScan(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		frame string
		want  []arrival
		err   string
	}{
		"one":          {`{"seq":7,"payload":{"n":1,"pad":""}}`, []arrival{{1, 7}}, ""},
		"seq last":     {`{"payload":{"n":1,"pad":""},"seq":7}`, []arrival{{1, 7}}, ""},
		"without seq":  {`{"payload":{"n":1,"pad":""}}`, []arrival{{1, 0}}, ""},
		"two":          {`[{"seq":7,"payload":{"n":1}},{"seq":9,"payload":{"n":3}}]`, []arrival{{1, 7}, {3, 9}}, ""},
		"accepted":     {`{"type":"ack","payload":{"status":"accepted","recipients":[{"seq":7}]}}`, nil, ""},
		"error":        {`{"type":"error","payload":{"code":"UNAVAILABLE"}}`, nil, "UNAVAILABLE"},
		"presence":     {`{"type":"presence","payload":{"deviceId":"right"}}`, nil, ""},
		"another's":    {`{"type":"request","payload":{}}`, nil, "not a message"},
		"one seq lost": {`[{"seq":7,"payload":{"n":1}},{"payload":{"n":3}}]`, nil, "not a message"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			got, err := scan(nil, []byte(c.frame))
			if c.err != "" {
				if err == nil || !strings.Contains(err.Error(), c.err) {
					t.Fatalf("error %v, want one with %q", err, c.err)
				}
				return
			}
			if err != nil || !slices.Equal(got, c.want) {
				t.Errorf("found %v, want %v, error %v", got, c.want, err)
			}
		})
	}
}
