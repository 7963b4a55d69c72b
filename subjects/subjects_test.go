package subjects_test

import (
	"errors"
	"slices"
	"strings"
	"testing"
	"unicode/utf8"

	"pgregory.net/rapid"

	"github.com/rccs-io/rccs/subjects"
)

// names draws names of every kind: plain, any Unicode, and such that are made
// to collide after a careless escaping.
func names() *rapid.Generator[string] {
	tricky := rapid.SampledFrom([]string{
		"a.b", "a%2Eb", "a%252Eb", "a b", "a*", ">", "a.>", "%", "%2", "%2e", "%2E", ".", "..", "$SYS", "_INBOX",
		"a/b", "ü", "日本語", "a\tb", "=", "a=2Eb", "-", "_", "normal", "low",
	})
	return rapid.OneOf(tricky, rapid.StringN(1, 40, subjects.MaxName)).Filter(func(s string) bool {
		return subjects.CheckName("name", s) == nil
	})
}

func addresses() *rapid.Generator[subjects.Address] {
	return rapid.Custom(func(t *rapid.T) subjects.Address {
		user := names().Filter(func(s string) bool { return !strings.Contains(s, "/") }).Draw(t, "user")
		return subjects.Address{User: subjects.UserID(user), Device: subjects.DeviceID(names().Draw(t, "device"))}
	}).Filter(func(a subjects.Address) bool { return a.Check() == nil })
}

func TestAnyNameIsEscapedInjectively(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		a, b := names().Draw(t, "a"), names().Draw(t, "b")
		ea, eb := subjects.Escape(a), subjects.Escape(b)
		if (a == b) != (ea == eb) {
			t.Fatalf("%q and %q become %q and %q", a, b, ea, eb)
		}
		back, err := subjects.Unescape(ea)
		if err != nil || back != a {
			t.Fatalf("%q became %q and came back as %q, %v", a, ea, back, err)
		}
		if strings.ContainsAny(ea, ".*> \t\r\n=") || ea == "" {
			t.Fatalf("%q became %q, which is not one token", a, ea)
		}
	})
}

func TestDifferentDevicesHaveDifferentSubjects(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		a, b := addresses().Draw(t, "a"), addresses().Draw(t, "b")
		for _, f := range []func(subjects.Key) string{
			func(k subjects.Key) string { return string(k) },
			func(k subjects.Key) string { return subjects.Inbox(k, subjects.High) },
			subjects.Cursor, subjects.DeviceEntry, subjects.Signal, subjects.ReplyPrefix,
		} {
			if same := f(a.Key()) == f(b.Key()); same != (a == b) {
				t.Fatalf("%v and %v: %q and %q", a, b, f(a.Key()), f(b.Key()))
			}
		}
	})
}

func TestSubjectsAreReadBack(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		a := addresses().Draw(t, "address")
		lane := subjects.Lane(rapid.IntRange(0, subjects.Lanes-1).Draw(t, "lane"))
		if back, err := a.Key().Address(); err != nil || back != a {
			t.Fatalf("key of %v came back as %v, %v", a, back, err)
		}
		if back, err := subjects.ParseAddress(a.String()); err != nil || back != a {
			t.Fatalf("%q came back as %v, %v", a.String(), back, err)
		}
		if k, l, ok := subjects.ParseInbox(subjects.Inbox(a.Key(), lane)); !ok || k != a.Key() || l != lane {
			t.Fatalf("inbox came back as %q %v %v", k, l, ok)
		}
		if k, ok := subjects.ParseCursor(subjects.Cursor(a.Key())); !ok || k != a.Key() {
			t.Fatalf("cursor came back as %q %v", k, ok)
		}
		if k, ok := subjects.ParseDeviceSubject(subjects.DeviceSubject(a.Key())); !ok || k != a.Key() {
			t.Fatalf("device came back as %q %v", k, ok)
		}
	})
}

// The longest names make subjects far below the 4,096 bytes of a line past
// which nats-server closes the connection.
func TestLongestSubjectFitsALine(t *testing.T) {
	t.Parallel()
	worst := strings.Repeat("\u00ff", subjects.MaxName/2)
	k := subjects.Address{User: subjects.UserID(worst), Device: subjects.DeviceID(worst)}.Key()
	for _, s := range []string{subjects.Inbox(k, subjects.Critical), subjects.DeviceEndpoint(k, worst), subjects.DeviceSubject(k)} {
		if len(s) > 2048 {
			t.Errorf("a subject of %d bytes", len(s))
		}
	}
}

func TestBadNamesAreRefused(t *testing.T) {
	t.Parallel()
	for _, name := range []string{"", strings.Repeat("x", 129), "a\x00", "a\nb", "\x7f", "a\u0085b", "\xff", "a\xc3"} {
		if err := subjects.CheckName("device", name); !errors.Is(err, subjects.ErrName) {
			t.Errorf("%q: %v", name, err)
		}
	}
	for _, name := range []string{"a", "a\tb", "a b", strings.Repeat("x", 128), "日本", "a/b", "."} {
		if err := subjects.CheckName("device", name); err != nil {
			t.Errorf("%q: %v", name, err)
		}
	}
	for _, s := range []string{"", "alice", "/x", "alice/", "a\n/b"} {
		if _, err := subjects.ParseAddress(s); !errors.Is(err, subjects.ErrName) {
			t.Errorf("%q: %v", s, err)
		}
	}
	if a, err := subjects.ParseAddress("a/b/c"); err != nil || a.Device != "b/c" {
		t.Errorf("a/b/c is %v, %v", a, err)
	}
}

func TestForeignSubjectsAreNotRead(t *testing.T) {
	t.Parallel()
	for _, s := range []string{
		"", "rccs.inbox", "rccs.inbox.a.b", "rccs.inbox.a.low", "rccs.inbox.a.b.c.low", "rccs.inbox.a.b.urgent",
		"rccs.cursor.a.b.low", "inbox.a.b.low", "rccs.inbox..low",
	} {
		if k, l, ok := subjects.ParseInbox(s); ok {
			t.Errorf("%q was read as %q %v", s, k, l)
		}
	}
	for _, s := range []string{"a%2eb", "a%2", "a.b", "%41", "a b", "%zz"} {
		if name, err := subjects.Unescape(s); err == nil {
			t.Errorf("%q was read as %q", s, name)
		}
	}
}

// A device may do what concerns itself and nothing else.
func TestDevicePermissionsNameOneDevice(t *testing.T) {
	t.Parallel()
	p := subjects.ForDevice(subjects.Address{User: "alice", Device: "my.phone"}.Key())
	want := []string{"rccs.coordinator.device.alice.my%2Ephone.*"}
	if !slices.Equal(p.Publish, want) {
		t.Errorf("may publish %q, want %q", p.Publish, want)
	}
	want = []string{"rccs.signal.alice.my%2Ephone", "_INBOX.alice.my%2Ephone.>"}
	if !slices.Equal(p.Subscribe, want) {
		t.Errorf("may subscribe %q, want %q", p.Subscribe, want)
	}
}

// matches reports whether a NATS pattern covers a subject, or all of another
// pattern.
func matches(pattern, subject string) bool {
	p, s := strings.Split(pattern, "."), strings.Split(subject, ".")
	for i, token := range p {
		switch {
		case token == ">":
			return len(s) > i
		case i >= len(s) || s[i] == ">", token != "*" && token != s[i]:
			return false
		}
	}
	return len(p) == len(s)
}

// A service acts for itself: what is a device's own is closed to it.
func TestServicePermissionsLeaveDevicesAlone(t *testing.T) {
	t.Parallel()
	p := subjects.ForService()
	covered := func(list []string, subject string) bool {
		return slices.ContainsFunc(list, func(pattern string) bool { return matches(pattern, subject) })
	}
	sends := func(subject string) bool { return covered(p.Publish, subject) }
	hears := func(subject string) bool { return covered(p.Subscribe, subject) && !covered(p.Unheard, subject) }
	rapid.Check(t, func(t *rapid.T) {
		k := addresses().Draw(t, "address").Key()
		lane := subjects.Lane(rapid.IntRange(0, subjects.Lanes-1).Draw(t, "lane"))
		for _, s := range []string{subjects.Inbox(k, lane), subjects.Signal(k)} {
			if !sends(s) || hears(s) {
				t.Fatalf("%s: sends %t, hears %t", s, sends(s), hears(s))
			}
		}
		reply := subjects.ReplyPrefix(k) + "."
		endpoint := subjects.DeviceEndpoint(k, "ack")
		for _, s := range []string{reply + "x", reply + "x.y", endpoint, subjects.Cursor(k), subjects.DeviceSubject(k), subjects.Watermark} {
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
	for _, stream := range []string{subjects.StreamInbox, subjects.StreamCursor, "KV_" + subjects.BucketDevices, "RCCS_UP", "RCCS_TOPIC"} {
		for _, verb := range []string{"CREATE", "UPDATE", "DELETE", "PURGE", "MSG.DELETE", "SNAPSHOT", "RESTORE"} {
			if s := "$JS.API.STREAM." + verb + "." + stream; sends(s) {
				t.Errorf("may publish %s", s)
			}
		}
	}
}

// NATS hears more than a subscription pattern says where it ends in "*", see
// [subjects.Permissions].
func TestNoSubscriptionPatternEndsInAStar(t *testing.T) {
	t.Parallel()
	for _, p := range []subjects.Permissions{subjects.ForDevice("alice.phone"), subjects.ForService(), subjects.ForPart()} {
		for _, pattern := range p.Subscribe {
			if before, ok := strings.CutSuffix(pattern, "*"); ok {
				t.Errorf("%s also allows %s>", pattern, before)
			}
		}
	}
}

func FuzzUnescape(f *testing.F) {
	for _, s := range []string{"", "a", "a%2Eb", "%25", "%", "%2", "%e4", "%41", "a.b"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, token string) {
		name, err := subjects.Unescape(token)
		if err == nil && subjects.Escape(name) != token {
			t.Errorf("%q is read as %q, which is written %q", token, name, subjects.Escape(name))
		}
		if back, err := subjects.Unescape(subjects.Escape(token)); err != nil || back != token {
			t.Errorf("%q is written %q and read as %q, %v", token, subjects.Escape(token), back, err)
		}
	})
}

func FuzzParseAddress(f *testing.F) {
	for _, s := range []string{"", "a/b", "a", "/", "a/b/c", "ü/日"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		a, err := subjects.ParseAddress(s)
		if err != nil {
			return
		}
		if a.String() != s || !utf8.ValidString(s) {
			t.Errorf("%q was accepted as %v", s, a)
		}
		if back, err := a.Key().Address(); err != nil || back != a {
			t.Errorf("%v came back as %v, %v", a, back, err)
		}
	})
}

// What a scope's filters cover is what is its devices', and nothing else.
func TestScopesCoverTheirDevices(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		a, b := addresses().Draw(t, "a"), addresses().Draw(t, "b")
		s := rapid.SampledFrom([]subjects.Scope{{}, {User: a.User}, subjects.Scope(a)}).Draw(t, "scope")
		k := b.Key()
		for pattern, subject := range map[string]string{
			s.Inboxes(): subjects.Inbox(k, subjects.High), s.Lane(subjects.Low): subjects.Inbox(k, subjects.Low), s.Cursors(): subjects.Cursor(k), s.Ups(): subjects.Up(k, "x.y"),
			s.Events(): subjects.Event(k, subjects.EventOnline), s.Signals(): subjects.Signal(k), s.Devices(): subjects.DeviceSubject(k),
		} {
			if got := matches(pattern, subject); got != s.Contains(b) {
				t.Fatalf("%s covers %s: %t", pattern, subject, got)
			}
		}
		if got, typ, ok := subjects.ParseUp(subjects.Up(k, "x.y")); !ok || got != k || typ != "x.y" {
			t.Fatalf("up came back as %q %q %t", got, typ, ok)
		}
		if got, kind, ok := subjects.ParseEvent(subjects.Event(k, "full")); !ok || got != k || kind != "full" {
			t.Fatalf("event came back as %q %q %t", got, kind, ok)
		}
	})
	if matches(subjects.Scope{}.Cursors(), subjects.Watermark) {
		t.Error("the watermark is taken for a cursor")
	}
}

func TestDeviceEndpointsAreReadBack(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		k := addresses().Draw(t, "address").Key()
		subject := subjects.DeviceEndpoint(k, "fetch")
		if back, endpoint, ok := subjects.ParseDeviceEndpoint(subject); !ok || back != k || endpoint != "fetch" {
			t.Fatalf("%s came back as %q %q %t", subject, back, endpoint, ok)
		}
		if !matches(subjects.AnyDeviceEndpoint("fetch"), subject) || matches(subjects.AnyDeviceEndpoint("ack"), subject) {
			t.Fatalf("%s is not heard as it should", subject)
		}
	})
	for _, s := range []string{"", "rccs.coordinator.status", "rccs.coordinator.device.a.fetch", "rccs.coordinator.device.a.b.c.fetch"} {
		if k, endpoint, ok := subjects.ParseDeviceEndpoint(s); ok {
			t.Errorf("%q was read as %q %q", s, k, endpoint)
		}
	}
}

// What RCCS answers to is never a device's, nor anything that acts.
func TestClientRepliesAreNobodyElses(t *testing.T) {
	t.Parallel()
	for _, s := range []string{"_INBOX.GKrOPQ3bYQ", "_INBOX.GKrOPQ3bYQ.1", "_RCCS.x", "_RCCS.x.y"} {
		if !subjects.IsClientReply(s) {
			t.Errorf("%s is not answered", s)
		}
	}
	for _, s := range []string{
		"", "_INBOX", "_INBOX.", "_RCCS", "_RCCS.", "_INBOXES.a", "$JS.API.STREAM.PURGE.X", "$KV.X.y", "rccs.inbox.a.b.low", "_INBOX.a.b.c",
	} {
		if subjects.IsClientReply(s) {
			t.Errorf("%s is answered", s)
		}
	}
	rapid.Check(t, func(t *rapid.T) {
		if s := subjects.ReplyPrefix(addresses().Draw(t, "address").Key()) + ".x"; subjects.IsClientReply(s) {
			t.Fatalf("%s, a device's, is answered", s)
		}
	})
}

func TestFiltersCoverWhatTheySayAndNoMore(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		a, b := addresses().Draw(t, "a"), addresses().Draw(t, "b")
		later := subjects.Later(b.Key(), subjects.Low, names().Draw(t, "id"))
		if got := matches(subjects.DeviceLater(a.Key()), later); got != (a == b) {
			t.Fatalf("what %v gets later covers %s: %t", a, later, got)
		}
		name := rapid.OneOf(names(), rapid.StringN(129, 200, 400)).Draw(t, "task")
		task := subjects.TaskEntry(b.User, name)
		if user, name, ok := subjects.ParseTaskSubject(subjects.TaskSubject(b.User, name)); !ok || user != b.User || subjects.TaskEntry(user, name) != task {
			t.Fatalf("the task %q of %q is read as %q of %q, %t", task, b.User, name, user, ok)
		}
		if got := matches(subjects.UserTasks(a.User), task); got != (a.User == b.User) {
			t.Fatalf("the tasks of %q cover %s: %t", a.User, task, got)
		}
	})
}
