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
	signalPrefix   = "rccs.signal."
	rpcPrefix      = "rccs.rpc."
	upPrefix       = "rccs.up."
	eventPrefix    = "rccs.event."
	routePrefix    = "rccs.route."
	waitPrefix     = "rccs.wait."
	deadlinePrefix = "rccs.deadline."
)

// Signal is where ephemeral messages to a connected device go.
func Signal(k Key) string { return signalPrefix + string(k) }

// AllSignals is every signal, for an edge.
func AllSignals() string { return signalPrefix + "*.*" }

// ParseSignal is the inverse of [Signal].
func ParseSignal(subject string) (Key, bool) { return parseKey(signalPrefix, subject) }

// RPC is where a request to a connected device goes. method is escaped here.
func RPC(k Key, method string) string { return rpcPrefix + string(k) + "." + Escape(method) }

// DeviceRPC is every request to a device, for the edge that holds it.
func DeviceRPC(k Key) string { return rpcPrefix + string(k) + ".*" }

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

// ParseTopic is the inverse of [Topic].
func ParseTopic(subject string) (topic string, ok bool) {
	rest, ok := strings.CutPrefix(subject, TopicPrefix)
	if !ok {
		return "", false
	}
	tokens := strings.Split(rest, ".")
	for i := range tokens {
		var err error
		if tokens[i], err = Unescape(tokens[i]); err != nil {
			return "", false
		}
	}
	return strings.Join(tokens, "."), true
}

// Up is where a message of a device to the tenant's services goes.
func Up(k Key, typ string) string { return upPrefix + string(k) + "." + Escape(typ) }

// AllUp is the subject of [StreamUp].
func AllUp() string { return upPrefix + "*.*.*" }

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

// Event is where services hear what happened to a device.
func Event(k Key, kind string) string { return eventPrefix + string(k) + "." + kind }

// AllEvents is the subject of [StreamEvent].
func AllEvents() string { return eventPrefix + "*.*.*" }

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

// IsCancel reports whether a filter covers delayed messages of one user only.
func IsCancel(filter string) bool {
	rest, ok := strings.CutPrefix(filter, laterPrefix)
	user, rest, deep := strings.Cut(rest, ".")
	return ok && deep && user != "" && rest != "" && !strings.ContainsAny(user, "*>")
}

// LaterAnywhere is a filter for what a user's devices have waiting under id,
// whomever it is for. user is a token.
func LaterAnywhere(user, id string) string { return laterPrefix + user + ".*.*." + Escape(id) }

// AllLater are the subjects of [StreamLater].
func AllLater() []string { return []string{laterPrefix + "*.*.*.*", duePrefix + "*.*.*"} }

// Due is where [StreamLater] puts a message whose time has come.
func Due(k Key, l Lane) string { return duePrefix + string(k) + "." + l.String() }

// DueToInbox is the subject transform by which [StreamInbox] takes in what is
// due.
func DueToInbox() (from, to string) {
	return duePrefix + "*.*.*", inboxPrefix + "{{wildcard(1)}}.{{wildcard(2)}}.{{wildcard(3)}}"
}

// Wait is where a message of a user's device waits that is for one of several
// devices of which none is online. user is a token.
func Wait(user string) string { return waitPrefix + user }

// ParseWait is the inverse of [Wait].
func ParseWait(subject string) (user string, ok bool) {
	user, ok = strings.CutPrefix(subject, waitPrefix)
	return user, ok && user != "" && !strings.Contains(user, ".")
}

// AllRoutes are the subjects of [StreamRoute].
func AllRoutes() []string {
	return []string{routePrefix + "*.*", routePrefix + "*.*.*", waitPrefix + "*"}
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

// ParseRoute is the inverse of [Route]. user is a token.
func ParseRoute(subject string) (user string, s Selector, ok bool) {
	rest, ok := strings.CutPrefix(subject, routePrefix)
	if !ok {
		return "", s, false
	}
	user, rest, _ = strings.Cut(rest, ".")
	kind, token, named := strings.Cut(rest, ".")
	if _, err := Unescape(user); err != nil {
		return "", s, false
	}
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

// Deadline is where it is kept when messages of a device end.
func Deadline(k Key) string { return deadlinePrefix + string(k) }

// AllDeadlines is the subject of [StreamDeadline].
func AllDeadlines() string { return deadlinePrefix + "*.*" }

// ParseDeadline is the inverse of [Deadline].
func ParseDeadline(subject string) (Key, bool) { return parseKey(deadlinePrefix, subject) }

// Release is where an edge is asked to let go of a device that has connected
// elsewhere; edge is its id.
func Release(edge string) string { return "rccs.edge." + edge + ".release" }

// Audit is where it is kept that something was done.
func Audit(action string) string { return "rccs.audit." + action }

// AllAudits is the subject of [StreamAudit].
func AllAudits() string { return "rccs.audit.*" }

// Drain is where an edge is asked to send its devices elsewhere, or to take them
// again; edge is its id.
func Drain(edge string) string { return "rccs.edge." + edge + ".drain" }

// PartEndpoint is an endpoint of the coordinator for RCCS's own parts alone:
// services may call what has one token behind "rccs.coordinator", and this has
// two.
func PartEndpoint(endpoint string) string { return "rccs.coordinator.part." + endpoint }
