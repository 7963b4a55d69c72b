package envelope_test

import (
	"encoding/base64"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/rccs-io/rccs/internal/envelope"
	"github.com/rccs-io/rccs/internal/layout"
	"github.com/rccs-io/rccs/internal/proof"
	"github.com/rccs-io/rccs/subjects"
	"github.com/rccs-io/rccs/wire"
)

// keyOf is a tenant's, of which messages had tags without a time until then.
func keyOf(t *testing.T, untimed time.Time) *proof.Key {
	t.Helper()
	secret := base64.StdEncoding.EncodeToString(make([]byte, 32))
	k, err := proof.Parse([]byte(`{"secret":"` + secret + `","untimed":"` + untimed.Format(time.RFC3339Nano) + `"}`))
	if err != nil {
		t.Fatal(err)
	}
	return k
}

const newsSubject = "rccs.topic.news"

// published is a message of alice's phone as it is stored at a time.
func published(k *proof.Key, id string, sent, stored time.Time) envelope.Stored {
	e := wire.NewEnvelope(id, "publish", nil)
	at := subjects.Address{User: "alice", Device: "phone"}
	m := envelope.Topic(&e, envelope.Sender{Key: at.Key(), Device: at.Device, Proof: k}, newsSubject, []byte(`1`), sent)
	return envelope.Stored{Subject: m.Subject, Seq: 1 << 52, Time: stored.UnixNano(), Header: m.Header, Data: m.Data}
}

// A message of a topic is its publisher's if it was stored while JetStream knew its
// id, under that id, and as it was.
func TestATopicsMessageIsItsPublishersWhileItsIDIsKnown(t *testing.T) {
	t.Parallel()
	now := time.Now()
	k := keyOf(t, now.Add(-time.Hour))
	for name, c := range map[string]struct {
		after  time.Duration
		change func(m *envelope.Stored)
		shared bool // in the device's share, for which the body is not read
		sender subjects.DeviceID
	}{
		"at once":        {shared: true, sender: "phone"},
		"just in time":   {after: layout.DedupWindow - time.Second, shared: true, sender: "phone"},
		"too late":       {after: layout.DedupWindow + time.Second, sender: envelope.Service},
		"another id":     {change: func(m *envelope.Stored) { m.Header.Set(jetstream.MsgIDHeader, "x") }, sender: envelope.Service},
		"no id":          {change: func(m *envelope.Stored) { m.Header.Del(jetstream.MsgIDHeader) }, sender: envelope.Service},
		"another body":   {change: func(m *envelope.Stored) { m.Data = []byte(`2`) }, shared: true, sender: envelope.Service},
		"another topic":  {change: func(m *envelope.Stored) { m.Subject = "rccs.topic.other" }, sender: envelope.Service},
		"another device": {change: func(m *envelope.Stored) { m.Header.Set(subjects.HeaderFrom, "x") }, sender: envelope.Service},
		"no proof":       {change: func(m *envelope.Stored) { m.Header.Del(layout.HeaderProof) }, sender: envelope.Service},
		"an earlier form": {change: func(m *envelope.Stored) {
			m.Header.Set(layout.HeaderProof, k.Tag(proof.Said, newsSubject, "alice", "phone", "a", "1"))
		}, sender: envelope.Service},
	} {
		m := published(k, "a", now, now.Add(c.after))
		if c.change != nil {
			c.change(&m)
		}
		device, _ := envelope.TopicSender(k, m)
		if _, shared := envelope.TopicShare(k, m); device != c.sender || shared != c.shared {
			t.Errorf("%s: from %s, in its share: %t", name, device, shared)
		}
	}
	m := published(k, "", now, now)
	if device, _ := envelope.TopicSender(k, m); device != "phone" || m.Header.Get(jetstream.MsgIDHeader) == "" || envelope.TopicID(m.Header, 7) != "seq-7" {
		t.Errorf("a message without an id: from %s, shown as %s", device, envelope.TopicID(m.Header, 7))
	}
}

// What earlier versions stored stays their publishers', and is not believed of what is
// stored later. While versions may be mixed, all write as the earlier ones do.
func TestTagsOfEarlierVersionsCountForWhatWasStoredWhileTheyRan(t *testing.T) {
	t.Parallel()
	now := time.Now()
	k := keyOf(t, now.Add(time.Hour))
	m := published(k, "a", now, now)
	if device, user := envelope.TopicSender(k, m); device != "phone" || user != "alice" || len(m.Header.Get(layout.HeaderProof)) != 24 {
		t.Errorf("from %s/%s, with %v", user, device, m.Header)
	}
	if _, shared := envelope.TopicShare(k, m); !shared {
		t.Error("it is in no share")
	}
	m.Time = now.Add(time.Hour).UnixNano()
	if device, _ := envelope.TopicSender(k, m); device != envelope.Service {
		t.Errorf("stored again later, it is from %s", device)
	}
	if _, shared := envelope.TopicShare(k, m); shared {
		t.Error("stored again later, it is in the device's share")
	}
	later := now.Add(time.Hour - time.Minute)
	m = published(k, "a", later, later) // which an earlier tag might not outlive
	if device, _ := envelope.TopicSender(k, m); device != "phone" || len(m.Header.Get(layout.HeaderProof)) == 24 {
		t.Errorf("from %s, with %v", device, m.Header)
	}
}
