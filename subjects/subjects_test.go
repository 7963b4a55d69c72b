package subjects_test

import (
	"errors"
	"strings"
	"testing"
	"unicode/utf8"

	"pgregory.net/rapid"

	"github.com/rccs-io/rccs/internal/nametest"
	"github.com/rccs-io/rccs/subjects"
)

func TestAnyNameIsEscapedInjectively(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		a, b := nametest.Names().Draw(t, "a"), nametest.Names().Draw(t, "b")
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
		a, b := nametest.Addresses().Draw(t, "a"), nametest.Addresses().Draw(t, "b")
		for _, f := range []func(subjects.Key) string{
			func(k subjects.Key) string { return string(k) },
			func(k subjects.Key) string { return subjects.Inbox(k, subjects.High) },
			subjects.Signal, subjects.ReplyPrefix,
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
		a := nametest.Addresses().Draw(t, "address")
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
	})
}

// A subject is read as a topic exactly where the topic's own subject is that one:
// what stands under any other can be subscribed to by no device.
func TestASubjectThatNoTopicHasIsReadAsNone(t *testing.T) {
	t.Parallel()
	long := strings.Repeat("abcdefgh.", subjects.MaxTopic/9) + strings.Repeat("x", subjects.MaxTopic%9)
	for name, want := range map[string]bool{
		"a": true, "a.b%2Fc": true, long: true, long + "x": false, "a%2Eb": false, "%2E": false, "a..b": false, "user:42": false,
		"a." + strings.Repeat("x", subjects.MaxName): true, "a." + strings.Repeat("x", subjects.MaxName+1): false, "%00": false, "%FF": false,
	} {
		subject := subjects.TopicPrefix + name
		topic, ok := subjects.ParseTopic(subject)
		if ok != want {
			t.Errorf("%.40s of %d bytes: read as %.40q, %v", subject, len(name), topic, ok)
		}
		if back, err := subjects.Topic(topic); ok && (err != nil || back != subject) {
			t.Errorf("%.40s is read as %.40q, which is %.40s, %v", subject, topic, back, err)
		}
	}
}

// The longest names make subjects far below the 4,096 bytes of a line past
// which nats-server closes the connection.
func TestLongestSubjectFitsALine(t *testing.T) {
	t.Parallel()
	worst := strings.Repeat("\u00ff", subjects.MaxName/2)
	k := subjects.Address{User: subjects.UserID(worst), Device: subjects.DeviceID(worst)}.Key()
	for _, s := range []string{subjects.Inbox(k, subjects.Critical), subjects.DeviceEndpoint(k, worst)} {
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
		a, b := nametest.Addresses().Draw(t, "a"), nametest.Addresses().Draw(t, "b")
		s := rapid.SampledFrom([]subjects.Scope{{}, {User: a.User}, subjects.Scope(a)}).Draw(t, "scope")
		k := b.Key()
		for pattern, subject := range map[string]string{
			s.Inboxes(): subjects.Inbox(k, subjects.High), s.Lane(subjects.Low): subjects.Inbox(k, subjects.Low), s.Ups(): subjects.Up(k, "x.y"),
			s.Events(): subjects.Event(k, subjects.EventOnline), s.Signals(): subjects.Signal(k),
		} {
			if got := nametest.Matches(pattern, subject); got != s.Contains(b) {
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
}
