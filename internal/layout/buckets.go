package layout

import (
	"crypto/sha256"
	"encoding/base64"
	"strings"

	"github.com/rccs-io/rccs/subjects"
)

// Key-value keys have no '%' (ADR-8), so a token stands in them with '='
// instead, which no token contains.
const (
	kvDevices  = "$KV." + BucketDevices + "."
	kvSessions = "$KV." + BucketSessions + "."
	kvEdges    = "$KV." + BucketEdges + "."
	kvTasks    = "$KV." + BucketTasks + "."
	kvEnrolled = "$KV." + BucketEnrolled + "."
)

func entry(token string) string     { return strings.ReplaceAll(token, "%", "=") }
func fromEntry(entry string) string { return strings.ReplaceAll(entry, "=", "%") }

func parseEntry(prefix, subject string) (subjects.Key, bool) {
	k, ok := parseKey(prefix, subject)
	return subjects.Key(fromEntry(string(k))), ok
}

// DeviceEntry is the key of a device in [BucketDevices] and [BucketSessions].
func DeviceEntry(k subjects.Key) string { return entry(string(k)) }

// UserEntries is a filter for the entries of all of a user: of its devices in
// [BucketDevices] and the like, of its tasks in [BucketTasks].
func UserEntries(user subjects.UserID) string { return entry(subjects.Escape(string(user))) + ".*" }

// DeviceSubject is the subject of a device's entry in the bucket's stream.
func DeviceSubject(k subjects.Key) string { return kvDevices + DeviceEntry(k) }

// ParseDeviceSubject cuts the subject of an entry of [BucketDevices], as it
// stands in the bucket's stream, into the device's key.
func ParseDeviceSubject(subject string) (subjects.Key, bool) { return parseEntry(kvDevices, subject) }

// ParseEnrolledSubject cuts the subject of an entry of [BucketEnrolled] into the
// device's key.
func ParseEnrolledSubject(subject string) (subjects.Key, bool) {
	return parseEntry(kvEnrolled, subject)
}

// SessionSubject is the subject of a device's entry in [BucketSessions].
func SessionSubject(k subjects.Key) string { return kvSessions + DeviceEntry(k) }

// ParseSessionSubject is the inverse of [SessionSubject].
func ParseSessionSubject(subject string) (subjects.Key, bool) { return parseEntry(kvSessions, subject) }

// EdgeSubject is the subject of an edge's lease in [BucketEdges]; id is one
// that RCCS made, of letters and digits.
func EdgeSubject(id string) string { return kvEdges + id }

// ParseEdgeSubject is the inverse of [EdgeSubject].
func ParseEdgeSubject(subject string) (id string, ok bool) {
	id, ok = strings.CutPrefix(subject, kvEdges)
	return id, ok && id != "" && !strings.Contains(id, ".")
}

// TaskEntry is the key of a task in [BucketTasks]. A task is named by its
// user; a name that could not be a token is hashed.
func TaskEntry(user subjects.UserID, task string) string {
	if len(task) > subjects.MaxName {
		sum := sha256.Sum256([]byte(task))
		task = "sha256:" + base64.RawURLEncoding.EncodeToString(sum[:])
	}
	return entry(subjects.Escape(string(user))) + "." + entry(subjects.Escape(task))
}

// ParseTaskSubject is the inverse of [TaskSubject]. Of a name that was hashed it
// returns one that has the same entry.
func ParseTaskSubject(subject string) (user subjects.UserID, task string, ok bool) {
	rest, ok := strings.CutPrefix(subject, kvTasks)
	userToken, taskToken, cut := strings.Cut(rest, ".")
	if !ok || !cut {
		return "", "", false
	}
	name, err := subjects.Unescape(fromEntry(userToken))
	if err != nil {
		return "", "", false
	}
	task, err = subjects.Unescape(fromEntry(taskToken))
	return subjects.UserID(name), task, err == nil
}

// TaskSubject is the subject of a task's entry in the bucket's stream.
func TaskSubject(user subjects.UserID, task string) string { return kvTasks + TaskEntry(user, task) }

// AccountEntry is the key of the account JWT in [BucketAccount].
const AccountEntry = "jwt"

// SecretEntry is the key of the tenant's secret in [BucketAccount], from which
// RCCS's own parts make what services cannot.
const SecretEntry = "secret"

// AccountSubject is the subject of [AccountEntry] in the bucket's stream.
const AccountSubject = "$KV." + BucketAccount + "." + AccountEntry

// SecretSubject is the subject of [SecretEntry] in the bucket's stream.
const SecretSubject = "$KV." + BucketAccount + "." + SecretEntry

// Devices are the entries of a scope's devices in [BucketDevices].
func Devices(s subjects.Scope) string { return kvDevices + entry(tokens(s)) }

// Enrolled are the entries of a scope's devices in [BucketEnrolled].
func Enrolled(s subjects.Scope) string { return kvEnrolled + entry(tokens(s)) }

// Tasks are the entries of a user's tasks in [BucketTasks].
func Tasks(user subjects.UserID) string { return kvTasks + UserEntries(user) }

// ParseTaskUser is the user's token of a task's entry.
func ParseTaskUser(subject string) (user string, ok bool) {
	rest, ok := strings.CutPrefix(subject, kvTasks)
	user, _, found := strings.Cut(rest, ".")
	return fromEntry(user), ok && found
}

// AllEdges is a filter for all leases in [BucketEdges].
func AllEdges() string { return kvEdges + "*" }
