package envelope

import (
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"strconv"
	"strings"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/rccs-io/rccs/internal/layout"
	"github.com/rccs-io/rccs/internal/proof"
	"github.com/rccs-io/rccs/subjects"
	"github.com/rccs-io/rccs/wire"
)

// Services read what devices publish to topics, tag and all, and may publish to
// topics. So that none can have a device say the same again, the tag holds by when
// the message must have been stored, and its Nats-Msg-Id. That time ends no later
// than JetStream forgets the id of what was stored under it. Where that window has
// passed, a copy comes too late; before that, JetStream drops it.

// Topic is the message of a topic, whose subject is given, as it is published now. A
// repeat of an id is one message of the topic.
func Topic(e *wire.Envelope, from Sender, subject string, body []byte, now time.Time) *nats.Msg {
	h := common(e, from)
	msgID := rand.Text()
	if e.ID != "" {
		msgID = from.Proof.Tag(proof.Topic, string(from.Key), e.ID)
	}
	h.set(jetstream.MsgIDHeader, msgID)
	delete(h.h, subjects.HeaderType)
	user := string(from.user())
	h.set(subjects.HeaderUser, user)
	by := now.Add(layout.DedupWindow)
	if from.Proof.Untimed(by) {
		h.set(layout.HeaderProof, from.Proof.Tag(proof.Said, subject, user, string(from.Device), e.ID, string(body)))
	} else {
		s := spoken{by: strconv.FormatInt(by.UnixMilli(), 36), digest: digest(body)}
		s.tag = from.Proof.Tag(proof.Spoken, s.by, s.digest, subject, user, string(from.Device), e.ID, msgID)
		h.set(layout.HeaderProof, s.by+"."+s.digest+"."+s.tag)
	}
	return &nats.Msg{Subject: subject, Header: h.h, Data: body}
}

// spoken is what the proof of a topic's message holds.
type spoken struct {
	by     string // when it must have been stored, Unix milliseconds in base 36
	digest string // of the body, so that the tag can be checked without it
	tag    string
}

func parseSpoken(text string) (s spoken, ok bool) {
	parts := strings.Split(text, ".")
	if len(parts) != 3 {
		return s, false
	}
	return spoken{parts[0], parts[1], parts[2]}, true
}

// digest is of 144 bits, as a tag is.
func digest(body []byte) string {
	sum := sha256.Sum256(body)
	return base64.RawURLEncoding.EncodeToString(sum[:18])
}

// holds reports whether a stored message has this proof, whatever its body is.
func (s *spoken) holds(k *proof.Key, m *Stored, user subjects.UserID, device subjects.DeviceID) bool {
	by, err := strconv.ParseInt(s.by, 36, 64)
	id, msgID := Value(m.Header, subjects.HeaderID), Value(m.Header, jetstream.MsgIDHeader)
	return err == nil && m.Time <= time.UnixMilli(by).UnixNano() &&
		k.Is(s.tag, proof.Spoken, s.by, s.digest, m.Subject, string(user), string(device), id, msgID)
}

// publisher is whom a message of a topic names as its publisher, and what it has to
// show for that. No device: nobody.
func publisher(h nats.Header) (device subjects.DeviceID, user subjects.UserID, tag string) {
	return subjects.DeviceID(Value(h, subjects.HeaderFrom)), subjects.UserID(Value(h, subjects.HeaderUser)), Value(h, layout.HeaderProof)
}

// TopicSender is who published a message of a topic, a device and its user.
// What does not show that a part of RCCS stored it is a service's, whatever its
// headers say.
func TopicSender(k *proof.Key, m Stored) (device subjects.DeviceID, user subjects.UserID) {
	device, user, tag := publisher(m.Header)
	s, timed := parseSpoken(tag)
	switch {
	case device == "":
	case k.Before(subjects.StreamTopic, m.Seq):
		return device, user
	case timed:
		if s.digest == digest(m.Data) && s.holds(k, &m, user, device) {
			return device, user
		}
	case k.Untimed(time.Unix(0, m.Time)):
		if k.Is(tag, proof.Said, m.Subject, string(user), string(device), Value(m.Header, subjects.HeaderID), string(m.Data)) {
			return device, user
		}
	}
	return Service, ""
}

// TopicShare is the device in whose share a message of a topic is, of which the
// data need not be known. ok is false for what services publish.
func TopicShare(k *proof.Key, m Stored) (key subjects.Key, ok bool) {
	device, user, tag := publisher(m.Header)
	if user == "" || device == "" || strings.HasPrefix(string(device), servicePrefix) {
		return "", false
	}
	key = subjects.Address{User: user, Device: device}.Key()
	if s, timed := parseSpoken(tag); timed {
		return key, s.holds(k, &m, user, device)
	}
	// The id shows that RCCS stored it: services cannot make one for another.
	id := Value(m.Header, jetstream.MsgIDHeader)
	return key, k.Untimed(time.Unix(0, m.Time)) && k.Is(id, proof.Topic, string(key), Value(m.Header, subjects.HeaderID))
}

// TopicID is the id that a message of a topic is shown with. Where RCCS published
// one that had none, the Nats-Msg-Id is not its publisher's.
func TopicID(h nats.Header, seq uint64) string {
	if _, timed := parseSpoken(Value(h, layout.HeaderProof)); timed && Value(h, subjects.HeaderID) == "" {
		h = nil
	}
	return shownID(h, seq)
}

// AppendTopic appends a stored message of a topic as the envelope that each
// subscriber gets. k is the tenant's key.
func AppendTopic(dst []byte, k *proof.Key, topic string, m Stored) []byte {
	e := wire.Envelope{
		ID: TopicID(m.Header, m.Seq), Type: wire.TypeTopic, Topic: topic, Seq: m.Seq, Priority: wire.Normal,
		Timestamp: timestamp(m.Header, m.Time),
	}
	Carried(&e, m.Header)
	e.FromDeviceID, e.UserID = TopicSender(k, m)
	e.Payload, e.Encoding = Payload(m.Data)
	return e.Append(dst)
}
