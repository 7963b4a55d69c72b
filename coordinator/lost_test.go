package coordinator_test

import (
	"testing"

	"github.com/rccs-io/rccs/internal/epoch"
	"github.com/rccs-io/rccs/internal/inbox"
	"github.com/rccs-io/rccs/internal/layout"
	"github.com/rccs-io/rccs/subjects"
)

// A device on plain NATS is told how many messages are gone that it was never
// given, before those that are left.
func TestFetchTellsHowManyMessagesAreGone(t *testing.T) {
	t.Parallel()
	p, d := placeWithDevice(t)
	for range 2 {
		p.publish(subjects.Inbox(d.key, subjects.Normal), `"gone"`)
	}
	c := inbox.Cursor{Waiting: [subjects.Lanes]uint64{0, 2}, UpTo: 2} // as an edge counts them
	p.publish(layout.Cursor(d.key), string(c.Append(nil)))
	p.purgeBelow(3)
	all := d.fetch(nil)
	if len(all) != 1 || all[0].Type != "gap" {
		t.Fatalf("got %+v, want a gap", all)
	}
	if all = d.fetch(nil); len(all) != 0 {
		t.Errorf("got %+v once it was told", all)
	}
	p.publish(subjects.Inbox(d.key, subjects.Normal), `"here"`)
	for range 2 { // it may not have got the answer
		if all = d.fetch(nil); len(all) != 2 || all[0].Type != "gap" || all[1].Type != "notification" {
			t.Fatalf("got %+v, want the gap and the message", all)
		}
	}
	d.ack(map[string]any{"seq": all[1].Seq})
	p.publish(subjects.Inbox(d.key, subjects.Normal), `"next"`)
	if all = d.fetch(nil); len(all) != 1 || all[0].Type != "notification" {
		t.Errorf("got %+v, want the next message", all)
	}
}

// The next fetch tells the gaps that an edge left in the cursor and that the device
// has not acknowledged. Those without a reason get one.
func TestFetchTellsTheGapsThatAnEdgeLeft(t *testing.T) {
	t.Parallel()
	p, d := placeWithDevice(t)
	for range 3 {
		p.publish(subjects.Inbox(d.key, subjects.Normal), `"gone"`)
	}
	c := inbox.Cursor{Sent: [subjects.Lanes]uint64{0, 3}, Gaps: []inbox.Gap{
		{Lane: subjects.Normal, From: 1, To: 1, Count: 1, Reason: "damaged"}, {Lane: subjects.Normal, From: 2, To: 3, Count: 2},
	}}
	p.publish(layout.Cursor(d.key), string(c.Append(nil)))
	p.purgeBelow(4)
	all := d.fetch(nil)
	if len(all) != 2 || string(all[0].Payload) != `{"lane":"normal","from":1,"to":1,"count":1,"reason":"damaged"}` ||
		string(all[1].Payload) != `{"lane":"normal","from":2,"to":3,"count":2,"reason":"retention"}` {
		t.Fatalf("got %+v, want both gaps", all)
	}
	if all = d.fetch(nil); len(all) != 0 {
		t.Errorf("got %+v once they were told", all)
	}
}

// An edge that was killed did not store how far it came: what it may have sent
// comes flagged, and nothing else.
func TestFetchFlagsWhatAKilledEdgeMayHaveSent(t *testing.T) {
	t.Parallel()
	p, d := placeWithDevice(t)
	c := inbox.Cursor{Open: true}
	p.publish(layout.Cursor(d.key), string(c.Append(nil)))
	for range 3 {
		p.publish(subjects.Inbox(d.key, subjects.Normal), `"perhaps"`)
	}
	for range 2 {
		if all := d.fetch(map[string]any{"limit": 2}); len(all) == 0 || !all[0].Redelivered {
			t.Fatalf("got %+v, want it flagged", all)
		}
		d.ack(map[string]any{"upTo": 2})
	}
	p.publish(subjects.Inbox(d.key, subjects.Normal), `"new"`)
	if all := d.fetch(nil); len(all) != 2 || !all[0].Redelivered || all[1].Redelivered {
		t.Errorf("got %+v, want the second one not flagged", all)
	}
}

// A restore brings back cursors that are older than what was sent since: what
// they do not know of comes flagged, also to a device on plain NATS.
func TestFetchFlagsWhatMayHaveBeenSentBeforeARestore(t *testing.T) {
	t.Parallel()
	p, d := placeWithDevice(t)
	p.publish(subjects.Inbox(d.key, subjects.Normal), `"before"`)
	if err := epoch.Redeliver(t.Context(), p.js, layout.StreamInbox); err != nil {
		t.Fatal(err)
	}
	p.publish(subjects.Inbox(d.key, subjects.Normal), `"after"`)
	all := d.fetch(nil)
	if len(all) != 2 || !all[0].Redelivered || all[1].Redelivered {
		t.Fatalf("got %+v, want the first flagged and the second not", all)
	}
}
