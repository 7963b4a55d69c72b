package edge_test

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/nats-io/nats.go"

	"github.com/rccs-io/rccs/subjects"
)

// The way back of a service's request is open for two minutes, so that a device
// must not be told of more. A service that gives up tells the device so.
func TestServicesRequestHasTheTimeThatItsWayHolds(t *testing.T) {
	t.Parallel()
	w := newWorld(t, nil)
	d := w.connect()
	nc := w.env.Conn(t)
	ask := func(id, timeout string) int64 {
		t.Helper()
		m := &nats.Msg{Subject: subjects.RPC(phone, "work"), Reply: nats.NewInbox(), Header: nats.Header{subjects.HeaderID: {id}}}
		if timeout != "" {
			m.Header[subjects.HeaderTimeout] = []string{timeout}
		}
		check(t, nc.PublishMsg(m))
		kind, body := d.Next()
		var e struct {
			ID      string
			Payload struct{ TimeoutMs int64 }
		}
		check(t, json.Unmarshal([]byte(body), &e))
		if kind != "request" || e.ID != id {
			t.Fatalf("the device got %s", body)
		}
		return e.Payload.TimeoutMs
	}
	for timeout, want := range map[string]int64{"": 110_000, "300000": 110_000, "9223372036854775807": 110_000, "5000": 5000} {
		if got := ask("r"+timeout, timeout); got != want {
			t.Errorf("asked for %q: the device was told %d ms, want %d", timeout, got, want)
		}
	}
	check(t, nc.PublishMsg(&nats.Msg{Subject: subjects.RPC(phone, "work"), Header: nats.Header{subjects.HeaderCancel: {"r5000"}}}))
	if kind, body := d.Next(); kind != "ack" || !strings.Contains(body, `"cancel":"r5000"`) {
		t.Errorf("of the cancellation the device was told %s", body)
	}
}
