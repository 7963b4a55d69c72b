// Package nametest draws names of users and devices for property tests of what
// becomes a subject. It must not be imported by anything but tests.
package nametest

import (
	"strings"

	"pgregory.net/rapid"

	"github.com/rccs-io/rccs/subjects"
)

// Names draws names of every kind: plain, any Unicode, and such that are made
// to collide after a careless escaping.
func Names() *rapid.Generator[string] {
	tricky := rapid.SampledFrom([]string{
		"a.b", "a%2Eb", "a%252Eb", "a b", "a*", ">", "a.>", "%", "%2", "%2e", "%2E", ".", "..", "$SYS", "_INBOX",
		"a/b", "ü", "日本語", "a\tb", "=", "a=2Eb", "-", "_", "normal", "low",
	})
	return rapid.OneOf(tricky, rapid.StringN(1, 40, subjects.MaxName)).Filter(func(s string) bool {
		return subjects.CheckName("name", s) == nil
	})
}

// Addresses draws addresses of such names.
func Addresses() *rapid.Generator[subjects.Address] {
	return rapid.Custom(func(t *rapid.T) subjects.Address {
		user := Names().Filter(func(s string) bool { return !strings.Contains(s, "/") }).Draw(t, "user")
		return subjects.Address{User: subjects.UserID(user), Device: subjects.DeviceID(Names().Draw(t, "device"))}
	}).Filter(func(a subjects.Address) bool { return a.Check() == nil })
}

// Matches reports whether a NATS pattern covers a subject, or all of another
// pattern.
func Matches(pattern, subject string) bool {
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
