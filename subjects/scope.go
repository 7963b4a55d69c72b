package subjects

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
