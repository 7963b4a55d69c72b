package subjects

import "strings"

// Streams and buckets, one set in each tenant's account.
const (
	// StreamInbox stores every durable message to a device.
	StreamInbox = "RCCS_INBOX"
	// StreamCursor stores, one message a device, what the device acknowledged.
	StreamCursor = "RCCS_CURSOR"
	// StreamLater stores what is to be delivered later, and passes it on to
	// [StreamInbox] when it is due.
	StreamLater = "RCCS_LATER"
	// StreamRoute stores what the coordinator has yet to find a device for.
	StreamRoute = "RCCS_ROUTE"
	// StreamDeadline stores, for messages whose sender wants to hear of it,
	// when their time to live ends.
	StreamDeadline = "RCCS_DEADLINE"
	// StreamTopic stores topics.
	StreamTopic = "RCCS_TOPIC"
	// StreamUp stores what devices send to services.
	StreamUp = "RCCS_UP"
	// StreamEvent stores what happened to devices and messages, for services.
	StreamEvent = "RCCS_EVENT"
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

// FirstTopicSeq is the first sequence of [StreamTopic]. It is above all that
// an inbox reaches, so that a device's acknowledgement of a topic's message,
// which needs none, is never taken for one of a message of its inbox. It is
// below 1<<53, so that JavaScript counts on from it.
const FirstTopicSeq = 1 << 52

const (
	inboxPrefix  = "rccs.inbox."
	cursorPrefix = "rccs.cursor."
	laterPrefix  = "rccs.later."
	duePrefix    = "rccs.due."
)

// AllInboxes are the subjects of [StreamInbox]: one pattern a lane, so that a
// publish to any other lane is stored nowhere and the publisher is told so.
func AllInboxes() []string {
	all := make([]string, 0, Lanes)
	for _, lane := range laneNames {
		all = append(all, inboxPrefix+"*.*."+lane)
	}
	return all
}

// Inbox is the subject of one lane of a device's inbox.
func Inbox(k Key, l Lane) string { return inboxPrefix + string(k) + "." + l.String() }

// AppendInbox appends what [Inbox] is for the address.
func AppendInbox(dst []byte, a Address, l Lane) []byte {
	dst = a.appendKey(append(dst, inboxPrefix...))
	return append(append(dst, '.'), l.String()...)
}

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

// Fence is where hubs are told that messages were purged: core NATS, a request
// that each answers with the name of its edge.
const Fence = "rccs.fence.inbox"

// Purged is where it is kept up to which sequences the inbox of a device was
// purged. It has three tokens, so it is no device's cursor.
func Purged(k Key) string { return cursorPrefix + "purged." + string(k) }

// Damaged is where it is kept which sequences of a stream a server found
// unreadable. It has three tokens, so it is no device's cursor.
func Damaged(stream string) string { return cursorPrefix + "damaged.stream." + stream }

// Cursor is where the acknowledgements of a device are kept.
func Cursor(k Key) string { return cursorPrefix + string(k) }

// ParseCursor is the inverse of [Cursor].
func ParseCursor(subject string) (Key, bool) {
	rest, ok := strings.CutPrefix(subject, cursorPrefix)
	if !ok || strings.Count(rest, ".") != 1 {
		return "", false
	}
	return Key(rest), true
}

// ReplyPrefix is the prefix of every reply subject of a device on plain NATS,
// which its client must set as its inbox prefix.
func ReplyPrefix(k Key) string { return "_INBOX." + string(k) }

// DeviceEndpoint is an endpoint of the coordinator that a device calls for
// itself; endpoint "*" is all of them.
func DeviceEndpoint(k Key, endpoint string) string {
	return devicePrefix + string(k) + "." + endpoint
}

// CoordinatorEndpoint is an endpoint of the coordinator for services and
// operators.
func CoordinatorEndpoint(endpoint string) string { return "rccs.coordinator." + endpoint }

const devicePrefix = "rccs.coordinator.device."

// ParseDeviceEndpoint is the inverse of [DeviceEndpoint].
func ParseDeviceEndpoint(subject string) (k Key, endpoint string, ok bool) {
	dot := strings.LastIndexByte(subject, '.')
	if dot < 0 {
		return "", "", false
	}
	k, ok = parseKey(devicePrefix, subject[:dot])
	return k, subject[dot+1:], ok
}

// AnyDeviceEndpoint is an endpoint that devices call for themselves, of all
// devices, for the coordinator.
func AnyDeviceEndpoint(endpoint string) string { return devicePrefix + "*.*." + endpoint }

// PartReplyPrefix is the inbox prefix of RCCS's own parts: no service and no
// device hears what lies below it.
const PartReplyPrefix = "_RCCS"

// importReply begins the reply subjects that NATS servers put in the place of
// those of services, see [ServiceImports]. Nobody else can use it.
const importReply = "_R_."

// IsClientReply reports whether a reply subject is one of a service, of a NATS
// client in the tenant's account that was left alone, or one of RCCS's own
// parts. None of them is a device's, a stream's, or an API's.
func IsClientReply(subject string) bool {
	if strings.HasPrefix(subject, importReply) {
		return true
	}
	if rest, ok := strings.CutPrefix(subject, PartReplyPrefix+"."); ok {
		return rest != ""
	}
	rest, ok := strings.CutPrefix(subject, "_INBOX.")
	return ok && rest != "" && strings.Count(rest, ".") <= 1
}
