package edge_test

import (
	"strings"
	"testing"

	"github.com/rccs-io/rccs/auth"
	"github.com/rccs-io/rccs/edge"
	"github.com/rccs-io/rccs/subjects"
)

// presenceOf reads the next presence.
func (d *device) presenceOf() string {
	d.t.Helper()
	for {
		if kind, body := d.Next(); kind == "presence" {
			return body
		}
	}
}

func (w *world) delayed(name string) *device {
	w.t.Helper()
	d := w.dial()
	d.Send(`{"type":"device_register","id":"r","payload":{"authToken":"` + w.token(name) + `","offlineDelayMs":300000}}`)
	if kind, body := d.Next(); kind != "ack" {
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
	phone.Send(`{"type":"device_status","id":"s","payload":{"status":"busy","note":"in a call"}}`)
	if body := desk.presenceOf(); !strings.Contains(body, `"status":"busy"`) {
		t.Errorf("told %s", body)
	}
	check(t, phone.NetConn().Close())
	eventually(t, "the end", func() bool { return w.edge.Connections() == 1 })
	for kind := ""; kind != "error"; {
		desk.Send(`{"type":"request","id":"q","toDeviceId":"phone","payload":{"method":"m","timeoutMs":1000}}`)
		var body string
		if kind, body = desk.Next(); kind == "presence" || kind == "error" && !strings.Contains(body, "DEVICE_OFFLINE") && !strings.Contains(body, "TIMEOUT") {
			t.Fatalf("told %s", body)
		}
	}
	desk.Send(`{"type":"device_list","id":"l"}`)
	if _, body := desk.Next(); !strings.Contains(body, `"status":"busy"`) || !strings.Contains(body, "in a call") {
		t.Errorf("listed as %s", body)
	}
	phone = w.delayed("alice/phone")
	phone.Send(`{"type":"device_status","id":"s","payload":{"status":"away"}}`)
	if body := desk.presenceOf(); !strings.Contains(body, `"status":"away"`) {
		t.Errorf("after the return others are told %s", body)
	}
	phone.Send(`{"type":"device_unregister","id":"u"}`)
	if body := desk.presenceOf(); !strings.Contains(body, `"status":"offline"`) {
		t.Errorf("told %s", body)
	}
}

// A device that is held back cannot come back once its credential is revoked:
// others are told at once. Another that is held back stays as it was.
func TestADeviceThatIsRevokedWhileAwayIsOfflineAtOnce(t *testing.T) {
	t.Parallel()
	var verifier *auth.Verifier
	w := newWorld(t, func(o *edge.Options) { verifier = o.Verifier })
	desk := w.named("alice/desk")
	for _, name := range []string{"alice/tablet", "alice/phone"} {
		away := w.delayed(name)
		if body := desk.presenceOf(); !strings.Contains(body, `"status":"online"`) {
			t.Errorf("told %s", body)
		}
		check(t, away.NetConn().Close())
	}
	eventually(t, "the end", func() bool { return w.edge.Connections() == 1 })
	account, err := w.keys.Revoke(subjects.Address{User: "alice", Device: "phone"})
	check(t, err)
	check(t, verifier.Update(account.JWT))
	w.edge.Recheck()
	if body := desk.presenceOf(); !strings.Contains(body, `"deviceId":"phone","status":"offline"`) {
		t.Errorf("told %s", body)
	}
	desk.Send(`{"type":"device_list","id":"l"}`)
	if _, body := desk.Next(); !strings.Contains(body, `"id":"tablet","status":"online"`) && strings.Count(body, `"status":"online"`) != 2 {
		t.Errorf("listed as %s", body)
	}
}
