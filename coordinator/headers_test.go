package coordinator_test

import (
	"slices"
	"strings"
	"testing"

	"github.com/nats-io/nats.go"

	"github.com/rccs-io/rccs/internal/layout"
	"github.com/rccs-io/rccs/subjects"
)

// The headers of a device's request on plain NATS are read by nobody: none
// comes with what is stored of it.
func TestHeadersOfADevicesRequestReachNoStream(t *testing.T) {
	t.Parallel()
	p, e := placeWithEdge(t)
	p.register(e, "alice/desk", "desktop")
	p.coordinate()
	d := p.device("alice/phone")
	desk := address("alice/desk").Key()
	p.publish(subjects.Inbox(desk, subjects.Normal), `"before"`)
	hostile := nats.Header{
		"Nats-Rollup": {"all"}, "Nats-TTL": {"1s"}, "Nats-Incr": {"1"}, "Nats-Expected-Stream": {"NONE"},
		"Nats-Expected-Last-Sequence": {"99"}, "Nats-Schedule": {"@at 2030-01-01T00:00:00Z"}, "Nats-Schedule-Target": {layout.Cursor(desk)},
		"Nats-Schedule-TTL": {"1s"}, "Nats-Batch-Id": {"b"}, "Nats-Batch-Sequence": {"1"}, "Nats-Batch-Commit": {"1"}, "Nats-Msg-Id": {"mine"},
		subjects.HeaderFrom: {"desk"}, subjects.HeaderUser: {"bob"}, layout.HeaderReplay: {"true"}, subjects.HeaderAck: {"true"},
	}
	for endpoint, body := range map[string]string{
		"send": `{"id":"s","type":"note","payload":1,"toDeviceId":"desk"}`,
		"up":   `{"id":"u","type":"note","payload":1}`,
	} {
		answer, err := d.nc.RequestMsgWithContext(p.ctx(), &nats.Msg{Subject: subjects.DeviceEndpoint(d.key, endpoint), Header: hostile, Data: []byte(body)})
		if err != nil || answer.Header.Get("Nats-Service-Error") != "" {
			t.Fatalf("%s: %v, %v", endpoint, answer, err)
		}
	}
	inbox := p.stored(layout.StreamInbox, subjects.Inbox(desk, subjects.Normal))
	up := p.stored(subjects.StreamUp, subjects.Up(d.key, "note"))
	if len(inbox) != 2 || len(up) != 1 {
		t.Fatalf("%d are in the inbox and %d for services, want 2 and 1", len(inbox), len(up))
	}
	for _, m := range append(inbox[1:], up...) {
		for name, values := range m.Header {
			if name != nats.MsgIdHdr && strings.HasPrefix(name, "Nats-") && hostile[name] != nil || slices.Equal(values, hostile[name]) {
				t.Errorf("%s has %s: %q", m.Subject, name, values)
			}
		}
	}
	if got := p.stored(layout.StreamCursor, layout.Cursor(desk)); len(got) != 0 {
		t.Errorf("the cursor is %q", got[0].Data)
	}
}
