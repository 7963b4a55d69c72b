package proof

import (
	"context"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base64"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"hash"
	"sync"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/rccs-io/rccs/internal/layout"
	"github.com/rccs-io/rccs/internal/leader"
	"github.com/rccs-io/rccs/internal/shard"
	"github.com/rccs-io/rccs/internal/storeerr"
	"github.com/rccs-io/rccs/subjects"
)

// The purposes of tags.
const (
	Inbox     = "inbox"     // dedup id of a message for an inbox: sender, id
	Up        = "up"        // dedup id of a message to services: sender, id
	Topic     = "topic"     // dedup id of a topic's message: sender, id
	Route     = "route"     // dedup id of a copy that the coordinator makes
	Outcome   = "outcome"   // dedup id of an outcome: what it is of
	Sender    = "sender"    // shows who sent a stored message: user, sender, id
	Server    = "server"    // shows that RCCS itself speaks: inbox, id, body
	Cancelled = "cancelled" // shows that RCCS cancelled a delayed message: subject, sequence
	Displaced = "displaced" // name of a note of a delayed message that was replaced: sequence, subject; shows that RCCS wrote it: also the note's subject
	Said      = "said"      // shows who published to a topic, as earlier versions did: subject, user, device, id, body
	Spoken    = "spoken"    // shows who published to a topic, and by when it was stored
)

// Key is the tenant's. A nil Key makes tags that anybody can make; it is for
// tests.
type Key struct {
	macs sync.Pool // of *mac
	// trusted are the last sequences, by stream, of what was stored before there
	// was a key.
	trusted map[string]uint64
	// untimed is when the tags of topics without a time end.
	untimed time.Time
}

const secretLen = 32

func newKey(secret []byte, trusted map[string]uint64, untimed time.Time) *Key {
	k := &Key{trusted: trusted, untimed: untimed}
	k.macs.New = func() any { return &mac{hash: hmac.New(sha256.New, secret)} }
	return k
}

// open is a key that everybody knows.
var open = newKey(make([]byte, secretLen), nil, time.Time{})

const (
	tagLen   = 18 // bytes of the HMAC that a tag has: enough that none is guessed
	tagChars = tagLen / 3 * 4
)

// Tag is the tag of parts for a purpose, in 24 characters of base64url.
func (k *Key) Tag(purpose string, parts ...string) string {
	var tag [tagChars]byte
	return string(k.AppendTag(tag[:0], purpose, parts...))
}

// AppendTag appends what [Key.Tag] is.
func (k *Key) AppendTag(dst []byte, purpose string, parts ...string) []byte {
	if k == nil {
		k = open
	}
	m := k.macs.Get().(*mac)
	m.text = append(append(m.text[:0], purpose...), 0)
	for _, part := range parts { // with their length, so that none runs into the next
		m.text = binary.AppendUvarint(m.text, uint64(len(part)))
		m.text = append(m.text, part...)
	}
	m.hash.Reset()
	m.hash.Write(m.text)
	m.sum = m.hash.Sum(m.sum[:0])
	dst = base64.RawURLEncoding.AppendEncode(dst, m.sum[:tagLen])
	if cap(m.text) <= keptText {
		k.macs.Put(m)
	}
	return dst
}

// mac is the memory of one tag that is being made.
type mac struct {
	hash      hash.Hash
	text, sum []byte
}

// keptText is how much memory a mac keeps for the next tag.
const keptText = 4096

// Is reports whether tag is the tag of parts for a purpose.
func (k *Key) Is(tag, purpose string, parts ...string) bool {
	return subtle.ConstantTimeCompare([]byte(tag), []byte(k.Tag(purpose, parts...))) == 1
}

// Before reports whether a message of a stream was stored by an earlier version,
// which made no tags.
func (k *Key) Before(stream string, seq uint64) bool {
	return k != nil && seq > 0 && seq <= k.trusted[stream]
}

// Untimed reports whether a message that is stored at a time has a tag for [Said].
// From the end of that time on it has one for [Spoken]: a message could be stored
// again at any time, with a tag that says none. That end is a while after the first
// start of a version that knows both, so that all versions that run meanwhile
// understand each other.
func (k *Key) Untimed(at time.Time) bool { return k != nil && at.Before(k.untimed) }

// mixed is for how long versions may be mixed that know one kind of tag, and both.
const mixed = 24 * time.Hour

// stored is how the key lies in the bucket.
type stored struct {
	Secret []byte `json:"secret"`
	// Before are the last sequences of streams when the key was made.
	Before map[string]uint64 `json:"before,omitempty"`
	// Untimed is as [Key.Untimed] has it; zero where only earlier versions ran.
	Untimed time.Time `json:"untimed,omitzero"`
}

// Parse reads a key as it lies in the bucket, under [layout.SecretEntry].
func Parse(entry []byte) (*Key, error) {
	s, err := parse(entry)
	if err != nil {
		return nil, err
	}
	return newKey(s.Secret, s.Before, s.Untimed), nil
}

func parse(entry []byte) (s stored, err error) {
	if err := json.Unmarshal(entry, &s); err != nil || len(s.Secret) != secretLen {
		return s, fmt.Errorf("proof: the entry %s of bucket %s is spoilt: delete it, and restart all parts of RCCS", layout.SecretEntry, layout.BucketAccount)
	}
	return s, nil
}

const (
	// within bounds how long Load asks a store that does not answer, attempt one of
	// its tries, and pause lies between two.
	within  = 30 * time.Second
	attempt = 5 * time.Second
	pause   = 100 * time.Millisecond
)

// Load reads the tenant's key, and makes it when there is none. The tenant's
// buckets and streams must exist.
func Load(ctx context.Context, js jetstream.JetStream) (*Key, error) {
	ctx, cancel := context.WithTimeout(ctx, within)
	defer cancel()
	for {
		try, done := context.WithTimeout(ctx, attempt)
		k, err := load(try, js)
		done()
		if err == nil || !leader.Unanswered(err) {
			return k, err
		}
		select {
		case <-time.After(pause):
		case <-ctx.Done():
			return nil, err
		}
	}
}

func load(ctx context.Context, js jetstream.JetStream) (*Key, error) {
	kv, err := js.KeyValue(ctx, layout.BucketAccount)
	if err != nil {
		return nil, fmt.Errorf("proof: bucket %s: %w", layout.BucketAccount, err)
	}
	for {
		entry, err := kv.Get(ctx, layout.SecretEntry)
		switch {
		case err == nil:
			s, err := parse(entry.Value())
			if err != nil || !s.Untimed.IsZero() {
				return newKey(s.Secret, s.Before, s.Untimed), err
			}
			s.Untimed = time.Now().Add(mixed)
			if err := put(s, func(body []byte) (uint64, error) { return kv.Update(ctx, layout.SecretEntry, body, entry.Revision()) }); err != nil {
				return nil, err
			}
		case !errors.Is(err, jetstream.ErrKeyNotFound):
			return nil, fmt.Errorf("proof: bucket %s: %w", layout.BucketAccount, err)
		default:
			if err := create(ctx, js, kv); err != nil {
				return nil, err
			}
		}
	}
}

// put stores a key; the first of several that do so at once stands.
func put(s stored, write func(body []byte) (uint64, error)) error {
	body, err := json.Marshal(s) //nolint:gosec // it is stored where no service and no device reads
	if err != nil {
		return fmt.Errorf("proof: %w", err)
	}
	if _, err := write(body); err != nil && !storeerr.Lost(err) {
		return fmt.Errorf("proof: bucket %s: %w", layout.BucketAccount, err)
	}
	return nil
}

// create makes the key.
func create(ctx context.Context, js jetstream.JetStream, kv jetstream.KeyValue) error {
	s := stored{Secret: make([]byte, secretLen), Before: map[string]uint64{}, Untimed: time.Now()}
	_, _ = rand.Read(s.Secret) // never fails
	before := []string{layout.StreamInbox, subjects.StreamTopic}
	if shard.InShard(js) {
		before = nil // there were no shards before there was a key
	}
	for _, name := range before {
		info, err := leader.Info(ctx, js, name)
		if err != nil {
			return fmt.Errorf("proof: %w", err)
		}
		if info.State.Msgs > 0 {
			s.Before[name] = info.State.LastSeq
		}
	}
	return put(s, func(body []byte) (uint64, error) { return kv.Create(ctx, layout.SecretEntry, body) })
}
