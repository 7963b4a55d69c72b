package subjects

import "strings"

// Streams that services may read, one set in each tenant's account.
const (
	// StreamUp stores what devices send to services.
	StreamUp = "RCCS_UP"
	// StreamEvent stores what happened to devices and messages.
	StreamEvent = "RCCS_EVENT"
	// StreamTopic stores topics.
	StreamTopic = "RCCS_TOPIC"
	// StreamLater stores what is to be delivered later. A service may purge
	// messages from it, which takes them back.
	StreamLater = "RCCS_LATER"
)

const (
	inboxPrefix = "rccs.inbox."
	laterPrefix = "rccs.later."
)

// Inbox is the subject of one lane of a device's inbox.
func Inbox(k Key, l Lane) string { return inboxPrefix + string(k) + "." + l.String() }

// ParseInbox cuts a stored inbox subject into the device's key and the lane.
// It does not check the escaping of the key, which a service may have got
// wrong; [Key.Address] does.
func ParseInbox(subject string) (Key, Lane, bool) {
	rest, ok := strings.CutPrefix(subject, inboxPrefix)
	if !ok {
		return "", 0, false
	}
	dot := strings.LastIndexByte(rest, '.')
	if dot <= 0 {
		return "", 0, false
	}
	lane, ok := ParseLane(rest[dot+1:])
	if !ok || strings.Count(rest[:dot], ".") != 1 {
		return "", 0, false
	}
	return Key(rest[:dot]), lane, true
}

// ReplyPrefix is the prefix of every reply subject of a device on plain NATS,
// which its client must set as its inbox prefix.
func ReplyPrefix(k Key) string { return "_INBOX." + string(k) }

// DeviceEndpoint is an endpoint of the coordinator that a device calls for
// itself; endpoint "*" is all of them.
func DeviceEndpoint(k Key, endpoint string) string {
	return "rccs.coordinator.device." + string(k) + "." + endpoint
}

// CoordinatorEndpoint is an endpoint of the coordinator for services and
// operators.
func CoordinatorEndpoint(endpoint string) string { return "rccs.coordinator." + endpoint }
