package inbox

import (
	"encoding/json"
	"maps"
	"slices"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/rccs-io/rccs/internal/layout"
	"github.com/rccs-io/rccs/internal/proof"
	"github.com/rccs-io/rccs/subjects"
	"github.com/rccs-io/rccs/wire"
)

// tenfold is a renumbering.
var tenfold Renumbering = func(seq uint64) uint64 { return seq * 10 }

// Whatever names a message by its sequence names the same message when messages have
// been numbered anew.
func TestWhatNamesSequencesIsNumberedAnew(t *testing.T) {
	t.Parallel()
	c := Cursor{Sent: [subjects.Lanes]uint64{0, 17}, Waiting: [subjects.Lanes]uint64{0, 3}, UpTo: 20, AckRequested: []uint64{15}, Open: true, Epoch: 7, Doubted: 9}
	c.Unacked[1] = []uint64{12, 15}
	c.Gaps = []Gap{{Lane: 1, From: 3, To: 5, Count: 2, Reason: "purged"}}
	c.Tries = map[uint64]uint32{15: 4}
	got, err := ParseCursor(tenfold.Cursor(c.Append(nil)))
	if err != nil {
		t.Fatal(err)
	}
	if got.Sent != [subjects.Lanes]uint64{0, 170} || !slices.Equal(got.Unacked[1], []uint64{120, 150}) || got.UpTo != 200 ||
		!slices.Equal(got.AckRequested, []uint64{150}) || got.Gaps[0].From != 30 || got.Gaps[0].To != 50 || !maps.Equal(got.Tries, map[uint64]uint32{150: 4}) {
		t.Errorf("the cursor is %+v", got)
	}
	if got.Waiting != c.Waiting || got.Epoch != 7 || !got.Open || got.Doubted != 9 || got.Gaps[0].Count != 2 {
		t.Errorf("of the cursor has changed what names no sequence: %+v", got)
	}
	if got := string(tenfold.Cursor([]byte("spoilt"))); got != "spoilt" {
		t.Errorf("a cursor that cannot be read becomes %s", got)
	}
	if got := parsePurged(tenfold.Purged([]byte(`[0,4,0,0]`))); got != (purged{0, 40}) {
		t.Errorf("purged up to %v", got)
	}
	key := subjects.Address{User: "alice", Device: "phone"}.Key()
	was := Deadline{Seq: 6, Lane: "normal", At: time.Unix(9, 0).UTC(), ID: "x", From: "desktop"}
	m := tenfold.Deadline(key, was.message(key).Data)
	var d Deadline
	if err := json.Unmarshal(m.Data, &d); err != nil || d.Seq != 60 || d.ID != "x" || m.Header.Get(jetstream.MsgIDHeader) != "deadline/60/x" {
		t.Errorf("the deadline is %s, %v", m.Data, m.Header)
	}
}

// The first outcome of a message is the only one, and it is looked for by its number.
func TestOutcomesAndEventsAreNumberedAnew(t *testing.T) {
	t.Parallel()
	var k *proof.Key
	to := subjects.Address{User: "alice", Device: "phone"}.Key()
	o := outcome{key: to, lane: subjects.Normal, seq: 7, status: wire.StatusDelivered, requester: &ackRequester{id: "x", from: "desktop"}}
	sender := subjects.Address{User: "alice", Device: "desktop"}.Key()
	msg, want := o.message(k), o
	if !tenfold.Outcome(k, sender, o.lane, msg.Header, msg.Data) {
		t.Fatalf("the outcome is not recognised: %v", msg.Header)
	}
	want.seq = 70
	for _, name := range []string{subjects.HeaderID, layout.HeaderProof, jetstream.MsgIDHeader} {
		if got, want := msg.Header.Get(name), want.message(k).Header.Get(name); got != want {
			t.Errorf("%s is %s, want %s", name, got, want)
		}
	}
	forged := o.message(k)
	forged.Header.Set(layout.HeaderProof, "forged")
	if tenfold.Outcome(k, sender, o.lane, forged.Header, forged.Data) {
		t.Error("what a service wrote was taken for an outcome")
	}
	o.requester.from = ""
	event := o.message(k)
	body := tenfold.Event(event.Header, event.Data)
	var e rejectedEvent
	if err := json.Unmarshal(body, &e); err != nil || e.Seq != 70 || e.User != "alice" || event.Header.Get(jetstream.MsgIDHeader) != eventID(70, "x") {
		t.Errorf("the event is %s, %v", body, event.Header)
	}
	if got := string(tenfold.Event(nats.Header{jetstream.MsgIDHeader: {eventID(7, "x")}}, []byte(`null`))); got != `null` {
		t.Errorf("an event without a body became %s", got)
	}
	other := nats.Header{jetstream.MsgIDHeader: {"device/7"}}
	if got := string(tenfold.Event(other, []byte(`{"seq":7}`))); got != `{"seq":7}` || other.Get(jetstream.MsgIDHeader) != "device/7" {
		t.Errorf("another event became %s", got)
	}
}

// What shards knew each for itself holds for the stream that they become.
func TestMarksOfShardsAreJoined(t *testing.T) {
	t.Parallel()
	if got := tenfold.Watermark(WatermarkAt(4)); got != 40 {
		t.Errorf("watermark %d", got)
	}
	if got := tenfold.Counted(CountedUpTo(4)); got != 49 { // up to before what 5 has become
		t.Errorf("counted up to %d", got)
	}
	one := []byte(`{"ranges":[[1,2]],"messages":[{"seq":2,"subject":"s"}],"doubts":[{"from":1,"to":1,"at":5}],"found":[{"First":1}]}`)
	sum, err := tenfold.Damaged(nil, one)
	if err != nil {
		t.Fatal(err)
	}
	if sum, err = Renumbering(func(seq uint64) uint64 { return seq + 1000 }).Damaged(sum, one); err != nil {
		t.Fatal(err)
	}
	d := parseDamaged(sum)
	if len(d.Ranges) != 2 || d.Ranges[0] != [2]uint64{10, 20} || d.Ranges[1] != [2]uint64{1001, 1002} || len(d.Messages) != 2 || d.Messages[1].Seq != 1002 ||
		len(d.Doubts) != 2 || d.Doubts[0].From != 10 || d.Doubts[1].From != 1001 || d.Doubts[1].At <= d.Doubts[0].At {
		t.Errorf("damaged is %s", sum)
	}
	var found struct{ Found []json.RawMessage }
	if err := json.Unmarshal(sum, &found); err != nil || len(found.Found) != 2 {
		t.Errorf("operators are told %s", sum)
	}
}
