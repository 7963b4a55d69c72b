package node

import (
	"encoding/json"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/rccs-io/rccs/auth"
	"github.com/rccs-io/rccs/internal/inbox"
	"github.com/rccs-io/rccs/internal/layout"
	"github.com/rccs-io/rccs/internal/natstest"
	"github.com/rccs-io/rccs/internal/proof"
	"github.com/rccs-io/rccs/internal/storecheck"
	"github.com/rccs-io/rccs/internal/testkit"
	"github.com/rccs-io/rccs/subjects"
)

// header is that of a stored message, as the store has it.
func header(fields nats.Header) []byte {
	text := "NATS/1.0\r\n"
	for name, values := range fields {
		text += name + ": " + values[0] + "\r\n"
	}
	return []byte(text + "\r\n")
}

// found has a server that finds damage tell of it.
func found(t *testing.T, js jetstream.JetStream, damage ...storecheck.Damage) {
	t.Helper()
	dir := t.TempDir()
	keys, err := auth.OpenKeystore(dir)
	testkit.Check(t, err)
	testkit.Check(t, os.Mkdir(filepath.Join(dir, "damaged"), 0o700))
	for _, d := range damage {
		body, err := json.Marshal(d)
		testkit.Check(t, err)
		name := fmt.Sprintf("20260101T000000.000.%s.%s.report.json", keys.Account().PublicKey, d.Stream)
		testkit.Check(t, os.WriteFile(filepath.Join(dir, "damaged", name), body, 0o600))
	}
	n := &Node{opts: Options{Data: dir, Logger: slog.New(slog.DiscardHandler)}}
	testkit.Check(t, n.tellDamage(t.Context(), js, keys))
}

func streams(t *testing.T) jetstream.JetStream {
	t.Helper()
	return natstest.Streams(t, natstest.Server(t).Conn(t))
}

// all returns what a stream holds, by subject, as text.
func all(t *testing.T, js jetstream.JetStream, name string) map[string]string {
	t.Helper()
	stream, err := js.Stream(t.Context(), name)
	testkit.Check(t, err)
	got := make(map[string]string)
	for seq := uint64(1); seq <= stream.CachedInfo().State.LastSeq; seq++ {
		msg, err := stream.GetMsg(t.Context(), seq)
		testkit.Check(t, err)
		got[msg.Subject] += string(msg.Data)
	}
	return got
}

// What waited for its time, or for a suitable device, and is damaged has an end that
// can be seen: services hear of it, and the device that sent it and asked.
func TestDamageOfWhatWaitsIsToldToThoseWhoSentIt(t *testing.T) {
	t.Parallel()
	js := streams(t)
	key, err := proof.Load(t.Context(), js)
	testkit.Check(t, err)
	from := func(device, tag string) []byte {
		return header(nats.Header{
			subjects.HeaderID: {"m1"}, subjects.HeaderAck: {"true"}, subjects.HeaderFrom: {device}, layout.HeaderProof: {tag},
		})
	}
	later := func(device string) string {
		return subjects.Later(subjects.Address{User: "alice", Device: subjects.DeviceID(device)}.Key(), subjects.High, "m1")
	}
	found(t, js, storecheck.Damage{
		Stream: subjects.StreamLater, At: time.Now(), Ranges: [][2]uint64{{3, 10}}, First: 3,
		Messages: []storecheck.Message{
			{Seq: 3, Subject: later("a"), Header: from("phone", key.Tag(proof.Sender, "alice", "phone", "m1"))},
			{Seq: 4, Subject: later("b"), Header: from("phone", "forged")},
			{Seq: 5, Subject: later("c"), Header: []byte("spoilt")},
			{Seq: 6, Subject: later("d"), Removed: true},
			{Seq: 7, Subject: "rccs.due.alice.e.high"}, // taken in by the inbox stream
		},
		Unknown: [][2]uint64{{8, 10}},
		Doubtful: []storecheck.Message{
			{Seq: 8, Subject: later("f"), Header: header(nats.Header{"Nats-Schedule-Target": {"rccs.due.alice.f.high"}})},
			{Seq: 9, Subject: later("g"), Header: header(nats.Header{"Nats-Schedule-Target": {"rccs.due.alice.other.high"}})},
			{Seq: 10, Subject: later("h"), Removed: true},
		},
	}, storecheck.Damage{
		Stream: layout.StreamRoute, At: time.Now(), Ranges: [][2]uint64{{2, 2}}, First: 2,
		Messages: []storecheck.Message{{Seq: 2, Subject: subjects.Route("bob", subjects.Selector{Any: true})}},
	})
	heard := map[string]string{}
	for subject, body := range all(t, js, subjects.StreamEvent) {
		var e struct {
			Kind, Reason, Subject string
			Seq                   uint64
		}
		testkit.Check(t, json.Unmarshal([]byte(body), &e))
		heard[subject] = fmt.Sprintf("%s %s %d of %s", e.Kind, e.Reason, e.Seq, e.Subject)
	}
	want := map[string]string{
		"rccs.event.alice.a.undeliverable": "undeliverable damaged 3 of " + later("a"),
		"rccs.event.alice.b.undeliverable": "undeliverable damaged 4 of " + later("b"),
		"rccs.event.alice.c.undeliverable": "undeliverable damaged 5 of " + later("c"),
		"rccs.event.alice.f.undeliverable": "undeliverable damaged 8 of " + later("f"),
		"rccs.event.%.%.undeliverable":     "undeliverable damaged 9 of " + later("g"), // as it was read
		"rccs.event.bob.%.undeliverable":   "undeliverable damaged 2 of rccs.route.bob.any",
	}
	for subject, told := range want {
		if heard[subject] != told {
			t.Errorf("%s is %q, want %q", subject, heard[subject], told)
		}
	}
	if len(heard) != len(want) {
		t.Errorf("services hear %q", heard)
	}
	outcomes := all(t, js, layout.StreamInbox)
	if got := outcomes["rccs.inbox.alice.phone.high"]; len(outcomes) != 1 ||
		got != `{"originalMessageId":"m1","status":"undeliverable","deviceId":"a","reason":"damaged"}` {
		t.Errorf("the device hears %q", outcomes)
	}
}

// The next hub reads all that is stored, and stores the deadlines that are gone.
func TestDamageOfDeadlinesHasThemMadeAnew(t *testing.T) {
	t.Parallel()
	js := streams(t)
	_, err := js.Publish(t.Context(), layout.Counted, []byte(`{"upTo":7}`))
	testkit.Check(t, err)
	counted := func() uint64 {
		stream, err := js.Stream(t.Context(), layout.StreamCursor)
		testkit.Check(t, err)
		msg, err := stream.GetLastMsgForSubject(t.Context(), layout.Counted)
		testkit.Check(t, err)
		upTo, err := inbox.ParseCounted(msg.Data)
		testkit.Check(t, err)
		return upTo
	}
	found(t, js, storecheck.Damage{Stream: layout.StreamDeadline, At: time.Now()}) // an index
	if n := counted(); n != 7 {
		t.Errorf("nothing is gone, and messages count up to %d, want 7", n)
	}
	found(t, js, storecheck.Damage{Stream: layout.StreamDeadline, At: time.Now(), Ranges: [][2]uint64{{1, 1}}, First: 1})
	if n := counted(); n != 0 {
		t.Errorf("deadlines are gone, and messages count up to %d, want 0", n)
	}
}
