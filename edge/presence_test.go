package edge_test

import (
	"strings"
	"testing"
)

// presenceOf reads the next presence.
func (d *device) presenceOf() string {
	d.t.Helper()
	for {
		if kind, body := d.next(); kind == "presence" {
			return body
		}
	}
}

func (w *world) delayed(name string) *device {
	w.t.Helper()
	d := w.dial()
	d.send(`{"type":"device_register","id":"r","payload":{"authToken":"` + w.token(name) + `","offlineDelayMs":300000}}`)
	if kind, body := d.next(); kind != "ack" {
		w.t.Fatalf("registered with %s", body)
	}
	return d
}

// A device that asked for it and is back in time was never away for others. To
// requests it is offline at once, and unregistering is no lost connection.
func TestLostConnectionIsHeldBackFromPresence(t *testing.T) {
	t.Parallel()
	w := newWorld(t, nil)
	desk := w.named("alice/desk")
	phone := w.delayed("alice/phone")
	if body := desk.presenceOf(); !strings.Contains(body, `"status":"online"`) {
		t.Errorf("told %s", body)
	}
	phone.send(`{"type":"device_status","id":"s","payload":{"status":"busy","note":"in a call"}}`)
	if body := desk.presenceOf(); !strings.Contains(body, `"status":"busy"`) {
		t.Errorf("told %s", body)
	}
	check(t, phone.NetConn().Close())
	eventually(t, "the end", func() bool { return w.edge.Connections() == 1 })
	for kind := ""; kind != "error"; {
		desk.send(`{"type":"request","id":"q","toDeviceId":"phone","payload":{"method":"m","timeoutMs":1000}}`)
		var body string
		if kind, body = desk.next(); kind == "presence" || kind == "error" && !strings.Contains(body, "DEVICE_OFFLINE") && !strings.Contains(body, "TIMEOUT") {
			t.Fatalf("told %s", body)
		}
	}
	desk.send(`{"type":"device_list","id":"l"}`)
	if _, body := desk.next(); !strings.Contains(body, `"status":"busy"`) || !strings.Contains(body, "in a call") {
		t.Errorf("listed as %s", body)
	}
	phone = w.delayed("alice/phone")
	phone.send(`{"type":"device_status","id":"s","payload":{"status":"away"}}`)
	if body := desk.presenceOf(); !strings.Contains(body, `"status":"away"`) {
		t.Errorf("after the return others are told %s", body)
	}
	phone.send(`{"type":"device_unregister","id":"u"}`)
	if body := desk.presenceOf(); !strings.Contains(body, `"status":"offline"`) {
		t.Errorf("told %s", body)
	}
}
