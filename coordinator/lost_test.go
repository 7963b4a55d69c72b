package coordinator_test

import (
	"testing"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/rccs-io/rccs/internal/epoch"
	"github.com/rccs-io/rccs/internal/inbox"
	"github.com/rccs-io/rccs/internal/layout"
	"github.com/rccs-io/rccs/subjects"
)

// A device on plain NATS is told how many messages are gone that it was never
// given, before those that are left.
func TestFetchTellsHowManyMessagesAreGone(t *testing.T) {
	t.Parallel()
	p := newPlace(t)
	p.coordinate()
	d := p.device("alice/phone")
	for range 2 {
		p.publish(subjects.Inbox(d.key, subjects.Normal), `"gone"`)
	}
	c := inbox.Cursor{Waiting: [subjects.Lanes]uint64{0, 2}, UpTo: 2} // as an edge counts them
	p.publish(layout.Cursor(d.key), string(c.Append(nil)))
	stream, err := p.js.Stream(t.Context(), layout.StreamInbox)
	if err != nil {
		t.Fatal(err)
	}
	if err := stream.Purge(t.Context(), jetstream.WithPurgeSequence(3)); err != nil {
		t.Fatal(err)
	}
	all := d.fetch(nil)
	if len(all) != 1 || all[0].Type != "gap" {
		t.Fatalf("got %+v, want a gap", all)
	}
	if all = d.fetch(nil); len(all) != 0 {
		t.Errorf("got %+v once it was told", all)
	}
	p.publish(subjects.Inbox(d.key, subjects.Normal), `"here"`)
	if all = d.fetch(nil); len(all) != 1 || all[0].Type != "notification" {
		t.Errorf("got %+v, want the message", all)
	}
}

// A restore brings back cursors that are older than what was sent since: what
// they do not know of comes flagged, also to a device on plain NATS.
func TestFetchFlagsWhatMayHaveBeenSentBeforeARestore(t *testing.T) {
	t.Parallel()
	p := newPlace(t)
	p.coordinate()
	d := p.device("alice/phone")
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
