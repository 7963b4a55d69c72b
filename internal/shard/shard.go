package shard

import (
	"fmt"
	"hash/fnv"
	"slices"
	"strconv"
	"strings"

	"github.com/nats-io/nats.go"

	"github.com/rccs-io/rccs/internal/layout"
	"github.com/rccs-io/rccs/subjects"
)

// Max is how many shards a tenant may have.
const Max = 64

// Check returns why a tenant cannot have n shards, or nil.
func Check(n int) error {
	if n < 1 || n > Max {
		return fmt.Errorf("shard: a tenant has 1 to %d shards, not %d", Max, n)
	}
	return nil
}

// Shard is one of the shards of a tenant. The zero Shard is the only one of its
// tenant.
type Shard struct {
	n, of int
	token string // of subjects: "rccs.N."
}

// Only is the shard of a tenant that has one.
var Only Shard

// At returns shard n, counted from 0, of a tenant that has so many.
func At(n, of int) Shard {
	if of <= 1 {
		return Only
	}
	return Shard{n: n, of: of, token: prefix + strconv.Itoa(n) + "."}
}

// All returns the shards of a tenant that has so many.
func All(of int) []Shard {
	all := make([]Shard, max(of, 1))
	for n := range all {
		all[n] = At(n, of)
	}
	return all
}

// Of returns the shard of a user's token, in a tenant that has so many. NATS's
// partition function decides the same for what services publish.
func Of(user string, of int) int {
	if of <= 1 {
		return 0
	}
	h := fnv.New32a()
	_, _ = h.Write([]byte(user))       // never fails
	return int(h.Sum32() % uint32(of)) //nolint:gosec // Check bounds it
}

// OfUser is [Of] for a user's name.
func OfUser(user subjects.UserID, of int) int { return Of(subjects.Escape(string(user)), of) }

// N is the shard's number, from 0.
func (s Shard) N() int { return s.n }

// Count is how many shards the tenant has.
func (s Shard) Count() int { return max(s.of, 1) }

// Alone reports whether the tenant has no other shard.
func (s Shard) Alone() bool { return s.of == 0 }

// Holds reports whether the devices of a user belong to this shard. user is its
// token.
func (s Shard) Holds(user string) bool { return s.Alone() || Of(user, s.of) == s.n }

// String is the shard's number as a label, empty for the only one.
func (s Shard) String() string {
	if s.Alone() {
		return ""
	}
	return strconv.Itoa(s.n)
}

const (
	prefix    = "rccs."
	kv        = "$KV."
	kvStream  = "KV_"
	dueHeader = "Nats-Schedule-Target"
	idHeader  = "Nats-Msg-Id"
)

// The streams and buckets that each shard has, and the second tokens of subjects
// that are published to them.
var (
	streams = []string{layout.StreamInbox, layout.StreamCursor, subjects.StreamLater, layout.StreamRoute, layout.StreamDeadline}
	buckets = []string{layout.BucketDevices, layout.BucketSessions, layout.BucketTasks, layout.BucketEdges}
	kinds   = []string{"inbox", "cursor", "later", "due", "route", "wait", "deadline", "fence"}
)

// Divided reports whether each shard has a stream of this name of its own.
func Divided(stream string) bool {
	if bucket, ok := strings.CutPrefix(stream, kvStream); ok {
		return slices.Contains(buckets, bucket)
	}
	return slices.Contains(streams, stream)
}

// Stream returns the name that a stream of package layout has in this shard.
func (s Shard) Stream(name string) string {
	if s.Alone() || !Divided(name) {
		return name
	}
	return name + "_" + strconv.Itoa(s.n)
}

// Bucket is [Shard.Stream] for a bucket.
func (s Shard) Bucket(name string) string {
	return strings.TrimPrefix(s.Stream(kvStream+name), kvStream)
}

// PlainStream returns the name in package layout of one of this shard's streams.
// It reports false for a stream of another shard.
func (s Shard) PlainStream(name string) (string, bool) {
	if s.Alone() {
		return name, true
	}
	cut := strings.LastIndexByte(name, '_')
	if cut < 0 || !Divided(name[:cut]) {
		return name, !Divided(name)
	}
	return name[:cut], name[cut+1:] == strconv.Itoa(s.n)
}

// Named returns the shard that a stream belongs to, of so many, and the stream's name
// in package layout. What is the tenant's is with its first shard.
func Named(stream string, of int) (Shard, string) {
	for _, s := range All(of) {
		if plain, own := s.PlainStream(stream); own {
			return s, plain
		}
	}
	return At(0, of), stream
}

// Subject returns where to publish what is to be stored on a subject of package
// layout. A subject of no shard is returned as it is.
func (s Shard) Subject(subject string) string {
	if s.Alone() {
		return subject
	}
	rest, ok := strings.CutPrefix(subject, prefix)
	if !ok {
		return s.Stored(subject)
	}
	if kind, _, _ := strings.Cut(rest, "."); slices.Contains(kinds, kind) {
		return s.token + rest
	}
	return subject
}

// Subjects is [Shard.Subject] for each of several.
func (s Shard) Subjects(list ...string) []string {
	out := make([]string, len(list))
	for i, subject := range list {
		out[i] = s.Subject(subject)
	}
	return out
}

// Transform returns the subject transform of this shard's streams: from what is
// published to what is stored.
func (s Shard) Transform() (from, to string) { return s.token + ">", prefix + ">" }

// Stored returns the subject, or filter, under which a subject of package layout
// is stored. Only the entries of buckets differ: a bucket's clients want their
// keys below its own name.
func (s Shard) Stored(subject string) string {
	if s.Alone() {
		return subject
	}
	rest, ok := strings.CutPrefix(subject, kv)
	bucket, key, found := strings.Cut(rest, ".")
	if !ok || !found || !slices.Contains(buckets, bucket) {
		return subject
	}
	return kv + bucket + "_" + strconv.Itoa(s.n) + "." + key
}

// Plain returns the subject of package layout, of one that [Shard.Subject] or
// [Shard.Stored] has made.
func (s Shard) Plain(subject string) string {
	if s.Alone() {
		return subject
	}
	if rest, ok := strings.CutPrefix(subject, s.token); ok {
		return prefix + rest
	}
	rest, ok := strings.CutPrefix(subject, kv)
	bucket, key, found := strings.Cut(rest, ".")
	if !ok || !found {
		return subject
	}
	if name, ok := strings.CutSuffix(bucket, "_"+strconv.Itoa(s.n)); ok && slices.Contains(buckets, name) {
		return kv + name + "." + key
	}
	return subject
}

// Address has a message published in this shard. A schedule's target must lie in
// the stream that the schedule is stored in. The stream of events is the tenant's,
// so an event's id, which may be made from a sequence of the shard, gets the
// shard's number. To address a message again changes nothing.
func (s Shard) Address(m *nats.Msg) {
	if s.Alone() {
		return
	}
	m.Subject = s.Subject(m.Subject)
	if id := m.Header[idHeader]; len(id) == 1 && layout.IsEvent(m.Subject) {
		m.Header[idHeader] = []string{s.PlainID(m.Subject, id[0]) + s.mark()}
	}
	if target := m.Header[dueHeader]; len(target) == 1 {
		m.Header[dueHeader] = []string{s.Subject(target[0])}
	}
}

// mark is at the end of the ids of this shard's events.
func (s Shard) mark() string { return "@" + strconv.Itoa(s.n) }

// PlainID returns the id that a message on a subject had before [Shard.Address].
func (s Shard) PlainID(subject, id string) string {
	if s.Alone() || !layout.IsEvent(subject) {
		return id
	}
	return strings.TrimSuffix(id, s.mark())
}

// PlainHeader gives the header of a message that is stored on a subject the target
// of a schedule, and the id, that they have in package layout.
func (s Shard) PlainHeader(subject string, h nats.Header) {
	if s.Alone() {
		return
	}
	if target := h[dueHeader]; len(target) == 1 {
		h[dueHeader] = []string{s.Plain(target[0])}
	}
	if id := h[idHeader]; len(id) == 1 && layout.IsEvent(subject) {
		h[idHeader] = []string{s.PlainID(subject, id[0])}
	}
}

// Mappings are the subjects that the account of a tenant with so many shards maps
// to those of its shards, for callers that do not know them.
func Mappings(of int) map[string]string {
	if of <= 1 {
		return nil
	}
	to := func(kind, tokens string) string {
		return fmt.Sprintf("%s{{partition(%d,1)}}.%s.%s", prefix, of, kind, tokens)
	}
	const w1, w2, w3 = "{{wildcard(1)}}", "{{wildcard(2)}}", "{{wildcard(3)}}"
	return map[string]string{
		prefix + "inbox.*.*.*": to("inbox", w1+"."+w2+"."+w3),
		prefix + "route.*.*":   to("route", w1+"."+w2),
		prefix + "route.*.*.*": to("route", w1+"."+w2+"."+w3),
		// Services know one stream of delayed messages. Who asks for its state is
		// answered with that of all.
		layout.JetStreamAPI("STREAM", "INFO", subjects.StreamLater): layout.GuardedAPI("STREAM.INFO." + subjects.StreamLater),
	}
}
