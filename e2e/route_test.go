package e2e_test

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"
)

// household is a user with a device of each kind. Each is connected.
func household(t *testing.T, s *server) (u string, all map[string]*device) {
	t.Helper()
	u = user(t)
	all = map[string]*device{}
	for name, about := range map[string]object{
		"phone":   {"type": "mobile", "capabilities": object{"supportsNotifications": true}},
		"watch":   {"type": "watch", "capabilities": object{"supportsNotifications": true, "supportsFileSync": false}},
		"desktop": {"type": "desktop", "capabilities": object{"supportsFileSync": true, "supportedFormats": []string{"png"}}},
		"editor":  {"type": "extension", "capabilities": object{"supportsFileSync": true, "maxFileSize": 0}},
	} {
		all[name] = connect(t, s, u+"/"+name, about)
	}
	return u, all
}

// spread sends an envelope and returns the devices that were told to have it,
// after it has reached each.
func spread(t *testing.T, all map[string]*device, from string, e object) []string {
	t.Helper()
	e = maps.Clone(e)
	e["id"], e["requiresAck"] = newID(), true
	if e["payload"] == nil {
		e["payload"] = object{"n": 1}
	}
	all[from].send(e)
	a := all[from].wantAck()
	if a.Status != "accepted" || a.OriginalMessageID != e["id"] {
		t.Fatalf("%v answered with %+v", e, a)
	}
	names := []string{}
	for _, r := range a.Recipients {
		names = append(names, r.DeviceID)
		got := all[r.DeviceID].message()
		if got.ID != e["id"] || got.Seq != r.Seq || got.FromDeviceID != from {
			t.Errorf("%s got %s, want message %v with seq %d", r.DeviceID, got.raw, e["id"], r.Seq)
		}
		all[r.DeviceID].ack(got.Seq)
		all[r.DeviceID].beat() // it was processed
	}
	slices.Sort(names)
	return names
}

func TestProtocol_4_RoutingByTypeAndSelector(t *testing.T) {
	t.Parallel()
	s := use(t)
	_, all := household(t, s)
	for _, c := range []struct {
		from, want string
		e          object
	}{
		{"phone", "desktop editor watch", object{"type": "user_message"}},
		{"desktop", "editor phone watch", object{"type": "user_response"}},
		{"watch", "desktop editor phone", object{"type": "something.else"}},
		{"phone", "desktop editor", object{"type": "file_sync"}},
		{"desktop", "editor", object{"type": "file_upload"}},
		{"desktop", "phone watch", object{"type": "notification"}},
		{"phone", "watch", object{"type": "notification"}},
		{"phone", "desktop phone", object{"type": "device_handoff", "toDeviceId": "desktop"}},
		{"phone", "desktop", object{"type": "note", "to": object{"deviceType": "desktop"}}},
		{"phone", "desktop editor", object{"type": "note", "to": object{"capability": "supportsFileSync"}}},
		{"phone", "desktop", object{"type": "note", "to": object{"capability": "supportedFormats", "mode": "all"}}},
		{"phone", "desktop editor watch", object{"type": "note", "to": object{}}},
		{"phone", "desktop editor watch", object{"type": "note", "to": object{"mode": "all"}}},
		{"phone", "watch", object{"type": "task_start", "to": object{"device": "watch"}}},
		{"phone", "phone", object{"type": "note", "toDeviceId": "phone"}},
	} {
		got := strings.Join(spread(t, all, c.from, c.e), " ")
		if got != c.want {
			t.Errorf("%v from %s went to %q, want %q", c.e, c.from, got, c.want)
		}
	}
	for _, d := range all {
		d.beat() // and nothing else came
	}
}

func TestProtocol_4_NobodyToHoldItIsDeviceNotFound(t *testing.T) {
	t.Parallel()
	s := use(t)
	d := connect(t, s, user(t)+"/alone", object{"type": "mobile"})
	for _, e := range []object{
		{"type": "user_message"},
		{"type": "task_start", "payload": object{"taskId": "t"}},
		{"type": "notification"},
		{"type": "file_delete"},
		{"type": "note", "to": object{"deviceType": "desktop"}},
		{"type": "note", "to": object{"deviceType": "desktop", "mode": "any"}},
		{"type": "note", "to": object{"capability": "x"}},
		{"type": "request", "toDeviceId": "nobody", "payload": object{"method": "m"}},
	} {
		e["id"] = newID()
		if e["payload"] == nil {
			e["payload"] = 1
		}
		d.send(e)
		if f := d.wantError("DEVICE_NOT_FOUND"); f.OriginalMessageID != e["id"] {
			t.Errorf("%v: the error is about %q", e, f.OriginalMessageID)
		}
	}
}

func TestProtocol_4_AnyIsTheOnlineDeviceMostRecentlyActive(t *testing.T) {
	t.Parallel()
	s, u := serverAndUser(t)
	all := map[string]*device{"phone": connect(t, s, u+"/phone", object{"type": "mobile"})}
	for i := range 3 {
		name := fmt.Sprintf("desk%d", i)
		all[name] = connect(t, s, u+"/"+name, nil)
	}
	for _, active := range []string{"desk1", "desk0", "desk2", "desk0"} {
		all[active].send(object{"id": newID(), "type": "device_list", "payload": object{}})
		all[active].wantAck()
		for _, other := range []string{"desk0", "desk1", "desk2"} {
			all[other].beat() // a heartbeat is no activity
		}
		got := spread(t, all, "phone", object{"type": "note", "to": object{"deviceType": "desktop", "mode": "any"}})
		if !slices.Equal(got, []string{active}) {
			t.Errorf("went to %v, want %s", got, active)
		}
		if got := spread(t, all, "phone", object{"type": "task_start", "payload": object{"taskId": newID()}}); !slices.Equal(got, []string{active}) {
			t.Errorf("the task went to %v, want %s", got, active)
		}
	}
}

func TestProtocol_4_ATaskStaysWithItsDevice(t *testing.T) {
	t.Parallel()
	s := start(t)
	u := user(t)
	all := map[string]*device{
		"phone": connect(t, s, u+"/phone", object{"type": "mobile"}),
		"one":   connect(t, s, u+"/one", nil),
	}
	task := object{"taskId": "build 7/ä", "more": []int{1}}
	if got := spread(t, all, "phone", object{"type": "task_start", "payload": task}); !slices.Equal(got, []string{"one"}) {
		t.Fatalf("went to %v", got)
	}
	all["two"] = connect(t, s, u+"/two", object{"type": "extension"})
	all["two"].send(object{"id": newID(), "type": "device_list", "payload": object{}})
	all["two"].wantAck() // most recently active now
	if got := spread(t, all, "phone", object{"type": "task_pause", "payload": task}); !slices.Equal(got, []string{"one"}) {
		t.Errorf("the task moved to %v", got)
	}
	all["one"].leave()
	phone := all["phone"]
	phone.send(object{"id": "away", "type": "task_status", "payload": task, "requiresAck": true})
	if a := phone.wantAck(); len(a.Recipients) != 1 || a.Recipients[0].DeviceID != "one" {
		t.Errorf("with its device away the task's message went to %+v", a.Recipients)
	}
	s.cycle(t)
	all["phone"] = connect(t, s, u+"/phone", object{"type": "mobile"})
	all["two"] = connect(t, s, u+"/two", object{"type": "extension"})
	all["one"] = connect(t, s, u+"/one", nil)
	if e := all["one"].message(); e.ID != "away" {
		t.Errorf("got %s", e.raw)
	}
	if got := spread(t, all, "phone", object{"type": "task_cancel", "payload": task}); !slices.Equal(got, []string{"one"}) {
		t.Errorf("after a restart the task went to %v", got)
	}
}

func TestProtocol_4_ATaskWaitsForTheFirstDeviceToCome(t *testing.T) {
	t.Parallel()
	s, u := serverAndUser(t)
	s.register(t, u+"/one")
	s.register(t, u+"/two")
	phone := connect(t, s, u+"/phone", object{"type": "mobile"})
	types := []string{"task_start", "task_pause", "task_resume"}
	for _, typ := range types {
		id := newID()
		phone.send(object{"id": id, "type": typ, "payload": object{"taskId": "t"}, "requiresAck": true})
		if a := phone.wantAck(); a.Status != "accepted" || len(a.Recipients) != 0 || a.OriginalMessageID != id {
			t.Fatalf("%s answered with %+v", typ, a)
		}
	}
	two := connect(t, s, u+"/two", nil)
	var one *device
	for n, typ := range types {
		e := two.message()
		if n == 0 { // before, whoever gives it out might see both come at once
			one = connect(t, s, u+"/one", nil)
		}
		if e.Type != typ || e.FromDeviceID != "phone" {
			t.Errorf("got %s, want %s", e.raw, typ)
		}
		two.ack(e.Seq)
		if o := phone.outcome(); o.Status != "delivered" || o.DeviceID != "two" {
			t.Errorf("the sender heard %+v", o)
		}
	}
	one.silent(quiet)
	phone.send(object{"id": "last", "type": "task_cancel", "payload": object{"taskId": "t"}, "requiresAck": true})
	phone.wantAccepted("last", "two")
}

func TestProtocol_4_NothingCrossesUsers(t *testing.T) {
	t.Parallel()
	s := use(t)
	_, mine := household(t, s)
	_, theirs := household(t, s)
	for _, e := range []object{
		{"type": "user_message"},
		{"type": "note", "to": object{}},
		{"type": "task_start", "payload": object{"taskId": "x"}},
		{"type": "note", "to": object{"deviceType": "desktop", "mode": "any"}},
		{"type": "note", "ephemeral": true},
	} {
		e["id"] = newID()
		if e["payload"] == nil {
			e["payload"] = 1
		}
		mine["phone"].send(e)
	}
	mine["phone"].beat()
	for _, d := range theirs {
		d.silent(quiet / 3)
	}
}

func TestProtocol_4_FanOutIsRepeatedToTheFirstOnesRecipients(t *testing.T) {
	t.Parallel()
	s := use(t)
	_, all := household(t, s)
	e := object{"id": "same", "type": "user_message", "payload": 1, "requiresAck": true}
	all["phone"].send(e)
	first := all["phone"].wantAck()
	if len(first.Recipients) != 3 || first.Duplicate {
		t.Fatalf("answered with %+v", first)
	}
	for _, again := range []object{e, {"id": "same", "type": "note", "toDeviceId": "watch", "payload": 1, "requiresAck": true}} {
		all["phone"].send(again)
		a := all["phone"].wantAck()
		if !a.Duplicate || !slices.Equal(a.Recipients, first.Recipients) {
			t.Errorf("the repeat is answered with %+v, want the recipients of %+v", a, first)
		}
	}
	for _, name := range []string{"desktop", "editor", "watch"} {
		all[name].ack(all[name].message().Seq)
		all[name].silent(quiet / 3)
	}
}

func TestProtocol_4_OldClientsAreServedAtTheRoot(t *testing.T) {
	t.Parallel()
	s, u := serverAndUser(t)
	old := connectBy(t, s, u+"/old", dialing{path: "/", subprotocol: "-"}, object{"type": "mobile"})
	desktop := connect(t, s, u+"/desktop", nil)
	old.send(object{
		"id": "m", "type": "user_message", "fromDeviceId": "old", "userId": u, "payload": object{"text": "hi"},
		"timestamp": time.Now().UTC().Format(time.RFC3339Nano), "priority": 1, "requiresAck": true,
	})
	old.wantAccepted("m", "desktop")
	e := desktop.message()
	desktop.ack(e.Seq)
	if o := old.outcome(); o.Status != "delivered" || o.OriginalMessageID != "m" {
		t.Errorf("heard %+v", o)
	}
	desktop.give("old", "back", nil)
	old.wantMessage(`"back"`)
	if o := desktop.outcome(); o.Status != "delivered" {
		t.Errorf("a device that does not acknowledge: %+v", o)
	}
}
