package inbox_test

import (
	"testing"

	"github.com/rccs-io/rccs/internal/inbox"
	"github.com/rccs-io/rccs/internal/layout"
	"github.com/rccs-io/rccs/subjects"
)

func TestWhatWaitedComesInOrderThenLive(t *testing.T) {
	t.Parallel()
	s := newSystem(t, nil)
	s.put(phone, subjects.Normal, 0, 20)
	d := s.attach(phone, 100)
	if n := d.mailbox.Pending(); n != 20 {
		t.Errorf("pending is %d, want 20", n)
	}
	expect(t, d.receive(20), numbers(0, 20))
	s.put(phone, subjects.Normal, 20, 10)
	expect(t, d.receive(10), numbers(20, 10))
	s.none(d)
}

func TestWhatWaitedBeforeTheHubStartedComesFromTheStore(t *testing.T) {
	t.Parallel()
	s := newSystem(t, nil)
	s.put(phone, subjects.Low, 0, 700) // more than a lane's queue holds
	s.stop()
	s.start(nil)
	d := s.attach(phone, 1000)
	if n := d.mailbox.Pending(); n != 700 {
		t.Errorf("pending is %d, want 700", n)
	}
	s.put(phone, subjects.Low, 700, 5)
	expect(t, d.receive(705), numbers(0, 705))
	s.none(d)
}

// A device stands where a hub started that had nothing older for it, and more
// than one batch has been stored since: all that the store has is in memory.
func TestMoreThanABatchInMemoryIsJoinedFromBehindIt(t *testing.T) {
	t.Parallel()
	s := newSystem(t, nil)
	s.put(subjects.Address{User: "bob", Device: "x"}.Key(), subjects.Normal, 0, 5)
	s.stop()
	s.start(nil)
	s.put(phone, subjects.Normal, 0, 600)
	d := s.attach(phone, 1000)
	expect(t, d.receive(600), numbers(0, 600))
	s.put(phone, subjects.Normal, 600, 1)
	expect(t, d.receive(1), "600")
	s.none(d)
	d.noGap()
}

func TestHigherLaneGoesFirst(t *testing.T) {
	t.Parallel()
	for _, restart := range []bool{false, true} {
		s := newSystem(t, nil)
		for lane := range subjects.Lane(subjects.Lanes) {
			s.put(phone, lane, int(lane)*10, 3)
		}
		if restart {
			s.stop()
			s.start(nil)
		}
		d := s.attach(phone, 100)
		expect(t, d.receive(12), "30 31 32 20 21 22 10 11 12 0 1 2")
	}
}

func TestWindowBoundsWhatIsUnacknowledged(t *testing.T) {
	t.Parallel()
	s := newSystem(t, nil)
	s.put(phone, subjects.Normal, 0, 10)
	d := s.attach(phone, 4)
	got := d.receive(4)
	s.none(d)
	d.mailbox.Ack(got[0].Seq)
	expect(t, d.receive(1), "4")
	s.none(d)
	d.mailbox.AckUpTo(got[3].Seq)
	expect(t, d.receive(3), "5 6 7")
	s.none(d)
}

func TestAckUpToSettlesOnlyWhatWasSent(t *testing.T) {
	t.Parallel()
	s := newSystem(t, nil)
	s.put(phone, subjects.Normal, 0, 3)
	s.put(phone, subjects.Critical, 10, 3)
	d := s.attach(phone, 4)
	expect(t, d.receive(4), "10 11 12 0")
	d.mailbox.AckUpTo(1 << 60)
	expect(t, d.receive(2), "1 2")
}

func TestUnacknowledgedComesAgainAndAcknowledgedDoesNot(t *testing.T) {
	t.Parallel()
	for _, restart := range []bool{false, true} {
		s := newSystem(t, nil)
		s.put(phone, subjects.Normal, 0, 8)
		d := s.attach(phone, 5)
		got := d.receive(5)
		d.mailbox.Ack(got[1].Seq, got[3].Seq) // out of order
		d.mailbox.Detach()
		if restart {
			s.stop()
			s.start(nil)
		}
		d = s.attach(phone, 100)
		if n := d.mailbox.Pending(); n != 6 {
			t.Errorf("pending is %d, want 6", n)
		}
		got = d.receive(6)
		expect(t, got, "0r 2r 4r 5 6 7")
		ack(d, got)
		d.mailbox.Detach()
		d = s.attach(phone, 100)
		s.none(d)
		if n := d.mailbox.Pending(); n != 0 {
			t.Errorf("pending is %d, want 0", n)
		}
	}
}

func TestTakeOverHandsOnWhatWasNotAcknowledged(t *testing.T) {
	t.Parallel()
	s := newSystem(t, nil)
	s.put(phone, subjects.Normal, 0, 4)
	first := s.attach(phone, 100)
	first.mailbox.Ack(first.receive(2)[0].Seq)
	second := s.attach(phone, 100)
	<-first.gone
	expect(t, second.receive(3), "1r 2 3")
	if got := first.mailbox.Next(nil, 1, 1<<20); len(got) != 0 {
		t.Errorf("the old mailbox still gives out %s", bodies(got))
	}
	first.mailbox.Detach() // late, must not disturb the new one
	s.put(phone, subjects.Normal, 4, 1)
	expect(t, second.receive(1), "4")
}

// A session that was never closed, as after kill -9, may have been sent more
// than its stored cursor says.
func TestAfterACrashWhatMayHaveBeenSentIsMarked(t *testing.T) {
	t.Parallel()
	s := newSystem(t, nil)
	s.put(phone, subjects.Normal, 0, 3)
	d := s.attach(phone, 100)
	d.mailbox.Ack(d.receive(2)[0].Seq)
	s.eventually("the cursor is stored", func() bool {
		c, ok := s.cursor(phone)
		return ok && c.Open && c.AckFloor(subjects.Normal) == 1
	})
	s.env.Kill()
	s.env.Start()
	s.start(nil) // beside the old hub, which is as good as dead
	d = s.attach(phone, 100)
	expect(t, d.receive(2), "1r 2r")
}

func TestEarlierSequenceCanBeAcknowledgedBeforeItComesAgain(t *testing.T) {
	t.Parallel()
	s := newSystem(t, nil)
	s.put(phone, subjects.Normal, 0, 4)
	d := s.attach(phone, 2)
	got := d.receive(2)
	d.mailbox.Detach()
	d = s.attach(phone, 1)
	d.mailbox.Ack(got[0].Seq, got[1].Seq, got[1].Seq+1, 1<<40)
	expect(t, d.receive(1), "3") // 2 was acknowledged early too, the future cannot be
	s.put(phone, subjects.Normal, 4, 1)
	d.mailbox.AckUpTo(1 << 40)
	expect(t, d.receive(1), "4")
}

func TestSlowDeviceLosesNothingAndHoldsLittle(t *testing.T) {
	t.Parallel()
	s := newSystem(t, func(o *inbox.Options) { o.TailMessages = 64 })
	d := s.attach(phone, 10)
	const n = 1500
	s.put(phone, subjects.Normal, 0, n)
	s.caughtUp()
	next := 0
	for next < n {
		got := d.receive(min(10, n-next))
		expect(t, got, numbers(next, len(got)))
		ack(d, got)
		next += len(got)
	}
	s.none(d)
}

func TestOtherDevicesMessagesStayAway(t *testing.T) {
	t.Parallel()
	s := newSystem(t, nil)
	tablet := subjects.Address{User: "alice", Device: "phone.x"}.Key()
	other := subjects.Address{User: "alice.phone", Device: "phone"}.Key()
	d := s.attach(phone, 100)
	s.put(tablet, subjects.Normal, 0, 3)
	s.put(other, subjects.Normal, 0, 3)
	s.put(phone, subjects.Normal, 7, 1)
	expect(t, d.receive(1), "7")
	s.none(d)
}

// cursor reads what is stored for a device.
func (s *system) cursor(k subjects.Key) (inbox.Cursor, bool) {
	s.t.Helper()
	stream, err := s.js.Stream(s.t.Context(), layout.StreamCursor)
	if err != nil {
		s.t.Fatal(err)
	}
	msg, err := stream.GetLastMsgForSubject(s.t.Context(), layout.Cursor(k))
	if err != nil {
		return inbox.Cursor{}, false
	}
	return must(inbox.ParseCursor(msg.Data)), true
}
