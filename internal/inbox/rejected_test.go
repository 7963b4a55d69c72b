package inbox_test

import (
	"encoding/json"
	"reflect"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/rccs-io/rccs/internal/direct"
	"github.com/rccs-io/rccs/internal/envelope"
	"github.com/rccs-io/rccs/internal/inbox"
	"github.com/rccs-io/rccs/internal/layout"
	"github.com/rccs-io/rccs/internal/ops"
	"github.com/rccs-io/rccs/internal/proof"
	"github.com/rccs-io/rccs/subjects"
	"github.com/rccs-io/rccs/wire"
)

// rejected lists what operators see of a device's messages that are kept.
func (s *system) rejected(k subjects.Key) []*ops.RejectedMessage {
	s.t.Helper()
	// Operators need the tenant's key, which is made of these.
	must(s.js.CreateOrUpdateKeyValue(s.t.Context(), jetstream.KeyValueConfig{Bucket: layout.BucketAccount}))
	must(s.js.CreateOrUpdateStream(s.t.Context(), jetstream.StreamConfig{Name: subjects.StreamTopic, Subjects: []string{"rccs.topic.>"}}))
	t := must(ops.Open(ops.Options{Dial: s.env.Dialer()}))
	defer t.Close()
	a := must(k.Address())
	return must(t.Rejected(s.t.Context(), subjects.Scope(a)))
}

// ask stores a message of a device of the same user, which wants to hear the outcome.
func (s *system) ask(k subjects.Key, body int) {
	s.t.Helper()
	if _, err := s.js.PublishMsg(s.t.Context(), s.asking(k, body)); err != nil {
		s.t.Fatal(err)
	}
}

// asking is what ask publishes.
func (s *system) asking(k subjects.Key, body int) *nats.Msg {
	id := "m" + strconv.Itoa(body)
	return &nats.Msg{Subject: subjects.Inbox(k, subjects.Normal), Data: []byte(strconv.Itoa(body)), Header: nats.Header{
		subjects.HeaderID: {id}, layout.HeaderProof: {s.pub.Proof.Tag(proof.Sender, k.User(), "desk", id)}, subjects.HeaderFrom: {"desk"}, subjects.HeaderAck: {"true"},
		subjects.HeaderType: {"note"},
	}}
}

var desk = subjects.Address{User: "alice", Device: "desk"}.Key()

// outcome is the next that the sender hears.
func outcome(t *testing.T, d *device) wire.Outcome {
	t.Helper()
	got := d.receive(1)
	a, err := wire.DecodeAnswer(got[0].Data)
	if err != nil {
		t.Fatal(err)
	}
	ack(d, got)
	return a.Outcome()
}

func TestARejectedMessageIsFinalizedToldAndKept(t *testing.T) {
	t.Parallel()
	s := newSystem(t, nil)
	sender, d := s.attach(desk, 10), s.attach(phone, 10)
	s.ask(phone, 0)
	s.put(phone, subjects.Normal, 1, 1)
	got := d.receive(2)
	d.mailbox.Reject(got[0].Seq, "cannot parse")
	d.mailbox.Reject(got[1].Seq, "")
	want := wire.Outcome{OriginalID: "m0", Status: wire.StatusRejected, DeviceID: "phone", Reason: "cannot parse"}
	if o := outcome(t, sender); o != want {
		t.Errorf("the sender heard %+v, want %+v", o, want)
	}
	s.eventually("both are kept", func() bool { return len(s.rejected(phone)) == 2 })
	kept := s.rejected(phone)
	if r := kept[0]; r.Seq != got[0].Seq || r.ID != "m0" || r.Type != "note" || r.Reason != "cannot parse" || r.Lane != "normal" {
		t.Errorf("kept %+v", r)
	}
	s.restart()
	d = s.attach(phone, 10)
	s.none(d)
	if again := s.rejected(phone); !reflect.DeepEqual(again, kept) {
		t.Errorf("kept after a restart %+v", again)
	}
	s.purgeBelow(got[1].Seq)
	if left := s.rejected(phone); len(left) != 1 || left[0].Seq != got[1].Seq {
		t.Errorf("kept after retention %+v", left)
	}
}

func TestAMessageThatNConnectionsDidNotAcknowledgeIsRejected(t *testing.T) {
	t.Parallel()
	s := newSystem(t, func(o *inbox.Options) { o.MaxDeliveries = 2 })
	sender := s.attach(desk, 10)
	s.ask(phone, 0)
	s.put(phone, subjects.Normal, 1, 1)
	for range 2 {
		d := s.attach(phone, 1) // the second message waits behind the first
		if got := d.receive(1); string(got[0].Data) != "0" {
			t.Fatalf("got %s", bodies(got))
		}
		d.mailbox.Detach()
	}
	d := s.attach(phone, 1)
	expect(t, d.receive(1), "1")
	if o := outcome(t, sender); o.Status != wire.StatusRejected || o.Reason != wire.ReasonMaxDeliveries {
		t.Errorf("the sender heard %+v", o)
	}
	if kept := s.rejected(phone); len(kept) != 1 || kept[0].Reason != wire.ReasonMaxDeliveries {
		t.Errorf("kept %+v", kept)
	}
}

func TestAMessageThatDoesNotFitIsToldAndStopsNothing(t *testing.T) {
	t.Parallel()
	s := newSystem(t, nil)
	sender := s.attach(desk, 10)
	s.fits = func(m *envelope.Message) bool { return len(m.Data) < 3 }
	s.put(phone, subjects.Normal, 1, 1)
	s.ask(phone, 1000)
	s.put(phone, subjects.Normal, 2, 1)
	d := s.attach(phone, 10)
	expect(t, d.receive(2), "1 2")
	gaps := s.gaps(d)
	if len(gaps) != 1 || gaps[0].From != gaps[0].To || gaps[0].Count != 1 || gaps[0].Reason != wire.ReasonTooLarge {
		t.Errorf("told %+v", gaps)
	}
	o := outcome(t, sender)
	if o.Status != wire.StatusUndeliverable || o.Reason != wire.ReasonTooLarge || o.DeviceID != "phone" {
		t.Errorf("the sender heard %+v", o)
	}
	kept := s.rejected(phone)
	if len(kept) != 1 || kept[0].Seq != gaps[0].From || kept[0].Reason != wire.ReasonTooLarge {
		t.Errorf("kept %+v", kept)
	}
}

// Also when the word of it cannot be stored before the device comes again: a
// sender that asked never hears that a refused message was delivered.
func TestARejectionStandsWhenTheDeviceComesAgainBeforeItIsStored(t *testing.T) {
	t.Parallel()
	s := newSystem(t, nil)
	sender, d := s.attach(desk, 10), s.attach(phone, 10)
	s.ask(phone, 0)
	got := d.receive(1)
	events := must(s.js.Stream(t.Context(), subjects.StreamEvent)).CachedInfo().Config
	if err := s.js.DeleteStream(t.Context(), subjects.StreamEvent); err != nil {
		t.Fatal(err)
	}
	d.mailbox.Reject(got[0].Seq, "no")
	d.mailbox.Detach()
	d = s.attach(phone, 10)
	s.none(d)
	s.put(desk, subjects.Normal, 1, 1)
	expect(t, sender.receive(1), "1") // and nothing of the other before it
	must(s.js.CreateStream(t.Context(), events))
	if o := outcome(t, sender); o.Status != wire.StatusRejected || o.Reason != "no" {
		t.Errorf("the sender heard %+v", o)
	}
}

// A service hears of the end of a message that is not stored any more.
func TestAServiceHearsThatAMessageWasRejectedThatIsGone(t *testing.T) {
	t.Parallel()
	s := newSystem(t, nil)
	d := s.attach(phone, 10)
	msg := &nats.Msg{Subject: subjects.Inbox(phone, subjects.Normal), Data: []byte("0"), Header: nats.Header{
		subjects.HeaderID: {"m0"}, subjects.HeaderAck: {"true"},
	}}
	if _, err := s.js.PublishMsg(t.Context(), msg); err != nil {
		t.Fatal(err)
	}
	got := d.receive(1)
	if err := must(s.js.Stream(t.Context(), layout.StreamInbox)).DeleteMsg(t.Context(), got[0].Seq); err != nil {
		t.Fatal(err)
	}
	d.mailbox.Reject(got[0].Seq, "no")
	events := must(s.js.Stream(t.Context(), subjects.StreamEvent))
	s.eventually("it is told", func() bool {
		event, err := events.GetLastMsgForSubject(t.Context(), subjects.Event(phone, "rejected"))
		return err == nil && strings.Contains(string(event.Data), `"m0"`)
	})
}

// A service that asked hears of a rejection once, also one that only listens and
// does not read the stream, which drops repeats.
func TestAServiceHearsOfARejectionOnce(t *testing.T) {
	t.Parallel()
	s := newSystem(t, nil)
	d := s.attach(phone, 10)
	heard := must(s.nc.SubscribeSync(subjects.Event(phone, subjects.EventRejected)))
	for _, id := range []string{"m0", "m1"} {
		msg := &nats.Msg{Subject: subjects.Inbox(phone, subjects.Normal), Data: []byte("0"), Header: nats.Header{
			subjects.HeaderID: {id}, subjects.HeaderAck: {"true"},
		}}
		if _, err := s.js.PublishMsg(t.Context(), msg); err != nil {
			t.Fatal(err)
		}
	}
	got := d.receive(2)
	d.mailbox.Reject(got[0].Seq, "no")
	d.mailbox.Reject(got[1].Seq, "no") // is told after all that is told of the first
	for _, id := range []string{"m0", "m1"} {
		event := must(heard.NextMsg(waitTimeout))
		if !strings.Contains(string(event.Data), strconv.Quote(id)) {
			t.Errorf("heard %s, want that of %s", event.Data, id)
		}
	}
}

// The body of the event is what services are told it is.
func TestTheEventOfARejectionNamesTheMessage(t *testing.T) {
	t.Parallel()
	s := newSystem(t, nil)
	d := s.attach(phone, 10)
	s.put(phone, subjects.High, 0, 1)
	got := d.receive(1)
	d.mailbox.Reject(got[0].Seq, "no")
	s.eventually("it is kept", func() bool { return len(s.rejected(phone)) == 1 })
	stream := must(s.js.Stream(t.Context(), subjects.StreamEvent))
	msg := must(stream.GetLastMsgForSubject(t.Context(), subjects.Event(phone, "rejected")))
	var body map[string]any
	if err := json.Unmarshal(msg.Data, &body); err != nil {
		t.Fatal(err)
	}
	for key, want := range map[string]any{
		"kind": "rejected", "user": "alice", "device": "phone", "lane": "high", "reason": "no", "seq": float64(got[0].Seq),
	} {
		if body[key] != want {
			t.Errorf("%s is %v, want %v", key, body[key], want)
		}
	}
}

// The first outcome of a message is the only one, also when an acknowledgement
// was taken back by a kill and comes again after the store's window for repeats.
func TestDeliveredIsToldOnceAfterTheWindowForRepeats(t *testing.T) {
	t.Parallel()
	s := newSystem(t, nil)
	stream := must(s.js.Stream(t.Context(), layout.StreamInbox))
	config := stream.CachedInfo().Config
	config.Duplicates = 100 * time.Millisecond
	must(s.js.UpdateStream(t.Context(), config))
	s.restart() // the hub knows the window
	s.ask(phone, 0)
	d := s.attach(phone, 10)
	before := s.cursorBody()
	got := d.receive(1)
	ack(d, got)
	sender := s.attach(desk, 10)
	if o := outcome(t, sender); o.Status != wire.StatusDelivered {
		t.Fatalf("the sender heard %+v", o)
	}
	d.mailbox.Detach()
	s.stop()
	if _, err := s.js.Publish(t.Context(), layout.Cursor(phone), before); err != nil { // what a kill leaves
		t.Fatal(err)
	}
	s.start(nil)
	s.eventually("the store has forgotten the outcome's id", func() bool {
		return time.Since(time.Unix(0, got[0].Stored)) > 500*time.Millisecond
	})
	d = s.attach(phone, 10)
	expect(t, d.receive(1), "0r")
	ack(d, got)
	s.put(phone, subjects.Normal, 1, 1)
	ack(d, d.receive(1))
	s.eventually("the second acknowledgement is stored", func() bool {
		return s.storedCursor().AckFloor(subjects.Normal) > got[0].Seq
	})
	s.none(s.attach(desk, 10))
}

// A message whose deadline passed while its device was away has been told to have
// expired. It is not told again when the device comes after the store's window for
// repeats, whether it connects, fetches, or acknowledges what it had fetched in time.
func TestExpiredIsToldOnceThoughTheDeviceComesMuchLater(t *testing.T) {
	t.Parallel()
	for _, comes := range []string{"connects", "fetches", "fetched before and acknowledges"} {
		t.Run(comes, func(t *testing.T) {
			t.Parallel()
			s := newSystem(t, nil)
			stream := must(s.js.Stream(t.Context(), layout.StreamInbox))
			config := stream.CachedInfo().Config
			config.Duplicates = 100 * time.Millisecond
			must(s.js.UpdateStream(t.Context(), config))
			s.restart() // the hub knows the window
			msg := s.asking(phone, 0)
			msg.Header[subjects.HeaderTTL] = []string{"1"}
			stored := must(s.js.PublishMsg(t.Context(), msg))
			fetch := direct.New(s.nc)
			if err := fetch.Start(); err != nil {
				t.Fatal(err)
			}
			defer fetch.Stop()
			fate, err := inbox.NewExpirer(fetch, 1, s.pub).Expire(t.Context(), phone, &inbox.Deadline{
				Seq: stored.Sequence, Lane: "normal", ID: "m0", From: "desk",
			}, false)
			if err != nil || fate != inbox.Over {
				t.Fatal(fate, err)
			}
			sender := s.attach(desk, 10)
			if o := outcome(t, sender); o.Status != wire.StatusExpired {
				t.Fatalf("the sender heard %+v", o)
			}
			began := time.Now()
			s.eventually("the store has forgotten the outcome's id", func() bool { return time.Since(began) > 500*time.Millisecond })
			if comes != "connects" {
				cursors := must(inbox.NewCursors(fetch, s.pub))
				msgs, _, err := cursors.Read(t.Context(), &inbox.Lane{Key: phone, Lane: subjects.Normal}, 1, 1<<20)
				if err != nil || len(msgs) != 1 {
					t.Fatal(msgs, err)
				}
				status := wire.StatusExpired
				if comes != "fetches" {
					status = wire.StatusDelivered
				}
				if err := cursors.Tell(t.Context(), status, msgs[0]); err != nil {
					t.Fatal(err)
				}
			} else {
				d := s.attach(phone, 10)
				s.put(phone, subjects.Normal, 1, 1)
				ack(d, d.receive(1))
				s.eventually("the end of the first is stored", func() bool {
					return s.storedCursor().AckFloor(subjects.Normal) > stored.Sequence
				})
			}
			s.none(sender)
		})
	}
}

// cursorBody is a cursor that says that a session is open and nothing was acknowledged.
func (s *system) cursorBody() []byte {
	c := inbox.Cursor{Open: true}
	return c.Append(nil)
}

// A replica that lags does not make a rejected message one that is gone.
func TestARejectedMessageIsKeptThoughAReplicaLacksIt(t *testing.T) {
	t.Parallel()
	s := newSystem(t, nil)
	d := s.attach(phone, 10)
	s.put(phone, subjects.Normal, 0, 1)
	got := d.receive(1)
	s.env.Lag(layout.StreamInbox)
	d.mailbox.Reject(got[0].Seq, "no")
	events := must(s.js.Stream(t.Context(), subjects.StreamEvent))
	s.eventually("it is kept", func() bool {
		event, err := events.GetLastMsgForSubject(t.Context(), subjects.Event(phone, "rejected"))
		return err == nil && strings.Contains(string(event.Data), `"reason":"no"`)
	})
}
