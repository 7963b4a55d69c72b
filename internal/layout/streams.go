package layout

import (
	"strings"
	"time"

	"github.com/rccs-io/rccs/subjects"
)

// Streams and buckets, one set in each tenant's account. The streams that services
// read are in package subjects.
const (
	// StreamInbox stores every durable message to a device.
	StreamInbox = "RCCS_INBOX"
	// StreamCursor stores, one message a device, what the device acknowledged.
	StreamCursor = "RCCS_CURSOR"
	// StreamRoute stores what the coordinator has yet to find a device for.
	StreamRoute = "RCCS_ROUTE"
	// StreamDeadline stores, for messages whose sender wants to hear of it,
	// when their time to live ends.
	StreamDeadline = "RCCS_DEADLINE"
	// StreamAudit stores what operators do. Nothing can be removed from it.
	StreamAudit = "RCCS_AUDIT"

	// BucketDevices records what a device is.
	BucketDevices = "RCCS_DEVICES"
	// BucketSessions records which edge holds a device.
	BucketSessions = "RCCS_SESSIONS"
	// BucketEdges holds the lease of each edge.
	BucketEdges = "RCCS_EDGES"
	// BucketAccount holds the tenant's account JWT, with its revocations.
	BucketAccount = "RCCS_ACCOUNT"
	// BucketTasks records which device a task belongs to.
	BucketTasks = "RCCS_TASKS"
	// BucketCodes holds one-time codes of enrolment, hashed.
	BucketCodes = "RCCS_CODES"
	// BucketEnrolled records the keys that devices made themselves.
	BucketEnrolled = "RCCS_ENROLLED"
)

// DedupWindow is how long a repeated id is recognised: two minutes, by the protocol.
const DedupWindow = 2 * time.Minute

// FirstTopicSeq is the first sequence of [subjects.StreamTopic]. It is above all
// that an inbox reaches, so that a device's acknowledgement of a topic's message,
// which needs none, is never taken for one of a message of its inbox. It is
// below 1<<53, so that JavaScript counts on from it.
const FirstTopicSeq = 1 << 52

const (
	inboxPrefix    = "rccs.inbox."
	cursorPrefix   = "rccs.cursor."
	laterPrefix    = "rccs.later."
	duePrefix      = "rccs.due."
	waitPrefix     = "rccs.wait."
	routePrefix    = "rccs.route."
	deadlinePrefix = "rccs.deadline."
)

// AllInboxes are the subjects of [StreamInbox]: one pattern a lane, so that a
// publish to any other lane is stored nowhere and the publisher is told so.
func AllInboxes() []string {
	all := make([]string, 0, subjects.Lanes)
	for lane := range subjects.Lane(subjects.Lanes) {
		all = append(all, subjects.Scope{}.Lane(lane))
	}
	return all
}

// AppendInbox appends what [subjects.Inbox] is for the address.
func AppendInbox(dst []byte, a subjects.Address, l subjects.Lane) []byte {
	dst = subjects.AppendEscape(append(dst, inboxPrefix...), string(a.User))
	dst = subjects.AppendEscape(append(dst, '.'), string(a.Device))
	return append(append(dst, '.'), l.String()...)
}

// AllCursors is the subject of [StreamCursor].
func AllCursors() string { return cursorPrefix + ">" }

// Watermark is where an edge stores how far it has read the inbox stream,
// before the cursors that rely on it. It is one token, so no device's.
const Watermark = cursorPrefix + "watermark"

// Counted is where hubs store up to which sequence of the inbox stream every
// message is counted in a cursor. It is one token, so no device's.
const Counted = cursorPrefix + "counted"

// TopicMark is where it is stored how far the stream of topics was read. It is
// one token, so no device's.
const TopicMark = cursorPrefix + "topics"

// RouteSenders is where coordinators store who has sent what [StreamRoute] holds. It
// is one token, so no device's.
const RouteSenders = cursorPrefix + "routes"

// Fence is where hubs are told that messages were purged: core NATS, a request
// that each answers with the name of its edge.
const Fence = "rccs.fence.inbox"

// Purged is where it is kept up to which sequences the inbox of a device was
// purged. It has three tokens, so it is no device's cursor.
func Purged(k subjects.Key) string { return cursorPrefix + "purged." + string(k) }

// Damaged is where it is kept which sequences of a stream a server found
// unreadable. It has three tokens, so it is no device's cursor.
func Damaged(stream string) string { return cursorPrefix + "damaged.stream." + stream }

// Owner returns the token of the user to whom a message belongs that a stream of a
// shard, or of a bucket, holds on a subject; "" if it is no user's.
func Owner(subject string) string {
	tokens := strings.Split(subject, ".")
	switch {
	case len(tokens) < 3 || strings.HasPrefix(subject, kvEdges):
		return ""
	case tokens[0] == "$KV":
		return fromEntry(tokens[2])
	case !strings.HasPrefix(subject, cursorPrefix):
		return tokens[2]
	case len(tokens) == 5 && tokens[2] == "purged":
		return tokens[3]
	case len(tokens) == 4:
		return tokens[2]
	}
	return ""
}

// IsPurged reports whether a subject is one of [Purged].
func IsPurged(subject string) bool {
	return strings.HasPrefix(subject, cursorPrefix+"purged.") && strings.Count(subject, ".") == 4
}

// ParseDamaged is the inverse of [Damaged].
func ParseDamaged(subject string) (stream string, ok bool) {
	return strings.CutPrefix(subject, Damaged(""))
}

// Cursor is where the acknowledgements of a device are kept.
func Cursor(k subjects.Key) string { return cursorPrefix + string(k) }

// ParseCursor is the inverse of [Cursor].
func ParseCursor(subject string) (subjects.Key, bool) {
	return parseKey(cursorPrefix, subject)
}

func parseKey(prefix, subject string) (subjects.Key, bool) {
	rest, ok := strings.CutPrefix(subject, prefix)
	if !ok || strings.Count(rest, ".") != 1 {
		return "", false
	}
	return subjects.Key(rest), true
}

// AllSignals is every signal, for an edge.
func AllSignals() string { return subjects.Scope{}.Signals() }

// DeviceRPC is every request to a device, for the edge that holds it.
func DeviceRPC(k subjects.Key) string { return "rccs.rpc." + string(k) + ".*" }

// AllUp is the subject of [subjects.StreamUp].
func AllUp() string { return subjects.Scope{}.Ups() }

// AllEvents is the subject of [subjects.StreamEvent].
func AllEvents() string { return subjects.Scope{}.Events() }

// IsEvent reports whether a subject is one of [subjects.StreamEvent].
func IsEvent(subject string) bool { return strings.HasPrefix(subject, "rccs.event.") }

// IsCancel reports whether a filter covers delayed messages of one user only.
func IsCancel(filter string) bool {
	rest, ok := strings.CutPrefix(filter, laterPrefix)
	user, rest, deep := strings.Cut(rest, ".")
	return ok && deep && user != "" && rest != "" && !strings.ContainsAny(user, "*>")
}

// UserOfLater is the user's token of a subject of delayed messages, or of a filter for
// those of one user.
func UserOfLater(subject string) string {
	user, _, _ := strings.Cut(strings.TrimPrefix(subject, laterPrefix), ".")
	return user
}

// MayHoldLater reports whether a filter for what lies below a user covers subjects of
// delayed messages at all.
func MayHoldLater(filter string) bool {
	const tokens = 6
	n := strings.Count(filter, ".") + 1
	return n == tokens || n < tokens && strings.HasSuffix(filter, ".>")
}

// AllLater are the subjects of [subjects.StreamLater].
func AllLater() []string { return []string{laterPrefix + "*.*.*.*", duePrefix + "*.*.*"} }

// Due is where [subjects.StreamLater] puts a message whose time has come.
func Due(k subjects.Key, l subjects.Lane) string { return duePrefix + string(k) + "." + l.String() }

// IsDue reports whether a subject is one of [Due].
func IsDue(subject string) bool { return strings.HasPrefix(subject, duePrefix) }

// DueToInbox is the subject transform by which [StreamInbox] takes in what is
// due.
func DueToInbox() (from, to string) {
	return duePrefix + "*.*.*", inboxPrefix + "{{wildcard(1)}}.{{wildcard(2)}}.{{wildcard(3)}}"
}

// Wait is where a message of a user's device waits that is for one of several
// devices of which none is online.
func Wait(user subjects.UserID) string { return waitPrefix + subjects.Escape(string(user)) }

// ParseWait is the inverse of [Wait].
func ParseWait(subject string) (user subjects.UserID, ok bool) {
	token, ok := strings.CutPrefix(subject, waitPrefix)
	name, err := subjects.Unescape(token)
	return subjects.UserID(name), ok && name != "" && err == nil
}

// PublishedRoutes are those subjects of [StreamRoute] that services publish to.
func PublishedRoutes() string { return routePrefix + ">" }

// AllRoutes are the subjects of [StreamRoute].
func AllRoutes() []string {
	return []string{routePrefix + "*.*", routePrefix + "*.*.*", waitPrefix + "*"}
}

// Deadline is where it is kept when messages of a device end.
func Deadline(k subjects.Key) string { return deadlinePrefix + string(k) }

// AllDeadlines is the subject of [StreamDeadline].
func AllDeadlines() string { return deadlinePrefix + "*.*" }

// ParseDeadline is the inverse of [Deadline].
func ParseDeadline(subject string) (subjects.Key, bool) { return parseKey(deadlinePrefix, subject) }

// DeviceLater is a filter for all that a device is to get later.
func DeviceLater(k subjects.Key) string { return laterPrefix + string(k) + ".>" }

// Cursors are the cursors of a scope's devices.
func Cursors(s subjects.Scope) string { return cursorPrefix + tokens(s) }

// tokens are the user's and the device's of a scope.
func tokens(s subjects.Scope) string {
	switch {
	case s.User == "":
		return "*.*"
	case s.Device == "":
		return subjects.Escape(string(s.User)) + ".*"
	}
	return string(subjects.Address(s).Key())
}
