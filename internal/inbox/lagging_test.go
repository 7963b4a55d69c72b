package inbox_test

import (
	"testing"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/rccs-io/rccs/internal/direct"
	"github.com/rccs-io/rccs/internal/inbox"
	"github.com/rccs-io/rccs/internal/layout"
	"github.com/rccs-io/rccs/subjects"
	"github.com/rccs-io/rccs/wire"
)

// fetched stores what a fetch and its acknowledgement do of the last messages of a lane,
// up to seq, after a session of an epoch.
func (s *system) fetched(epoch, seq uint64) {
	s.t.Helper()
	c := inbox.Cursor{Epoch: epoch, UpTo: seq}
	c.Sent[subjects.Normal] = seq
	must(s.js.Publish(s.t.Context(), layout.Cursor(phone), c.Append(nil)))
}

// A device fetches on plain NATS and connects a moment later, and the edge reads its
// cursor from a copy that does not have it yet.
func TestWhatWasFetchedIsNotSentAsNewThoughACopyOfTheCursorLags(t *testing.T) {
	t.Parallel()
	for name, answers := range map[string]bool{"the leader answers": true, "the leader does not answer": false} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newSystem(t, nil)
			s.stop()
			s.env.Leaderless(layout.StreamInbox, 0, 0) // which then says that it has three copies
			s.start(nil)
			s.put(phone, subjects.Normal, 0, 2)
			s.caughtUp()
			s.fetched(0, 2)
			defer s.env.Lag(layout.StreamCursor)()
			if answers {
				s.none(s.attach(phone, 10))
				return
			}
			s.env.Answer("$JS.API.STREAM.MSG.GET."+layout.StreamCursor, func(_ *nats.Conn, m *nats.Msg) {
				_ = m.Respond([]byte(`{"error":{"code":503,"err_code":10008,"description":"no leader"}}`))
			})
			d := s.attach(phone, 10)
			expect(t, d.receive(2), "0r 1r")
			s.put(phone, subjects.Normal, 2, 1)
			expect(t, d.receive(1), "2")
		})
	}
}

// A device leaves, and its last cursor is not stored before it has fetched on plain NATS.
func TestWhatWasFetchedBeforeALastCursorWasStoredIsNotSentAsNew(t *testing.T) {
	t.Parallel()
	s := newSystem(t, func(o *inbox.Options) { o.CursorEvery = time.Hour })
	s.epoch = 1
	d := s.attach(phone, 1)
	s.eventually("a cursor of this session is stored", func() bool {
		c, ok := s.cursor(phone)
		return ok && c.Epoch == 1
	})
	s.put(phone, subjects.Normal, 0, 2)
	expect(t, d.receive(1), "0")
	s.caughtUp()
	s.fetched(1, 2)
	d.mailbox.Detach()
	s.eventually("the last cursor of the session is stored", func() bool {
		c, ok := s.cursor(phone)
		return ok && c.Sent[subjects.Normal] == 1
	})
	d = newDevice(t)
	d.mailbox = must(s.hub.Attach(t.Context(), phone, d, inbox.MailboxOptions{Window: 10, Epoch: 2, Before: 1}))
	expect(t, d.receive(2), "0r 1r")
}

// What is acknowledged neither expires nor is purged, whatever a copy that lags says.
func TestSendersOfAcknowledgedMessagesHearOfNoOtherEndThoughACopyOfTheCursorLags(t *testing.T) {
	t.Parallel()
	s := newSystem(t, nil)
	msg := s.asking(phone, 0)
	stored := must(s.js.PublishMsg(t.Context(), msg))
	s.caughtUp()
	s.fetched(0, stored.Sequence)
	defer s.env.Lag(layout.StreamCursor)()
	fetch := direct.New(s.nc)
	if err := fetch.Start(); err != nil {
		t.Fatal(err)
	}
	defer fetch.Stop()
	fate, err := inbox.NewExpirer(fetch, 3, s.pub).Expire(t.Context(), phone, &inbox.Deadline{
		Seq: stored.Sequence, Lane: "normal", ID: "m0", From: "desk",
	}, false)
	if err != nil || fate != inbox.Over {
		t.Fatal(fate, err)
	}
	p := must(inbox.NewPurger(s.nc, fetch, s.pub.Proof))
	must(p.Begin(t.Context(), phone, [subjects.Lanes]uint64{subjects.Normal: stored.Sequence}))
	must(p.Begin(t.Context(), phone, [subjects.Lanes]uint64{subjects.Normal: 1}))
	ever := must(p.Begin(t.Context(), phone, [subjects.Lanes]uint64{}))
	if ever[subjects.Normal] != stored.Sequence {
		t.Errorf("what was purged is forgotten: %v", ever)
	}
	if last := must(s.js.Stream(t.Context(), layout.StreamInbox)).CachedInfo().State.LastSeq; last != stored.Sequence {
		t.Errorf("its sender was told of another end: %s", wire.StatusExpired)
	}
}
