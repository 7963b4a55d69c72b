package subjects

import (
	"fmt"
	"strings"
)

// User is the user's token of the key.
func (k Key) User() string {
	user, _, _ := strings.Cut(string(k), ".")
	return user
}

func parseKey(prefix, subject string) (Key, bool) {
	rest, ok := strings.CutPrefix(subject, prefix)
	if !ok || strings.Count(rest, ".") != 1 {
		return "", false
	}
	return Key(rest), true
}

const (
	signalPrefix = "rccs.signal."
	rpcPrefix    = "rccs.rpc."
	upPrefix     = "rccs.up."
	eventPrefix  = "rccs.event."
	routePrefix  = "rccs.route."
)

// Signal is where ephemeral messages to a connected device go.
func Signal(k Key) string { return signalPrefix + string(k) }

// ParseSignal is the inverse of [Signal].
func ParseSignal(subject string) (Key, bool) { return parseKey(signalPrefix, subject) }

// RPC is where a request to a connected device goes. method is escaped here.
func RPC(k Key, method string) string { return rpcPrefix + string(k) + "." + Escape(method) }

// ParseRPC is the inverse of [RPC].
func ParseRPC(subject string) (k Key, method string, ok bool) { return parseKeyAnd(rpcPrefix, subject) }

// parseKeyAnd cuts a subject into a device's key and one name behind it.
func parseKeyAnd(prefix, subject string) (k Key, name string, ok bool) {
	dot := strings.LastIndexByte(subject, '.')
	if dot < 0 {
		return "", "", false
	}
	if k, ok = parseKey(prefix, subject[:dot]); !ok {
		return "", "", false
	}
	name, err := Unescape(subject[dot+1:])
	return k, name, err == nil
}

// TopicPrefix begins the subject of every topic.
const TopicPrefix = "rccs.topic."

// MaxTopic is the longest topic, in bytes before escaping. Escaped it is at
// most three times as long, far below what nats-server bears in one line.
const MaxTopic = 512

// Topic is the subject of a topic, whose dots separate tokens. The error wraps
// [ErrName].
func Topic(topic string) (string, error) {
	if len(topic) > MaxTopic {
		return "", fmt.Errorf("%w: topic has %d bytes, at most %d are allowed", ErrName, len(topic), MaxTopic)
	}
	b := append(make([]byte, 0, len(TopicPrefix)+len(topic)+16), TopicPrefix...)
	for i, token := range strings.Split(topic, ".") {
		if err := CheckName("token of the topic", token); err != nil {
			return "", err
		}
		if i > 0 {
			b = append(b, '.')
		}
		b = AppendEscape(b, token)
	}
	return string(b), nil
}

// AllTopics is the subject of [StreamTopic].
func AllTopics() string { return TopicPrefix + ">" }

// ParseTopic is the inverse of [Topic]. It takes no subject that Topic never
// makes: no device can subscribe to a topic or a token that is too long, or to a
// token with a dot or a control character.
func ParseTopic(subject string) (topic string, ok bool) {
	rest, ok := strings.CutPrefix(subject, TopicPrefix)
	if !ok {
		return "", false
	}
	tokens := strings.Split(rest, ".")
	for i := range tokens {
		var err error
		if tokens[i], err = Unescape(tokens[i]); err != nil || strings.Contains(tokens[i], ".") || CheckName("token", tokens[i]) != nil {
			return "", false
		}
	}
	topic = strings.Join(tokens, ".")
	return topic, len(topic) <= MaxTopic
}

// Up is where a message of a device to the tenant's services goes.
func Up(k Key, typ string) string { return upPrefix + string(k) + "." + Escape(typ) }

// Kinds of [Event].
const (
	EventRegistered = "registered" // the device's record is new or has changed
	EventOnline     = "online"
	EventOffline    = "offline"
	EventDelivered  = "delivered" // of a service's message with Rccs-Ack
	EventExpired    = "expired"   // of a service's message with Rccs-Ack
	EventReplaced   = "replaced"  // of a service's message with Rccs-Ack
	EventFull       = "full"      // the inbox went over its bound
	EventRevoked    = "revoked"
	EventForgotten  = "forgotten"
	// EventUndeliverable is told of what a service published that can reach
	// nobody, with the reason.
	EventUndeliverable = "undeliverable"
	// EventRejected is told of a service's message that its device refused.
	EventRejected = "rejected"
	// EventBadHeader is told of a service's header that became its default.
	EventBadHeader = "badHeader"
)

// EventKinds are all kinds of [Event].
func EventKinds() []string {
	return []string{
		EventRegistered, EventOnline, EventOffline, EventDelivered, EventExpired, EventReplaced, EventFull, EventRevoked,
		EventForgotten, EventUndeliverable, EventRejected, EventBadHeader,
	}
}

// Event is where services hear what happened to a device.
func Event(k Key, kind string) string { return eventPrefix + string(k) + "." + kind }

// Later is where a message waits until it is due; id tells it from others, and
// is escaped here.
func Later(k Key, l Lane, id string) string {
	return laterPrefix + string(k) + "." + l.String() + "." + Escape(id)
}

// ParseLater cuts the subject of a message that waits until it is due.
func ParseLater(subject string) (Key, Lane, bool) {
	rest, ok := strings.CutPrefix(subject, laterPrefix)
	dot := strings.LastIndexByte(rest, '.')
	if !ok || dot < 0 {
		return "", 0, false
	}
	return ParseInbox(inboxPrefix + rest[:dot])
}

// LaterAnywhere is a filter for what a user's devices have waiting under id,
// whomever it is for.
func LaterAnywhere(user UserID, id string) string {
	return laterPrefix + Escape(string(user)) + ".*.*." + Escape(id)
}

// Selector is the last part of a route's subject. At most one field is set
// beside Any; none is every device of the user.
type Selector struct {
	DeviceType string
	Capability string
	Any        bool // one of them, else all
}

// Route is where a service publishes what the coordinator is to find the
// devices for.
func Route(user UserID, s Selector) string {
	b := AppendEscape([]byte(routePrefix), string(user))
	switch {
	case s.Capability != "":
		b = AppendEscape(append(b, ".cap."...), s.Capability)
	case s.DeviceType != "" && s.Any:
		b = AppendEscape(append(b, ".any."...), s.DeviceType)
	case s.DeviceType != "":
		b = AppendEscape(append(b, ".all."...), s.DeviceType)
	case s.Any:
		b = append(b, ".any"...)
	default:
		b = append(b, ".all"...)
	}
	return string(b)
}

// ParseRoute is the inverse of [Route].
func ParseRoute(subject string) (user UserID, s Selector, ok bool) {
	rest, ok := strings.CutPrefix(subject, routePrefix)
	if !ok {
		return "", s, false
	}
	userToken, rest, _ := strings.Cut(rest, ".")
	kind, token, named := strings.Cut(rest, ".")
	userName, err := Unescape(userToken)
	if err != nil {
		return "", s, false
	}
	user = UserID(userName)
	name, err := Unescape(token)
	if err != nil || named && CheckName("selector", name) != nil {
		return "", s, false
	}
	switch kind {
	case "all":
		return user, Selector{DeviceType: name}, true
	case "any":
		return user, Selector{DeviceType: name, Any: true}, true
	case "cap":
		return user, Selector{Capability: name}, named
	}
	return "", s, false
}
