package inbox_test

import (
	"encoding/json"
	"strconv"
	"sync/atomic"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/rccs-io/rccs/internal/inbox"
	"github.com/rccs-io/rccs/internal/layout"
	"github.com/rccs-io/rccs/subjects"
	"github.com/rccs-io/rccs/wire"
)

// forgetful has the store forget ids of messages at once, and tells the hub so.
func (s *system) forgetful() {
	s.t.Helper()
	for _, name := range []string{layout.StreamInbox, subjects.StreamEvent} {
		stream := must(s.js.Stream(s.t.Context(), name))
		config := stream.CachedInfo().Config
		config.Duplicates = 100 * time.Millisecond
		must(s.js.UpdateStream(s.t.Context(), config))
	}
	s.restart()
}

// kill leaves the hub with a cursor that says that a session is open and nothing was
// acknowledged, and starts another when the store has forgotten the ids of outcomes.
func (s *system) kill() {
	s.t.Helper()
	s.stop()
	if _, err := s.js.Publish(s.t.Context(), layout.Cursor(phone), s.cursorBody()); err != nil {
		s.t.Fatal(err)
	}
	began := time.Now()
	s.eventually("the store has forgotten the outcomes' ids", func() bool { return time.Since(began) > 500*time.Millisecond })
	s.start(nil)
}

// storedOn returns how many messages are stored on a subject.
func (s *system) storedOn(stream, subject string) int {
	s.t.Helper()
	info := must(must(s.js.Stream(s.t.Context(), stream)).Info(s.t.Context(), jetstream.WithSubjectFilter(subject)))
	return int(info.State.Subjects[subject])
}

// A device that was sent much again acknowledges it. For each message its hub has to
// know whether the sender was told before. It reads what the sender was told together
// for all of them, tells nobody twice, and leaves nobody out.
func TestWhatASenderWasToldIsReadOnceForManyMessages(t *testing.T) {
	t.Parallel()
	const count = 200
	for name, service := range map[string]bool{"device": false, "service": true} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newSystem(t, nil)
			s.forgetful()
			stream, subject := layout.StreamInbox, subjects.Inbox(desk, subjects.Normal)
			if service {
				stream, subject = subjects.StreamEvent, subjects.Event(phone, "delivered")
			}
			for i := range count {
				msg := s.asking(phone, i)
				if service {
					delete(msg.Header, subjects.HeaderFrom)
					delete(msg.Header, layout.HeaderProof)
				}
				must(s.js.PublishMsg(t.Context(), msg))
			}
			d := s.attach(phone, count)
			ack(d, d.receive(count)[:count/2])
			s.eventually("the sender is told of half of them", func() bool { return s.storedOn(stream, subject) == count/2 })
			s.kill()

			var reads atomic.Int64
			sub := must(s.nc.Subscribe("$JS.API.DIRECT.GET."+stream, func(m *nats.Msg) {
				var q struct {
					NextFor string `json:"next_by_subj"`
				}
				if json.Unmarshal(m.Data, &q) == nil && q.NextFor == subject {
					reads.Add(1)
				}
			}))
			defer func() { _ = sub.Unsubscribe() }()
			d = s.attach(phone, count)
			var seqs []uint64
			for _, m := range d.receive(count) {
				seqs = append(seqs, m.Seq)
			}
			d.mailbox.Ack(seqs...)
			s.eventually("all are acknowledged", func() bool { return s.storedCursor().AckFloor(subjects.Normal) >= seqs[count-1] })
			if n := s.storedOn(stream, subject); n != count {
				t.Errorf("the sender was told %d outcomes of %d messages", n, count)
			}
			if n := reads.Load(); n == 0 || n > count/4 {
				t.Errorf("%d requests for what the sender was told of %d messages", n, count)
			}
		})
	}
}

// What only looks like the outcome of a message does not take its place: a message that
// a service stored for the sender, or an event about another message of the same device.
func TestNothingElseIsTakenForAnOutcome(t *testing.T) {
	t.Parallel()
	for name, service := range map[string]bool{"device": false, "service": true} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newSystem(t, nil)
			s.forgetful()
			msg := s.asking(phone, 0)
			if service {
				delete(msg.Header, subjects.HeaderFrom)
				delete(msg.Header, layout.HeaderProof)
			}
			stored := must(s.js.PublishMsg(t.Context(), msg))
			must(s.js.PublishMsg(t.Context(), &nats.Msg{Subject: subjects.Inbox(desk, subjects.Normal), Data: []byte("{}"), Header: nats.Header{
				subjects.HeaderID: {"outcome-" + strconv.FormatUint(stored.Sequence, 10)}, subjects.HeaderType: {wire.TypeAck},
			}}))
			other := inbox.NewUnreachable(subjects.StreamLater, "rccs.later.alice.phone.normal.x", stored.Sequence, nil, inbox.BadSchedule)
			must(s.js.PublishMsg(t.Context(), must(other.Event(s.pub.Proof))))
			d := s.attach(phone, 10)
			d.receive(1)
			s.kill()
			d = s.attach(phone, 10)
			got := d.receive(1)
			expect(t, got, "0r")
			ack(d, got)
			s.eventually("it is acknowledged", func() bool { return s.storedCursor().AckFloor(subjects.Normal) >= stored.Sequence })
			if service {
				if n := s.storedOn(subjects.StreamEvent, subjects.Event(phone, "delivered")); n != 1 {
					t.Errorf("%d events delivered", n)
				}
				return
			}
			sender := s.attach(desk, 10)
			got = sender.receive(2)
			if a, err := wire.DecodeAnswer(got[1].Data); err != nil || a.Outcome().Status != wire.StatusDelivered || !got[1].Authentic {
				t.Errorf("the sender heard %s, %v", got[1].Data, err)
			}
		})
	}
}

// A purge takes what a device did not acknowledge, and what it acknowledged in between.
// The sender of the latter has heard so, and hears nothing else.
func TestTheSenderOfAnAcknowledgedMessageDoesNotHearOfItsLoss(t *testing.T) {
	t.Parallel()
	s := newSystem(t, nil)
	s.forgetful()
	for i := range 3 {
		msg := s.asking(phone, i)
		msg.Header[subjects.HeaderTTL] = []string{"3600000"} // so that its end is noted at once
		must(s.js.PublishMsg(t.Context(), msg))
	}
	d := s.attach(phone, 10)
	got := d.receive(3)
	ack(d, got[1:2])
	told := func() int { return s.storedOn(layout.StreamInbox, subjects.Inbox(desk, subjects.Normal)) }
	s.eventually("the sender hears of the second", func() bool { return told() == 1 })
	s.eventually("their ends are noted", func() bool { return s.storedOn(layout.StreamDeadline, layout.Deadline(phone)) == 3 })
	d.mailbox.Detach()
	began := time.Now()
	s.eventually("the store has forgotten the outcome's id", func() bool { return time.Since(began) > 500*time.Millisecond })
	s.purgeSubject(subjects.Inbox(phone, subjects.Normal))
	s.restart()
	d = s.attach(phone, 10)
	s.eventually("the device is told", func() bool {
		d.mailbox.Next(nil, 0, 1)
		return len(d.mailbox.Gaps()) > 0
	})
	s.eventually("the senders of the others are told", func() bool { return told() >= 3 })
	if n := told(); n != 3 {
		t.Errorf("the sender was told %d outcomes of 3 messages", n)
	}
}
