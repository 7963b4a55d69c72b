package envelope

import (
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/rccs-io/rccs/internal/layout"
	"github.com/rccs-io/rccs/subjects"
	"github.com/rccs-io/rccs/wire"
)

// A service may write anything into a header. One that cannot be used for what
// it is counts as absent, for everybody who reads it: what the device is shown
// is what the server goes by. The service is told by an event.

// Value is a header's first value, and "" for one that cannot be used. A header
// that has no rule of its own is made valid UTF-8.
func Value(h nats.Header, key string) string {
	v := h[key]
	if len(v) == 0 || v[0] == "" || !usable(key, v[0]) {
		return ""
	}
	if !utf8.ValidString(v[0]) {
		return strings.ToValidUTF8(v[0], "\uFFFD")
	}
	return v[0]
}

// usable reports whether a header can be used for what it is.
func usable(key, value string) bool {
	switch key {
	case subjects.HeaderID, jetstream.MsgIDHeader, subjects.HeaderCorrelation, subjects.HeaderCollapse, subjects.HeaderTrace:
		return wire.ValidID(value)
	case subjects.HeaderType:
		return wire.ValidType(value)
	case subjects.HeaderFrom:
		return validSender(value)
	case subjects.HeaderUser:
		return subjects.CheckUser(subjects.UserID(value)) == nil
	case subjects.HeaderTimestamp:
		_, ok := wire.ParseTime(value)
		return ok
	case subjects.HeaderTTL:
		ms, err := strconv.ParseInt(value, 10, 64)
		return err == nil && ms > 0
	case subjects.HeaderPriority:
		return len(value) == 1 && value[0] >= '0' && value[0] < '0'+subjects.Lanes
	case subjects.HeaderAck, subjects.HeaderRedelivered, layout.HeaderReplay:
		return value == "true" || value == "false"
	}
	return true
}

// validSender reports whether a message can be from name: a device, RCCS itself
// or a service.
func validSender(name string) bool {
	name = strings.TrimPrefix(name, servicePrefix)
	return name == wire.Server || subjects.CheckDevice(subjects.DeviceID(name)) == nil
}

// BadHeader returns the name of a header that cannot be used, "" when there is
// none. A Nats-Msg-Id that is no id matters only where it would be the id.
func BadHeader(h nats.Header) string {
	if walk(h).usable { // a message has few headers: a walk costs less than a search for each known one
		return ""
	}
	for _, key := range [...]string{
		subjects.HeaderID, subjects.HeaderType, subjects.HeaderFrom, subjects.HeaderTimestamp, subjects.HeaderTTL, subjects.HeaderAck,
		subjects.HeaderCorrelation, subjects.HeaderCollapse, subjects.HeaderTrace, subjects.HeaderPriority,
		subjects.HeaderRedelivered, layout.HeaderReplay,
	} {
		if v := h[key]; len(v) > 0 && v[0] != "" && !usable(key, v[0]) {
			return key
		}
	}
	if v := h[jetstream.MsgIDHeader]; len(v) > 0 && v[0] != "" && Value(h, subjects.HeaderID) == "" && !usable(jetstream.MsgIDHeader, v[0]) {
		return jetstream.MsgIDHeader
	}
	return ""
}
