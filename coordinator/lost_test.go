package coordinator_test

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/rccs-io/rccs/coordinator"
	"github.com/rccs-io/rccs/internal/epoch"
	"github.com/rccs-io/rccs/internal/inbox"
	"github.com/rccs-io/rccs/internal/layout"
	"github.com/rccs-io/rccs/internal/natstest"
	"github.com/rccs-io/rccs/internal/roster"
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

// Also when newer messages are stored behind them, counted or not.
func TestFetchTellsHowManyMessagesAreGoneBeforeTheNext(t *testing.T) {
	t.Parallel()
	for _, counted := range []uint64{0, 1} {
		t.Run(fmt.Sprint("counted ", counted), func(t *testing.T) {
			t.Parallel()
			p, d := placeWithDevice(t)
			for range 2 {
				p.publish(subjects.Inbox(d.key, subjects.Normal), `"gone"`)
			}
			p.purgeBelow(3)
			p.publish(subjects.Inbox(d.key, subjects.Normal), `"here"`)
			c := inbox.Cursor{Waiting: [subjects.Lanes]uint64{0, 2 + counted}, UpTo: 2 + counted}
			p.publish(layout.Cursor(d.key), string(c.Append(nil)))
			all := d.fetch(nil)
			want := fmt.Sprintf(`{"lane":"normal","from":1,"to":%d,"count":2,"reason":"retention"}`, 2+counted)
			if len(all) != 2 || all[0].Type != "gap" || string(all[0].Payload) != want || all[1].Type != "notification" {
				t.Fatalf("got %s, want the gap %s and the message", payloads(all), want)
			}
			d.ack(map[string]any{"seq": all[1].Seq})
			p.publish(subjects.Inbox(d.key, subjects.Normal), `"next"`)
			if all = d.fetch(nil); len(all) != 1 || all[0].Type != "notification" {
				t.Errorf("got %s, want the next message", payloads(all))
			}
		})
	}
}

// The gap lies where the messages were, also when those behind it take several fetches.
func TestFetchTellsHowManyMessagesAreGoneAtTheFirstOfSeveral(t *testing.T) {
	t.Parallel()
	p, d := placeWithDevice(t)
	for range 2 {
		p.publish(subjects.Inbox(d.key, subjects.Normal), `"gone"`)
	}
	p.purgeBelow(3)
	for range 5 {
		p.publish(subjects.Inbox(d.key, subjects.Normal), `"here"`)
	}
	c := inbox.Cursor{Waiting: [subjects.Lanes]uint64{0, 7}, UpTo: 7}
	p.publish(layout.Cursor(d.key), string(c.Append(nil)))
	for i, want := range []int{3, 2, 1} {
		all := d.fetch(map[string]any{"limit": 2})
		if len(all) != want {
			t.Fatalf("fetch %d got %s, want %d", i, payloads(all), want)
		}
		if i == 0 && string(all[0].Payload) != `{"lane":"normal","from":1,"to":2,"count":2,"reason":"retention"}` {
			t.Errorf("told %s", all[0].Payload)
		}
		d.ack(map[string]any{"upTo": all[want-1].Seq})
	}
}

// What the device was given, did not acknowledge and cannot be given again is told to
// the sender too, as an edge does.
func TestFetchTellsTheSendersOfWhatIsGone(t *testing.T) {
	t.Parallel()
	p, d := placeWithDevice(t)
	seq := p.deadline(d.key, "i", time.Hour)
	d.fetch(nil)
	p.purgeBelow(seq + 1)
	if all := d.fetch(nil); len(all) != 1 || all[0].Type != "gap" {
		t.Fatalf("got %+v, want a gap", all)
	}
	if told := p.outcomes(); !slices.Equal(told, []string{"i expired"}) {
		t.Errorf("the sender was told %v", told)
	}
}

// A message that is gone when the device acknowledges it was delivered all the same.
func TestTheAcknowledgementOfWhatIsGoneIsTold(t *testing.T) {
	t.Parallel()
	p, d := placeWithDevice(t)
	seq := p.deadline(d.key, "i", time.Hour)
	d.fetch(nil)
	p.purgeBelow(seq + 1)
	if n := d.ack(map[string]any{"seq": seq}); n != 1 {
		t.Errorf("acknowledged %d", n)
	}
	if told := p.outcomes(); !slices.Equal(told, []string{"i delivered"}) {
		t.Errorf("the sender was told %v", told)
	}
}

// A stream that has lost its end holds nothing that follows what the device was given.
// The device is told at its next fetch all the same, and not again with what is stored
// later at the sequences that are given out twice.
func TestFetchTellsTheLostEndOfTheStream(t *testing.T) {
	t.Parallel()
	p := newPlace(t)
	k := address("alice/phone").Key()
	for range 5 {
		p.publish(subjects.Inbox(k, subjects.Normal), `"gone"`)
	}
	c := inbox.Cursor{Sent: [subjects.Lanes]uint64{0, 3}, Unacked: [subjects.Lanes][]uint64{nil, {3}}, Waiting: [subjects.Lanes]uint64{0, 2}, UpTo: 5}
	p.publish(layout.Cursor(k), string(c.Append(nil)))
	p.publish(layout.Watermark, `{"head":5}`)
	p.publish(layout.Counted, `{"upTo":5}`)
	if err := p.js.DeleteStream(p.ctx(), layout.StreamInbox); err != nil {
		t.Fatal(err)
	}
	natstest.Streams(t, p.nc)
	for range 2 {
		p.publish("rccs.inbox.alice.tablet.normal", `"else"`)
	}
	hub, err := inbox.New(inbox.Options{Read: p.env.Conn(t), Fetch: p.env.Conn(t), Publish: p.pub})
	if err == nil {
		err = hub.Start(p.ctx())
	}
	if err != nil {
		t.Fatal(err)
	}
	if err := hub.Stop(p.ctx()); err != nil { // it has cut cursors back, and counts nothing more
		t.Fatal(err)
	}
	p.coordinate()
	d := p.device("alice/phone")
	counted := 0
	all := d.fetch(nil)
	for _, e := range all {
		if e.Type != "gap" {
			t.Errorf("got %+v, want gaps", e)
		}
		if string(e.Payload) == `{"lane":"normal","from":3,"to":5,"count":3,"reason":"damaged"}` {
			counted++
		}
	}
	if counted != 1 {
		t.Errorf("told %s", payloads(all))
	}
	if all = d.fetch(nil); len(all) != 0 {
		t.Errorf("got %s once it was told", payloads(all))
	}
	stored, err := inbox.ParseCursor(p.stored(layout.StreamCursor, layout.Cursor(k))[0].Data)
	if err != nil || stored.Sent[subjects.Normal] != 2 {
		t.Errorf("the cursor is %+v, %v, and the stream ends at 2", stored, err)
	}
	for range 2 {
		seq := p.publish(subjects.Inbox(k, subjects.Normal), `"new"`)
		if all = d.fetch(nil); len(all) == 0 || all[len(all)-1].Seq != seq || all[len(all)-1].Redelivered {
			t.Fatalf("got %+v, want message %d", all, seq)
		}
		d.ack(map[string]any{"seq": seq})
	}
	if len(all) != 1 {
		t.Errorf("told again when a later message was acknowledged: %s", payloads(all))
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

// A copy that lags shows nothing that waits: what a killed edge may have sent is not taken
// for what it was not.
func TestFetchFromACopyThatLagsDoesNotSettleWhatAKilledEdgeMayHaveSent(t *testing.T) {
	t.Parallel()
	p, d := placeWithDevice(t)
	c := inbox.Cursor{Open: true}
	p.publish(layout.Cursor(d.key), string(c.Append(nil)))
	open := func() bool {
		c, err := inbox.ParseCursor(p.stored(layout.StreamCursor, layout.Cursor(d.key))[0].Data)
		return err == nil && c.Open
	}
	p.publish(subjects.Inbox(d.key, subjects.High), `"perhaps"`)
	p.env.Lag(layout.StreamInbox)
	if all := d.fetch(nil); len(all) != 0 || !open() {
		t.Errorf("got %+v, and the cursor is open: %t", all, open())
	}
	p.purgeBelow(2)
	if all := d.fetch(nil); len(all) != 0 || open() {
		t.Errorf("got %+v when nothing is left, and the cursor is open: %t", all, open())
	}
}

// A session that stored no cursor, because its edge was killed or the store did not take
// it, may have been sent what lies above that of an earlier one.
func TestFetchFlagsWhatASessionWithoutACursorMayHaveBeenSent(t *testing.T) {
	t.Parallel()
	p, e := placeWithEdge(t)
	c, _ := p.coordinate()
	d := p.device("alice/phone")
	p.publish(layout.Cursor(d.key), string(new(inbox.Cursor).Append(nil)))
	p.publish(subjects.Inbox(d.key, subjects.Normal), `"perhaps"`)
	s := p.connect(e, d.name, "mobile")
	s.Close(false, nil)
	p.eventually("the session is known, and over", func() bool {
		known, _ := c.Roster().Device(d.key)
		return known.Epoch == s.Epoch && !known.Online
	})
	all := d.fetch(nil)
	if len(all) != 1 || !all[0].Redelivered {
		t.Fatalf("got %+v, want it flagged", all)
	}
	p.publish(subjects.Inbox(d.key, subjects.Normal), `"new"`)
	if all = d.fetch(nil); len(all) != 2 || !all[0].Redelivered || all[1].Redelivered {
		t.Errorf("got %+v, want the second one not flagged", all)
	}
}

// An edge was taken for dead, and may be back any moment. Before a coordinator gives its
// device messages, or acknowledges any, it ends the session for good.
func TestADeviceOfAnEdgeTakenForDeadIsServedWhenItsSessionHasEnded(t *testing.T) {
	t.Parallel()
	for _, endpoint := range []string{"fetch", "ack"} {
		t.Run(endpoint, func(t *testing.T) {
			t.Parallel()
			p := newPlace(t)
			d := p.device("alice/phone")
			seq := p.publish(subjects.Inbox(d.key, subjects.Normal), `"one"`)
			sent := inbox.Cursor{Open: true, Epoch: 5, Sent: [subjects.Lanes]uint64{0, seq}, Unacked: [subjects.Lanes][]uint64{1: {seq}}, UpTo: seq}
			p.publish(layout.Cursor(d.key), string(sent.Append(nil)))
			p.publish(layout.SessionSubject(d.key), `{"session":"s","edge":"away","epoch":5,"status":"offline","by":"janitor","write":1}`)
			p.coordinate()
			if code := d.ask(endpoint, map[string]map[string]any{"ack": {"seq": seq}}[endpoint], nil); code != "" {
				t.Fatalf("told %q", code)
			}
			entry := p.stored("KV_"+layout.BucketSessions, layout.SessionSubject(d.key))
			epoch, online := roster.SessionIn(entry[len(entry)-1].Data)
			stored := p.stored(layout.StreamCursor, layout.Cursor(d.key))
			c, err := inbox.ParseCursor(stored[len(stored)-1].Data)
			if err != nil || epoch != 6 || online || c.Epoch != 6 || (len(c.Unacked[subjects.Normal]) == 0) != (endpoint == "ack") {
				t.Errorf("the session is of epoch %d, and the cursor is %+v, %v", epoch, c, err)
			}
		})
	}
}

// A device connects while it fetches, and the edge has read the cursor before the fetch
// has stored it. Then the messages are the edge's, although this coordinator has not
// heard of the session yet.
func TestAFetchGivesOutNothingThatAnEdgeMayGiveOutAsNew(t *testing.T) {
	t.Parallel()
	p := newPlace(t, natstest.Listen())
	e := p.edge("e")
	way := natstest.NewProxy(t, p.env.Addr())
	p.coordinateWith(coordinator.Options{Dial: func(name string, opts ...nats.Option) (*nats.Conn, error) {
		if name != "read" {
			return p.dial(name, opts...)
		}
		return natstest.Connect(way.URL(), append([]nats.Option{nats.CustomInboxPrefix(layout.PartReplyPrefix), nats.Timeout(patience)}, opts...)...)
	}})
	d := p.device("alice/phone")
	p.publish(subjects.Inbox(d.key, subjects.Normal), `"one"`)
	way.Freeze()
	s := p.connect(e, d.name, "mobile")
	if code := d.ask("fetch", nil, nil); code != "PERMISSION_DENIED" {
		t.Errorf("fetch: %q", code)
	}
	s.Close(false, nil)
	way.Heal()
	p.eventually("the session is over", func() bool {
		var all []got
		return d.ask("fetch", nil, &all) == "" && len(all) == 1 && all[0].Redelivered
	})
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
