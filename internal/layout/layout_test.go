package layout_test

import (
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/rccs-io/rccs/internal/layout"
	"github.com/rccs-io/rccs/internal/nametest"
	"github.com/rccs-io/rccs/subjects"
)

func TestOwnSubjectsAreReadBack(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		a, b := nametest.Addresses().Draw(t, "a"), nametest.Addresses().Draw(t, "b")
		for _, f := range []struct {
			make func(subjects.Key) string
			read func(string) (subjects.Key, bool)
		}{
			{layout.Cursor, layout.ParseCursor},
			{layout.DeviceSubject, layout.ParseDeviceSubject},
			{layout.SessionSubject, layout.ParseSessionSubject},
			{layout.Deadline, layout.ParseDeadline},
		} {
			if same := f.make(a.Key()) == f.make(b.Key()); same != (a == b) {
				t.Fatalf("%v and %v: %q and %q", a, b, f.make(a.Key()), f.make(b.Key()))
			}
			if k, ok := f.read(f.make(a.Key())); !ok || k != a.Key() {
				t.Fatalf("%q came back as %q %v", f.make(a.Key()), k, ok)
			}
		}
	})
}

// What a scope's filters cover is what is its devices', and nothing else.
func TestScopesCoverTheirEntries(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		a, b := nametest.Addresses().Draw(t, "a"), nametest.Addresses().Draw(t, "b")
		s := rapid.SampledFrom([]subjects.Scope{{}, {User: a.User}, subjects.Scope(a)}).Draw(t, "scope")
		k := b.Key()
		for pattern, subject := range map[string]string{layout.Cursors(s): layout.Cursor(k), layout.Devices(s): layout.DeviceSubject(k)} {
			if got := nametest.Matches(pattern, subject); got != s.Contains(b) {
				t.Fatalf("%s covers %s: %t", pattern, subject, got)
			}
		}
	})
	if nametest.Matches(layout.Cursors(subjects.Scope{}), layout.Watermark) {
		t.Error("the watermark is taken for a cursor")
	}
}

// A device may do what concerns itself and nothing else.
func TestDevicePermissionsNameOneDevice(t *testing.T) {
	t.Parallel()
	p := layout.ForDevice(subjects.Address{User: "alice", Device: "my.phone"}.Key())
	want := []string{"rccs.coordinator.device.alice.my%2Ephone.*"}
	if !slices.Equal(p.Publish, want) {
		t.Errorf("may publish %q, want %q", p.Publish, want)
	}
	want = []string{"rccs.signal.alice.my%2Ephone", "_INBOX.alice.my%2Ephone.>"}
	if !slices.Equal(p.Subscribe, want) {
		t.Errorf("may subscribe %q, want %q", p.Subscribe, want)
	}
}

// A service acts for itself: what is a device's own is closed to it.
func TestServicePermissionsLeaveDevicesAlone(t *testing.T) {
	t.Parallel()
	p := layout.ForService()
	covered := func(list []string, subject string) bool {
		return slices.ContainsFunc(list, func(pattern string) bool { return nametest.Matches(pattern, subject) })
	}
	sends := func(subject string) bool { return covered(p.Publish, subject) }
	hears := func(subject string) bool { return covered(p.Subscribe, subject) && !covered(p.Unheard, subject) }
	rapid.Check(t, func(t *rapid.T) {
		k := nametest.Addresses().Draw(t, "address").Key()
		lane := subjects.Lane(rapid.IntRange(0, subjects.Lanes-1).Draw(t, "lane"))
		for _, s := range []string{subjects.Inbox(k, lane), subjects.Signal(k)} {
			if !sends(s) || hears(s) {
				t.Fatalf("%s: sends %t, hears %t", s, sends(s), hears(s))
			}
		}
		reply := subjects.ReplyPrefix(k) + "."
		endpoint := subjects.DeviceEndpoint(k, "ack")
		for _, s := range []string{reply + "x", reply + "x.y", endpoint, layout.Cursor(k), layout.DeviceSubject(k), layout.Watermark} {
			if sends(s) || hears(s) {
				t.Fatalf("%s: sends %t, hears %t", s, sends(s), hears(s))
			}
		}
	})
	for _, s := range []string{"_INBOX.GKrOPQ3bYQ", "_INBOX.GKrOPQ3bYQ.1"} { // as NATS clients make them
		if !hears(s) || !sends(s) {
			t.Errorf("%s: sends %t, hears %t", s, sends(s), hears(s))
		}
	}
	for _, stream := range []string{layout.StreamInbox, layout.StreamCursor, "KV_" + layout.BucketDevices, "RCCS_UP", "RCCS_TOPIC"} {
		for _, verb := range []string{"CREATE", "UPDATE", "DELETE", "PURGE", "MSG.DELETE", "SNAPSHOT", "RESTORE"} {
			if s := "$JS.API.STREAM." + verb + "." + stream; sends(s) {
				t.Errorf("may publish %s", s)
			}
		}
	}
}

// NATS hears more than a subscription pattern says where it ends in "*", see
// [layout.Permissions].
func TestNoSubscriptionPatternEndsInAStar(t *testing.T) {
	t.Parallel()
	for _, p := range []layout.Permissions{layout.ForDevice("alice.phone"), layout.ForService(), layout.ForPart()} {
		for _, pattern := range p.Subscribe {
			if before, ok := strings.CutSuffix(pattern, "*"); ok {
				t.Errorf("%s also allows %s>", pattern, before)
			}
		}
	}
}

func TestDeviceEndpointsAreReadBack(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		k := nametest.Addresses().Draw(t, "address").Key()
		subject := subjects.DeviceEndpoint(k, "fetch")
		if back, endpoint, ok := layout.ParseDeviceEndpoint(subject); !ok || back != k || endpoint != "fetch" {
			t.Fatalf("%s came back as %q %q %t", subject, back, endpoint, ok)
		}
		if !nametest.Matches(layout.AnyDeviceEndpoint("fetch"), subject) || nametest.Matches(layout.AnyDeviceEndpoint("ack"), subject) {
			t.Fatalf("%s is not heard as it should", subject)
		}
	})
	for _, s := range []string{"", "rccs.coordinator.status", "rccs.coordinator.device.a.fetch", "rccs.coordinator.device.a.b.c.fetch"} {
		if k, endpoint, ok := layout.ParseDeviceEndpoint(s); ok {
			t.Errorf("%q was read as %q %q", s, k, endpoint)
		}
	}
}

// What RCCS answers to is never a device's, nor anything that acts.
func TestClientRepliesAreNobodyElses(t *testing.T) {
	t.Parallel()
	for _, s := range []string{"_INBOX.GKrOPQ3bYQ", "_INBOX.GKrOPQ3bYQ.1", "_RCCS.x", "_RCCS.x.y"} {
		if !layout.IsClientReply(s) {
			t.Errorf("%s is not answered", s)
		}
	}
	for _, s := range []string{
		"", "_INBOX", "_INBOX.", "_RCCS", "_RCCS.", "_INBOXES.a", "$JS.API.STREAM.PURGE.X", "$KV.X.y", "rccs.inbox.a.b.low", "_INBOX.a.b.c",
	} {
		if layout.IsClientReply(s) {
			t.Errorf("%s is answered", s)
		}
	}
	rapid.Check(t, func(t *rapid.T) {
		if s := subjects.ReplyPrefix(nametest.Addresses().Draw(t, "address").Key()) + ".x"; layout.IsClientReply(s) {
			t.Fatalf("%s, a device's, is answered", s)
		}
	})
}

func TestFiltersCoverWhatTheySayAndNoMore(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		a, b := nametest.Addresses().Draw(t, "a"), nametest.Addresses().Draw(t, "b")
		later := subjects.Later(b.Key(), subjects.Low, nametest.Names().Draw(t, "id"))
		if got := nametest.Matches(layout.DeviceLater(a.Key()), later); got != (a == b) {
			t.Fatalf("what %v gets later covers %s: %t", a, later, got)
		}
		name := rapid.OneOf(nametest.Names(), rapid.StringN(129, 200, 400)).Draw(t, "task")
		task := layout.TaskEntry(b.User, name)
		if user, name, ok := layout.ParseTaskSubject(layout.TaskSubject(b.User, name)); !ok || user != b.User || layout.TaskEntry(user, name) != task {
			t.Fatalf("the task %q of %q is read as %q of %q, %t", task, b.User, name, user, ok)
		}
		if got := nametest.Matches(layout.UserEntries(a.User), task); got != (a.User == b.User) {
			t.Fatalf("the tasks of %q cover %s: %t", a.User, task, got)
		}
	})
}
