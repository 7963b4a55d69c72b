package e2e_test

import (
	"testing"
	"time"
)

// wantPresence is the next word, which must be of the desktop.
func (d *device) wantPresence(status string) presence {
	d.t.Helper()
	const device = "desktop"
	p := d.heard()
	if p.DeviceID != device || p.Status != status {
		d.t.Fatalf("%s: heard %+v, want %s %s", d.name, p, device, status)
	}
	if _, err := time.Parse(time.RFC3339, p.LastSeen); err != nil {
		d.t.Errorf("%s: lastSeen of %+v: %v", d.name, p, err)
	}
	return p
}

// unmoved fails the test when anything is told of other devices for a while.
func (d *device) unmoved(while time.Duration) {
	d.t.Helper()
	select {
	case e := <-d.presence:
		d.t.Fatalf("%s: heard %s", d.name, e.raw)
	case <-time.After(while):
	}
}

type listed struct {
	ID           string         `json:"id"`
	Type         string         `json:"type"`
	Platform     string         `json:"platform"`
	Version      string         `json:"version"`
	Capabilities map[string]any `json:"capabilities"`
	Status       string         `json:"status"`
	LastSeen     string         `json:"lastSeen"`
}

// list is the answer to device_list, by name.
func (d *device) list() map[string]listed {
	d.t.Helper()
	d.send(object{"id": newID(), "type": "device_list", "payload": object{}})
	e := d.pick(false)
	var a struct{ Devices []listed }
	decode(d.t, e.Payload, &a)
	all := map[string]listed{}
	for _, v := range a.Devices {
		all[v.ID] = v
	}
	return all
}

func TestProtocol_4_PresenceIsToldOnceForEachChange(t *testing.T) {
	t.Parallel()
	s, u := serverAndUser(t)
	phone := connect(t, s, u+"/phone", object{"type": "mobile"})
	desktop := connect(t, s, u+"/desktop", nil)
	if p := phone.wantPresence("online"); p.Type != "desktop" {
		t.Errorf("type %q", p.Type)
	}
	for _, status := range []string{"away", "busy", "online"} {
		desktop.send(object{"id": newID(), "type": "device_status", "payload": object{"status": status}})
		if a := desktop.wantAck(); a.Status != "success" {
			t.Errorf("answered with %+v", a)
		}
		phone.wantPresence(status)
		if got := phone.list()["desktop"].Status; got != status {
			t.Errorf("listed as %s, told %s", got, status)
		}
	}
	desktop.send(object{"id": newID(), "type": "device_status", "payload": object{"status": "asleep"}})
	desktop.wantError("BAD_MESSAGE")
	// A takeover changes nothing.
	again := connect(t, s, u+"/desktop", nil)
	if !again.session.Resumed || again.session.SessionID != desktop.session.SessionID {
		t.Errorf("the session %s was taken over as %+v", desktop.session.SessionID, again.session)
	}
	desktop.wantReplaced()
	phone.unmoved(2 * quiet)
	again.close() // cut, not closed
	phone.wantPresence("offline")
	third := connect(t, s, u+"/desktop", nil)
	phone.wantPresence("online")
	if !third.session.Resumed || third.session.SessionID != again.session.SessionID {
		t.Errorf("not resumed: %+v", third.session)
	}
	third.leave()
	phone.wantPresence("offline")
	fourth := connect(t, s, u+"/desktop", nil)
	phone.wantPresence("online")
	if fourth.session.Resumed || fourth.session.SessionID == third.session.SessionID {
		t.Errorf("an ended session was resumed: %+v", fourth.session)
	}
	phone.unmoved(quiet)
}

func TestProtocol_4_DeviceListShowsEveryDeviceOfTheUser(t *testing.T) {
	t.Parallel()
	s, u := serverAndUser(t)
	about := object{"type": "watch", "platform": "tiny", "version": "1.2", "capabilities": object{"supportsNotifications": true}}
	connect(t, s, u+"/watch", about).leave()
	phone := connect(t, s, u+"/phone", object{"type": "mobile"})
	all := phone.list()
	if len(all) != 2 {
		t.Fatalf("listed %+v", all)
	}
	w := all["watch"]
	if w.Type != "watch" || w.Platform != "tiny" || w.Version != "1.2" || w.Capabilities["supportsNotifications"] != true || w.Status != "offline" {
		t.Errorf("listed %+v", w)
	}
	if all["phone"].Status != "online" {
		t.Errorf("listed %+v", all["phone"])
	}
	for _, v := range all {
		if _, err := time.Parse(time.RFC3339, v.LastSeen); err != nil {
			t.Errorf("lastSeen of %+v: %v", v, err)
		}
	}
}

func TestProtocol_4_AForgottenDeviceIsGone(t *testing.T) {
	t.Parallel()
	s, u := serverAndUser(t)
	phone := connect(t, s, u+"/phone", object{"type": "mobile"})
	old := connect(t, s, u+"/old", nil)
	phone.give("old", "unread", nil)
	old.wantMessage(`"unread"`)
	id := newID()
	old.send(object{"id": id, "type": "device_unregister", "payload": object{"forget": true}})
	if a := old.wantAck(); a.OriginalMessageID != id || a.Status != "success" {
		t.Errorf("answered with %+v", a)
	}
	old.wantClose(1000)
	eventually(t, func() error {
		if _, there := phone.list()["old"]; there {
			return errLate
		}
		return nil
	})
	phone.send(object{"id": "m", "type": "note", "toDeviceId": "old", "payload": 1})
	phone.wantError("DEVICE_NOT_FOUND")
	back := connect(t, s, u+"/old", nil)
	if back.session.Pending != 0 || back.session.Resumed {
		t.Errorf("the forgotten inbox is back: %+v", back.session)
	}
	back.silent(quiet)
}

func TestProtocol_4_ACutNetworkIsToldWithinOneAndAHalfHeartbeats(t *testing.T) {
	t.Parallel()
	s, u := serverAndUser(t)
	phone := connect(t, s, u+"/phone", object{"type": "mobile"})
	begin := time.Now()
	connectBy(t, s, u+"/desktop", dialing{deaf: true}, object{"heartbeatMs": 5000})
	phone.wantPresence("online")
	phone.wantPresence("offline")
	if took := time.Since(begin); took < 5*time.Second {
		t.Errorf("told after %v", took)
	}
}
