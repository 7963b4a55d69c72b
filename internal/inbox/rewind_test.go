package inbox_test

import (
	"errors"
	"slices"
	"testing"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/rccs-io/rccs/internal/epoch"
	"github.com/rccs-io/rccs/internal/inbox"
	"github.com/rccs-io/rccs/internal/layout"
	"github.com/rccs-io/rccs/internal/reader"
	"github.com/rccs-io/rccs/subjects"
)

// A power loss that takes the end of the stream and leaves the cursors must
// not acknowledge what is stored next under the same sequences.
func TestStreamThatLostItsEndBringsNewMessages(t *testing.T) {
	t.Parallel()
	s := newSystem(t, nil)
	s.put(phone, subjects.Normal, 0, 5)
	d := s.attach(phone, 100)
	got := d.receive(5)
	for _, m := range got[:4] {
		d.mailbox.Ack(m.Seq)
	}
	s.stop()
	if c, ok := s.cursor(phone); !ok || c.Sent[subjects.Normal] != 5 || c.AckFloor(subjects.Normal) != 4 {
		t.Fatalf("cursor is %+v", c)
	}
	// What a power loss leaves: a stream with its first two messages.
	s.loseInbox()
	s.put(phone, subjects.Normal, 100, 2)
	s.start(nil)
	s.put(phone, subjects.Normal, 102, 7) // past where the cursor was
	d = s.attach(phone, 100)
	// The two were stored before the hub looked, but after the cursor was: they
	// are new as well.
	expect(t, d.receive(9), numbers(100, 9))
	s.none(d)
	if c, ok := s.cursor(phone); ok && c.Sent[subjects.Normal] > 9 {
		t.Fatalf("cursor is %+v", c)
	}
}

// What is stored next under sequences that were counted once is counted as well, also
// when the hub that found the end gone is killed at once.
func TestWhatFollowsALostEndIsCounted(t *testing.T) {
	t.Parallel()
	s := newSystem(t, nil)
	s.put(phone, subjects.Normal, 0, 5)
	d := s.attach(phone, 100)
	ack(d, d.receive(5))
	s.stop()
	s.loseInbox()
	s.start(nil)
	s.abandon()
	s.put(phone, subjects.Normal, 5, 4)
	s.start(nil)
	s.eventually("what was stored meanwhile is counted", func() bool {
		c, _ := s.cursor(phone)
		return c.Waiting[subjects.Normal] == 4
	})
}

// A message that gets the seq of one that was lost has a deadline and an outcome of
// its own.
func TestAfterALostEndEachMessageHasItsOwnOutcome(t *testing.T) {
	t.Parallel()
	s := newSystem(t, nil)
	outcomes := func() (ids []string) {
		for _, e := range s.events("delivered") {
			ids = append(ids, e["id"].(string))
		}
		return ids
	}
	var want []string
	for _, id := range []string{"before", "after"} {
		want = append(want, id)
		s.askWithin(phone, id, time.Hour)
		s.eventually("the deadline is stored", func() bool { return slices.Contains(s.deadlines(), id) })
		d := s.attach(phone, 100)
		ack(d, d.receive(1))
		s.eventually("the outcome is stored", func() bool { return slices.Equal(outcomes(), want) })
		s.stop()
		s.loseInbox()
		s.start(nil)
	}
}

// loseInbox leaves an inbox stream that has lost everything, up to its end.
func (s *system) loseInbox() {
	s.t.Helper()
	if err := s.js.DeleteStream(s.t.Context(), layout.StreamInbox); err != nil {
		s.t.Fatal(err)
	}
	s.createInbox()
}

// A watermark that nothing stands behind is no reason to look at cursors.
func TestWatermarkBelowTheEndChangesNothing(t *testing.T) {
	t.Parallel()
	s := newSystem(t, nil)
	s.put(phone, subjects.Normal, 0, 3)
	d := s.attach(phone, 100)
	ack(d, d.receive(3))
	s.stop()
	before := must(s.js.Stream(t.Context(), layout.StreamCursor)).CachedInfo().State.LastSeq
	s.start(nil)
	if after := must(s.js.Stream(t.Context(), layout.StreamCursor)).CachedInfo().State.LastSeq; after != before {
		t.Errorf("%d cursors were stored for nothing", after-before)
	}
	s.none(s.attach(phone, 100))
}

// While a cluster chooses a leader for the stream, a server may answer that has yet
// to apply its log. Its stream ends earlier, and has lost nothing.
func TestAServerThatLagsHasLostNoEnd(t *testing.T) {
	t.Parallel()
	s := newSystem(t, nil)
	s.put(phone, subjects.Normal, 0, 5)
	d := s.attach(phone, 100)
	ack(d, d.receive(5))
	s.stop()
	before := s.streamEpoch()
	asked := s.env.Leaderless(layout.StreamInbox, 3, 10)
	s.start(nil)
	if n := asked.Load(); n <= 10 {
		t.Fatalf("%d answers: those that lag were believed", n)
	}
	d = s.attach(phone, 100)
	s.none(d)
	if gaps := d.mailbox.Gaps(); len(gaps) > 0 || s.streamEpoch() != before {
		t.Errorf("told %+v, and the epoch was %s and is %s", gaps, before, s.streamEpoch())
	}
}

func (s *system) streamEpoch() string {
	s.t.Helper()
	return epoch.Of(must(s.js.Stream(s.t.Context(), layout.StreamInbox)).CachedInfo())
}

func TestUnreadableWatermarkStopsTheStart(t *testing.T) {
	t.Parallel()
	s := newSystem(t, nil)
	s.stop()
	if _, err := s.js.PublishMsg(t.Context(), &nats.Msg{Subject: layout.Watermark, Data: []byte("?")}); err != nil {
		t.Fatal(err)
	}
	pub := must(inbox.NewPublisher(s.env.Dialer(), nil))
	defer pub.Stop()
	hub := must(inbox.New(inbox.Options{Read: s.env.Conn(t), Fetch: s.env.Conn(t), Publish: pub}))
	if err := hub.Start(t.Context()); err == nil {
		t.Error("started without knowing whether the stream is whole")
	}
}

// A stream that is made anew under a running hub cannot be followed: the hub
// says so instead of waiting for sequences that are long past.
func TestStreamMadeAnewUnderTheHubMakesItUnhealthy(t *testing.T) {
	t.Parallel()
	s := newSystem(t, nil)
	s.put(phone, subjects.Normal, 0, 20)
	d := s.attach(phone, 100)
	ack(d, d.receive(20))
	if err := s.hub.Healthy(waitTimeout); err != nil {
		t.Fatal(err)
	}
	s.loseInbox()
	s.eventually("the hub is unhealthy", func() bool { return errors.Is(s.hub.Healthy(waitTimeout), reader.ErrCutBack) })
}
