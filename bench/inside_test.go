package bench

import (
	"encoding/json"
	"slices"
	"strings"
	"testing"
	"time"
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
		frame := p.appendMessage(nil, 42, 123456789)
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
		if got, err := scan(nil, frame); err != nil || !slices.Equal(got, []arrival{{n: 42, at: 123456789}}) {
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
		"one":          {`{"seq":7,"payload":{"n":1,"at":2,"pad":""}}`, []arrival{{1, 2, 7}}, ""},
		"seq last":     {`{"payload":{"n":1,"at":2,"pad":""},"seq":7}`, []arrival{{1, 2, 7}}, ""},
		"without seq":  {`{"payload":{"n":1,"at":2,"pad":""}}`, []arrival{{1, 2, 0}}, ""},
		"two":          {`[{"seq":7,"payload":{"n":1,"at":2}},{"seq":9,"payload":{"n":3,"at":4}}]`, []arrival{{1, 2, 7}, {3, 4, 9}}, ""},
		"accepted":     {`{"type":"ack","payload":{"status":"accepted","recipients":[{"seq":7}]}}`, nil, ""},
		"error":        {`{"type":"error","payload":{"code":"UNAVAILABLE"}}`, nil, "UNAVAILABLE"},
		"presence":     {`{"type":"presence","payload":{"deviceId":"right"}}`, nil, ""},
		"another's":    {`{"type":"request","payload":{}}`, nil, "not a message"},
		"one seq lost": {`[{"seq":7,"payload":{"n":1,"at":2}},{"payload":{"n":3,"at":4}}]`, nil, "not a message"},
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

func TestQuantile(t *testing.T) {
	t.Parallel()
	hundred := make(Samples, 100)
	for i := range hundred {
		hundred[99-i] = int64(i + 1)
	}
	hundred.sorted()
	for _, c := range []struct {
		s    Samples
		q    float64
		want time.Duration
	}{
		{nil, 0.5, 0},
		{Samples{3}, 0.999, 3},
		{hundred, 0, 1},
		{hundred, 0.5, 50},
		{hundred, 0.99, 99},
		{hundred, 0.999, 100},
		{hundred, 1, 100},
	} {
		if got := c.s.Quantile(c.q); got != c.want {
			t.Errorf("quantile %v of %d samples is %d, want %d", c.q, len(c.s), got, c.want)
		}
	}
}
