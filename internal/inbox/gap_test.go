package inbox_test

import (
	"context"
	"fmt"
	"maps"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/rccs-io/rccs/internal/inbox"
	"github.com/rccs-io/rccs/internal/layout"
	"github.com/rccs-io/rccs/internal/natstest"
	"github.com/rccs-io/rccs/subjects"
	"github.com/rccs-io/rccs/wire"
)

// gaps is what a device is told of what is gone, once it has taken n messages.
func (s *system) gaps(d *device) []wire.Gap {
	s.t.Helper()
	var all []wire.Gap
	s.eventually("the word of what is gone", func() bool {
		d.mailbox.Next(nil, 0, 1)
		all = append(all, d.mailbox.Gaps()...)
		return len(all) > 0
	})
	return all
}

// wantGap waits until the device is told of a gap, which must be the only one.
func (s *system) wantGap(d *device, want wire.Gap) {
	s.t.Helper()
	if gaps := s.gaps(d); len(gaps) != 1 || gaps[0] != want {
		s.t.Errorf("told %+v, want %+v", gaps, want)
	}
}

// noGap fails the test if the device is told of a gap now.
func (d *device) noGap() {
	d.t.Helper()
	if gaps := d.mailbox.Gaps(); len(gaps) > 0 {
		d.t.Errorf("told that messages are gone: %+v", gaps)
	}
}

// Messages that a device was sent, did not acknowledge, and that are gone, are
// told with their number, and those that are left come.
func TestGapTellsWhatWasSentAndIsGone(t *testing.T) {
	t.Parallel()
	for _, last := range []bool{false, true} { // something is left behind the gap, or not
		s := newSystem(t, nil)
		d := s.attach(phone, 100)
		s.put(phone, subjects.High, 0, 6)
		got := d.receive(6)
		d.mailbox.Ack(got[0].Seq)
		d.mailbox.Detach()
		stream, err := s.js.Stream(t.Context(), layout.StreamInbox)
		if err != nil {
			t.Fatal(err)
		}
		gone := got[1:4]
		if last {
			gone = got[1:6]
		}
		for _, g := range gone {
			if err := stream.DeleteMsg(t.Context(), g.Seq); err != nil {
				t.Fatal(err)
			}
		}
		s.stop() // what a hub has in memory is not gone
		s.start(nil)
		d = s.attach(phone, 100)
		if !last {
			expect(t, d.receive(2), "4r 5r")
		}
		want := wire.Gap{
			Lane: "high", From: gone[0].Seq, To: gone[len(gone)-1].Seq, Count: uint64(len(gone)), Reason: wire.ReasonPurged,
		}
		s.wantGap(d, want)
		d.mailbox.Detach()
		d = s.attach(phone, 100) // it is told until it acknowledges what it was sent after
		s.wantGap(d, want)
		s.put(phone, subjects.High, 6, 1)
		if last {
			ack(d, d.receive(1))
		} else {
			ack(d, d.receive(3))
		}
		d.mailbox.Detach()
		d = s.attach(phone, 100)
		s.none(d)
		d.noGap()
	}
}

// Of messages that a device was never sent, and that retention took, it is told
// how many there were, in the lane that they were in and in no other.
func TestGapTellsWhatRetentionTook(t *testing.T) {
	t.Parallel()
	s := newSystem(t, nil)
	s.put(phone, subjects.Normal, 0, 1)
	d := s.attach(phone, 100)
	got := d.receive(1)
	ack(d, got)
	d.mailbox.Detach()
	s.put(phone, subjects.Normal, 1, 5)
	s.caughtUp()
	s.purgeBelow(got[0].Seq + 4)
	s.restart()
	d = s.attach(phone, 100)
	expect(t, d.receive(2), "4 5")
	want := wire.Gap{Lane: "normal", From: got[0].Seq + 1, To: got[0].Seq + 3, Count: 3, Reason: wire.ReasonRetention}
	s.wantGap(d, want)
}

// A gap comes in the place of what is gone, also if more is left than one batch, if
// the device was sent a message before and did not acknowledge it, and if others go
// on sending: the store has messages then that the hub has not counted yet.
func TestAGapComesBeforeWhatFollows(t *testing.T) {
	t.Parallel()
	const waiting, meanwhile = 300, 5 // more than one batch
	for _, c := range []struct {
		acked  bool
		copies int
		flood  bool // others send all the time, also between two questions to the store
	}{{true, 1, false}, {false, 1, false}, {true, 3, false}, {true, 1, true}, {true, 3, true}} {
		acked := c.acked
		t.Run(fmt.Sprintf("acknowledged %v, copies %d, all the time %v", acked, c.copies, c.flood), func(t *testing.T) {
			t.Parallel()
			var env *natstest.Env
			if c.copies == 1 {
				env = natstest.Server(t, natstest.Listen())
			} else {
				env = natstest.Cluster(t, c.copies)[0]
			}
			s := newSystemOn(t, env, nil)
			if c.copies > 1 {
				s.copies(c.copies)
			}
			s.put(phone, subjects.Normal, 0, 1)
			d := s.attach(phone, 100)
			if got := d.receive(1); acked {
				ack(d, got)
			}
			d.mailbox.Detach()
			s.put(phone, subjects.Normal, 1, waiting)
			s.caughtUp()
			s.stop()
			if err := must(s.js.Stream(t.Context(), layout.StreamInbox)).DeleteMsg(t.Context(), 2); err != nil {
				t.Fatal(err)
			}
			proxy := natstest.NewProxy(t, s.env.Addr())
			s.start(func(o *inbox.Options) { o.Read = natstest.Dial(t, proxy.URL()) })
			proxy.Freeze()
			s.put(phone, subjects.Normal, 1+waiting, meanwhile)
			if c.flood {
				t.Cleanup(s.flood(phone, subjects.Normal, 4))
			}
			d = s.attachNow(phone, 2*waiting)
			s.wantGap(d, wire.Gap{Lane: "normal", From: 2, To: 1 + waiting, Count: 1, Reason: wire.ReasonPurged})
			if c.flood {
				return
			}
			proxy.Heal()
			s.caughtUp()
			left := waiting - 1 + meanwhile
			if !acked {
				left++
			}
			d.receive(left)
			d.noGap()
		})
	}
}

// While others send, a device with much to read is not kept waiting for its whole lane
// to be read anew with each answer of the store. A reading that fails, as it may on a
// busy machine, is made again.
func TestABacklogIsNotReadAnewForEachAnswerWhileOthersSend(t *testing.T) {
	t.Parallel()
	const answers = 24
	s := newSystem(t, nil)
	for range answers * 256 {
		must(s.js.PublishAsync(subjects.Inbox(phone, subjects.Normal), []byte("1")))
	}
	<-s.js.PublishAsyncComplete()
	s.caughtUp() // all are counted
	s.restart()
	var readings atomic.Int64
	must(s.env.Conn(t).Subscribe("$JS.EVENT.ADVISORY.CONSUMER.CREATED."+layout.StreamInbox+".>", func(*nats.Msg) { readings.Add(1) }))
	t.Cleanup(s.flood(phone, subjects.Normal, 4))
	d := s.attachNow(phone, 100)
	for range answers * 256 / 64 {
		ack(d, d.receive(64))
	}
	if n := readings.Load(); n > answers/4 {
		t.Errorf("the lane was read as a whole %d times for %d answers", n, answers)
	}
}

// flood has messages sent to a lane all the time, until stop is called. Each sender
// waits for its answer, so that they send as fast as the store is asked otherwise.
func (s *system) flood(k subjects.Key, lane subjects.Lane, senders int) (stop func()) {
	ctx, cancel := context.WithCancel(s.t.Context())
	var wg sync.WaitGroup
	for range senders {
		wg.Go(func() {
			for ctx.Err() == nil {
				_, _ = s.js.Publish(ctx, subjects.Inbox(k, lane), []byte(`"more"`))
			}
		})
	}
	return func() { cancel(); wg.Wait() }
}

// copies gives the stream so many copies.
func (s *system) copies(n int) {
	s.t.Helper()
	s.eventually("all copies are current", func() bool { // while a leader is chosen nobody answers
		ctx, cancel := context.WithTimeout(s.t.Context(), 2*time.Second)
		defer cancel()
		stream, err := s.js.Stream(ctx, layout.StreamInbox)
		if err != nil {
			return false
		}
		info := stream.CachedInfo()
		if config := info.Config; config.Replicas != n {
			config.Replicas = n
			_, _ = s.js.UpdateStream(ctx, config)
			return false
		}
		current := 0
		for _, peer := range info.Cluster.Replicas {
			if peer.Current {
				current++
			}
		}
		return current == n-1
	})
}

// A device acknowledges what an earlier connection was sent before its turn comes, and
// leaves. What is stored for it then is counted all the same.
func TestWhatComesAfterAnEarlyAcknowledgementIsCounted(t *testing.T) {
	t.Parallel()
	s := newSystem(t, nil)
	for body := range 2 {
		s.ask(phone, body)
	}
	d := s.attach(phone, 100)
	d.receive(2)
	d.mailbox.Detach()
	d = s.attach(phone, 1)
	got := d.receive(1)
	d.mailbox.Ack(got[0].Seq + 1)
	d.mailbox.Detach()
	s.put(phone, subjects.Normal, 2, 3)
	s.caughtUp()
	s.eventually("what waits is counted while the device is away", func() bool {
		c, _ := s.cursor(phone)
		return c.Waiting[subjects.Normal] == 3
	})
	s.put(phone, subjects.Normal, 5, 1)
	s.caughtUp()
	s.stop()
	if c, _ := s.cursor(phone); c.Waiting[subjects.Normal] != 4 {
		t.Errorf("a hub that stopped has counted %d messages, want 4", c.Waiting[subjects.Normal])
	}
}

// A message that an operator removed from the middle is told in a range that holds
// it: nothing says that it was the oldest.
func TestWhatIsRemovedFromTheMiddleIsInItsGap(t *testing.T) {
	t.Parallel()
	s := newSystem(t, nil)
	s.put(phone, subjects.Normal, 0, 1)
	d := s.attach(phone, 100)
	ack(d, d.receive(1))
	d.mailbox.Detach()
	for n := range 6 {
		s.put(desk, subjects.Normal, n, 1)
		s.put(phone, subjects.Normal, 1+n, 1) // 3, 5, 7, ...
	}
	s.caughtUp()
	s.stop()
	const gone = 7
	if err := must(s.js.Stream(t.Context(), layout.StreamInbox)).DeleteMsg(t.Context(), gone); err != nil {
		t.Fatal(err)
	}
	s.start(nil)
	d = s.attach(phone, 100)
	expect(t, d.receive(5), "1 2 4 5 6")
	s.wantGap(d, wire.Gap{Lane: "normal", From: 2, To: 13, Count: 1, Reason: wire.ReasonPurged})
}

// purgeBelow has the stream begin at seq, as retention does.
func (s *system) purgeBelow(seq uint64) {
	s.t.Helper()
	stream, err := s.js.Stream(s.t.Context(), layout.StreamInbox)
	if err != nil {
		s.t.Fatal(err)
	}
	if err := stream.Purge(s.t.Context(), jetstream.WithPurgeSequence(seq)); err != nil {
		s.t.Fatal(err)
	}
}

// purgeSubject removes all messages of a subject.
func (s *system) purgeSubject(subject string) {
	s.t.Helper()
	stream := must(s.js.Stream(s.t.Context(), layout.StreamInbox))
	if err := stream.Purge(s.t.Context(), jetstream.WithPurgeSubject(subject)); err != nil {
		s.t.Fatal(err)
	}
}

// restart gives the system a new hub, which has nothing in memory.
func (s *system) restart() {
	s.t.Helper()
	s.stop()
	s.start(nil)
}

// A device that registered and was never sent anything is told like any other.
func TestADeviceThatNeverHadAMessageIsToldWhatRetentionTook(t *testing.T) {
	t.Parallel()
	s := newSystem(t, nil)
	s.put(phone, subjects.Normal, 0, 2)
	s.caughtUp()
	s.purgeBelow(3)
	s.restart()
	s.put(phone, subjects.Normal, 2, 1)
	d := s.attach(phone, 100)
	expect(t, d.receive(1), "2")
	want := wire.Gap{Lane: "normal", From: 1, To: 2, Count: 2, Reason: wire.ReasonRetention}
	s.wantGap(d, want)
}

// Retention that passes the cursor of a device which has acknowledged all that
// it was sent takes nothing from it.
func TestNoGapIsToldWhereNothingWasLost(t *testing.T) {
	t.Parallel()
	s := newSystem(t, nil)
	s.put(phone, subjects.Normal, 0, 3)
	d := s.attach(phone, 100)
	ack(d, d.receive(3))
	d.mailbox.Detach()
	other := subjects.Address{User: "bob", Device: "tab"}.Key()
	s.put(other, subjects.High, 3, 20)
	s.caughtUp()
	s.purgeBelow(20)
	s.restart()
	d = s.attach(phone, 100)
	s.put(phone, subjects.Normal, 23, 1)
	expect(t, d.receive(1), "23")
	d.noGap()
	d = s.attach(other, 100)
	d.receive(4)
	want := wire.Gap{Lane: "high", From: 1, To: 19, Count: 16, Reason: wire.ReasonRetention}
	s.wantGap(d, want)
}

// What a hub that was killed had not stored yet is counted by the next one.
func TestWhatAKilledHubHadNotCountedIsCounted(t *testing.T) {
	t.Parallel()
	s := newSystem(t, nil)
	s.put(phone, subjects.Low, 0, 3)
	s.restart() // counted, and the mark is stored
	s.put(phone, subjects.Low, 3, 4)
	s.put(phone, subjects.High, 7, 2)
	s.abandon()
	s.start(nil)
	s.purgeBelow(9)
	s.restart()
	d := s.attach(phone, 100)
	expect(t, d.receive(1), "8")
	gaps := s.gaps(d)
	want := map[string]uint64{"low": 7, "high": 1}
	for _, g := range gaps {
		if g.Count != want[g.Lane] || g.Reason != wire.ReasonRetention {
			t.Errorf("told %+v", g)
		}
	}
	if len(gaps) != len(want) {
		t.Errorf("told %+v", gaps)
	}
}

// The last counts of a hub are stored though another cursor is stored while it stops:
// here that of the round before, whose way to the store is slow.
func TestAHubThatStopsStoresItsLastCountsThoughAnotherCursorIsStoredFirst(t *testing.T) {
	t.Parallel()
	env := natstest.Server(t, natstest.Listen())
	proxy := natstest.NewProxy(t, env.Addr())
	publish := must(inbox.NewPublisher(func(opts ...nats.Option) (*nats.Conn, error) {
		return natstest.Connect(proxy.URL(), opts...)
	}, nil))
	t.Cleanup(publish.Stop)
	s := newSystemOn(t, env, func(o *inbox.Options) { o.Publish = publish })
	asked := must(s.nc.SubscribeSync("$JS.API.DIRECT.GET." + layout.StreamCursor))
	answered := must(s.nc.SubscribeSync("_INBOX.>"))
	proxy.Freeze()
	s.put(phone, subjects.Normal, 0, 1)
	s.eventually("the watermark and the count of one message are on their way", func() bool { return publish.Unacknowledged() >= 2 })
	s.put(phone, subjects.Normal, 1, 4)
	s.caughtUp()
	for { // what was asked before
		if _, err := asked.NextMsg(0); err != nil {
			break
		}
	}
	stopped := make(chan error, 1)
	go func() { stopped <- s.hub.Stop(t.Context()) }()
	read := must(asked.NextMsg(waitTimeout)).Reply // no cursor is stored yet
	for subject := ""; subject != read; {
		subject = must(answered.NextMsg(waitTimeout)).Subject
	}
	proxy.Heal()
	if err := <-stopped; err != nil {
		t.Fatal(err)
	}
	s.purgeBelow(5)
	s.start(nil)
	d := s.attach(phone, 100)
	expect(t, d.receive(1), "4")
	s.wantGap(d, wire.Gap{Lane: "normal", From: 1, To: 4, Count: 4, Reason: wire.ReasonRetention})
}

// A lane that services have filled past the store's bound has lost its first
// messages, and the device is told.
func TestGapTellsWhatAFullLaneLost(t *testing.T) {
	t.Parallel()
	s := newSystem(t, nil)
	stream, err := s.js.Stream(t.Context(), layout.StreamInbox)
	if err != nil {
		t.Fatal(err)
	}
	config := stream.CachedInfo().Config
	config.MaxMsgsPerSubject = 4
	if _, err := s.js.UpdateStream(t.Context(), config); err != nil {
		t.Fatal(err)
	}
	s.put(subjects.Address{User: "bob", Device: "phone"}.Key(), subjects.Normal, 0, 1) // from here on the stream has all
	s.put(phone, subjects.Normal, 0, 1)
	d := s.attach(phone, 100)
	got := d.receive(1)
	ack(d, got)
	d.mailbox.Detach()
	s.put(phone, subjects.Normal, 1, 4)
	s.caughtUp()                        // all are counted
	s.put(phone, subjects.Normal, 5, 2) // 1 and 2 make room
	s.put(phone, subjects.Low, 7, 3)    // all of it fits
	s.stop()
	s.start(nil)
	d = s.attach(phone, 100)
	expect(t, d.receive(7), "3 4 5 6 7 8 9")
	want := wire.Gap{Lane: "normal", From: got[0].Seq + 1, To: got[0].Seq + 2, Count: 2, Reason: wire.ReasonRetention}
	s.wantGap(d, want)
}

// Whichever limit of the stream an operator sets: what it takes is told as retention,
// with the number, and what it leaves comes.
func TestWhateverLimitTakesMessagesItIsToldAsRetention(t *testing.T) {
	t.Parallel()
	const stored, kept = 6, 2
	for name, c := range map[string]struct {
		limit func(*jetstream.StreamConfig, jetstream.StreamState)
		left  int
	}{
		"messages":           {func(c *jetstream.StreamConfig, _ jetstream.StreamState) { c.MaxMsgs = kept }, kept},
		"messages of a lane": {func(c *jetstream.StreamConfig, _ jetstream.StreamState) { c.MaxMsgsPerSubject = kept }, kept},
		"bytes":              {func(c *jetstream.StreamConfig, s jetstream.StreamState) { c.MaxBytes = int64(s.Bytes) * kept / stored }, kept},
		"the age of messages": {func(c *jetstream.StreamConfig, _ jetstream.StreamState) {
			c.MaxAge, c.Duplicates = time.Second, time.Second
		}, 0},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newSystem(t, nil)
			s.put(phone, subjects.Normal, 0, stored)
			s.caughtUp() // all are counted
			stream := must(s.js.Stream(t.Context(), layout.StreamInbox))
			config, state := stream.CachedInfo().Config, must(stream.Info(t.Context())).State
			config.Discard = jetstream.DiscardOld
			c.limit(&config, state)
			must(s.js.UpdateStream(t.Context(), config))
			s.eventually("the limit takes messages", func() bool { return must(stream.Info(t.Context())).State.Msgs == uint64(c.left) })
			s.restart() // what a hub has in memory is not gone
			d := s.attach(phone, 100)
			if c.left > 0 {
				expect(t, d.receive(c.left), "4 5")
			}
			if gaps := s.gaps(d); len(gaps) != 1 || gaps[0].Lane != "normal" || gaps[0].Count != uint64(stored-c.left) || gaps[0].Reason != wire.ReasonRetention {
				t.Errorf("told %+v, want that retention took %d", gaps, stored-c.left)
			}
		})
	}
}

// When messages in the middle of a lane are gone, their senders hear so, and
// those of the messages around them do not.
func TestOnlySendersOfWhatIsGoneHearThatItExpired(t *testing.T) {
	t.Parallel()
	s := newSystem(t, nil)
	s.stop()
	kept := must(s.js.Stream(t.Context(), layout.StreamInbox)).CachedInfo().Config
	kept.MaxAge = time.Hour
	must(s.js.UpdateStream(t.Context(), kept))
	s.start(nil)
	for body := range 6 {
		s.ask(phone, body)
	}
	s.caughtUp()
	deadlines := must(s.js.Stream(t.Context(), layout.StreamDeadline))
	s.eventually("the six are written down", func() bool {
		return must(deadlines.Info(t.Context())).State.Msgs == 6
	})
	s.stop()
	stream := must(s.js.Stream(t.Context(), layout.StreamInbox))
	for _, seq := range []uint64{3, 4, 6} {
		if err := stream.DeleteMsg(t.Context(), seq); err != nil {
			t.Fatal(err)
		}
	}
	s.start(nil)
	sender, d := s.attach(desk, 10), s.attach(phone, 10)
	expect(t, d.receive(3), "0 1 4")
	want := wire.Gap{Lane: "normal", From: 1, To: 6, Count: 3, Reason: wire.ReasonPurged}
	s.wantGap(d, want)
	heard := map[string]wire.Status{}
	for range 3 {
		o := outcome(t, sender)
		heard[o.OriginalID] = o.Status
	}
	if want := map[string]wire.Status{"m2": "expired", "m3": "expired", "m5": "expired"}; !maps.Equal(heard, want) {
		t.Errorf("the sender heard %v, want %v", heard, want)
	}
}
