package subjects

import "strings"

// Scope is the devices that a filter covers: one device, all devices of a
// user when Device is empty, and every device when User is empty, too.
type Scope struct {
	User   UserID
	Device DeviceID
}

// tokens are the user's and the device's.
func (s Scope) tokens() string {
	switch {
	case s.User == "":
		return "*.*"
	case s.Device == "":
		return Escape(string(s.User)) + ".*"
	}
	return string(Address(s).Key())
}

// String is USER/DEVICE, USER, or empty for all, as people write it.
func (s Scope) String() string {
	if s.Device == "" {
		return string(s.User)
	}
	return Address(s).String()
}

// Inboxes are all lanes of the inboxes.
func (s Scope) Inboxes() string { return inboxPrefix + s.tokens() + ".*" }

// Lane is one lane of the inboxes.
func (s Scope) Lane(l Lane) string { return inboxPrefix + s.tokens() + "." + l.String() }

// Cursors are the cursors.
func (s Scope) Cursors() string { return cursorPrefix + s.tokens() }

// Laters are the delayed messages to the devices.
func (s Scope) Laters() string { return laterPrefix + s.tokens() + ".>" }

// Ups are what the devices send to services.
func (s Scope) Ups() string { return upPrefix + s.tokens() + ".*" }

// Events are what happens to the devices.
func (s Scope) Events() string { return eventPrefix + s.tokens() + ".*" }

// EventsOf are the events of one kind.
func (s Scope) EventsOf(kind string) string { return eventPrefix + s.tokens() + "." + kind }

// Signals are what the devices are sent without being stored.
func (s Scope) Signals() string { return signalPrefix + s.tokens() }

// Devices are the entries in [BucketDevices].
func (s Scope) Devices() string { return kvDevices + entry(s.tokens()) }

// Enrolled are the entries in [BucketEnrolled].
func (s Scope) Enrolled() string { return kvEnrolled + entry(s.tokens()) }

// Tasks are the entries in [BucketTasks]; they are a user's.
func (s Scope) Tasks() string { return kvTasks + UserTasks(s.User) }

// ParseTaskUser is the user's token of a task's entry.
func ParseTaskUser(subject string) (user string, ok bool) {
	rest, ok := strings.CutPrefix(subject, kvTasks)
	user, _, found := strings.Cut(rest, ".")
	return fromEntry(user), ok && found
}

// Contains reports whether a device is one of them.
func (s Scope) Contains(a Address) bool {
	return (s.User == "" || s.User == a.User) && (s.Device == "" || s.Device == a.Device)
}

// ParseUp is the inverse of [Up].
func ParseUp(subject string) (k Key, typ string, ok bool) { return parseKeyAnd(upPrefix, subject) }

// ParseEvent is the inverse of [Event].
func ParseEvent(subject string) (k Key, kind string, ok bool) {
	return parseKeyAnd(eventPrefix, subject)
}

// AllEdges is a filter for all leases in [BucketEdges].
func AllEdges() string { return kvEdges + "*" }

// DeviceLater is a filter for all that a device is to get later.
func DeviceLater(k Key) string { return laterPrefix + string(k) + ".>" }

// UserTasks is a filter for the keys of a user's tasks in [BucketTasks].
func UserTasks(user UserID) string { return entry(Escape(string(user))) + ".*" }
