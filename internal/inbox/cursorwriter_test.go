package inbox_test

import (
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/rccs-io/rccs/internal/inbox"
	"github.com/rccs-io/rccs/internal/layout"
	"github.com/rccs-io/rccs/subjects"
)

// What an acknowledgement changed is stored in time, however busy the writer is
// with devices that come and go, whose cursors are stored at once.
func TestAnAcknowledgementIsStoredWhileDevicesComeAndGo(t *testing.T) {
	t.Parallel()
	const every = time.Second
	s := newSystem(t, func(o *inbox.Options) { o.CursorEvery = every })
	d := s.attach(phone, 10)
	stop := make(chan struct{})
	var others sync.WaitGroup
	for n := range 4 {
		others.Go(func() {
			k := subjects.Address{User: "bob", Device: subjects.DeviceID(fmt.Sprint("device", n))}.Key()
			for {
				select {
				case <-stop:
					return
				default:
				}
				box, err := s.hub.Attach(t.Context(), k, newDevice(t), inbox.MailboxOptions{Window: 1})
				if err != nil {
					t.Error(err)
					return
				}
				box.Detach()
			}
		})
	}
	defer func() {
		close(stop)
		others.Wait()
	}()
	for i := range 2 {
		s.put(phone, subjects.Normal, i, 1)
		got := d.receive(1)
		d.mailbox.Ack(got[0].Seq)
		s.eventually("the acknowledgement is stored", func() bool {
			return s.storedCursor().AckFloor(subjects.Normal) >= got[0].Seq
		})
	}
}

// However many messages a device acknowledges within the interval, its cursor is
// stored once for all of them, and not once a message. If the process is killed
// before, they come again, marked, and none is lost.
func TestAcknowledgementsWithinTheIntervalShareOneCursor(t *testing.T) {
	t.Parallel()
	s := newSystem(t, func(o *inbox.Options) { o.CursorEvery = time.Hour })
	cursors := must(s.nc.SubscribeSync(layout.Cursor(phone)))
	if err := s.nc.Flush(); err != nil {
		t.Fatal(err)
	}
	stored := func() (n int) {
		n, _, err := cursors.Pending()
		if err != nil {
			t.Fatal(err)
		}
		return n
	}
	d := s.attach(phone, 10)
	s.eventually("the first cursor is stored", func() bool { return stored() == 1 })
	for i := range 20 {
		s.put(phone, subjects.Normal, i, 1)
		ack(d, d.receive(1))
	}
	s.abandon()
	if n := stored(); n != 1 {
		t.Errorf("%d cursors were stored, want that of the registration only", n)
	}
	s.start(nil)
	d = s.attach(phone, 20)
	expect(t, d.receive(20), "0r 1r 2r 3r 4r 5r 6r 7r 8r 9r 10r 11r 12r 13r 14r 15r 16r 17r 18r 19r")
}

// More cursors than are stored at a time are all stored, one part after the
// other.
func TestTheCursorsOfABurstAreAllStored(t *testing.T) {
	t.Parallel()
	s := newSystem(t, nil)
	const n = 1000
	last := make(map[subjects.Key]uint64, n)
	devices := make([]*device, n)
	for i := range devices {
		k := subjects.Address{User: "bob", Device: subjects.DeviceID(fmt.Sprint("device", i))}.Key()
		devices[i] = s.attachNow(k, 10)
		s.put(k, subjects.Normal, i, 1)
	}
	for _, d := range devices {
		seq := d.receive(1)[0].Seq
		last[d.mailbox.Key()] = seq
	}
	for _, d := range devices {
		d.mailbox.Ack(last[d.mailbox.Key()])
	}
	stream := must(s.js.Stream(t.Context(), layout.StreamCursor))
	for k, seq := range last {
		s.eventually("the acknowledgement of "+string(k)+" is stored", func() bool {
			m, err := stream.GetLastMsgForSubject(t.Context(), layout.Cursor(k))
			if err != nil {
				return false
			}
			c := must(inbox.ParseCursor(m.Data))
			return c.AckFloor(subjects.Normal) >= seq
		})
	}
}

// Where an edge that held the device may not have stored its cursor, what is
// stored may have been sent.
func TestWhatAnotherEdgeMayHaveSentIsMarkedRedelivered(t *testing.T) {
	t.Parallel()
	s := newSystem(t, nil)
	s.put(phone, subjects.Normal, 0, 2)
	s.caughtUp()
	d := newDevice(t)
	d.mailbox = must(s.hub.Attach(t.Context(), phone, d, inbox.MailboxOptions{Window: 10, Unsure: true}))
	expect(t, d.receive(2), "0r 1r")
	s.put(phone, subjects.Normal, 2, 1)
	expect(t, d.receive(1), "2")
}

// While an edge does not know whether it is taken for dead, somebody else may have
// given out what it has.
func TestWhatAnEdgeSendsInDoubtIsMarkedRedelivered(t *testing.T) {
	t.Parallel()
	s := newSystem(t, nil)
	d := s.attach(phone, 10)
	s.put(phone, subjects.Normal, 0, 1)
	expect(t, d.receive(1), "0")
	s.put(phone, subjects.Normal, 1, 2)
	s.caughtUp()
	d.mailbox.Doubt()
	expect(t, d.receive(2), "1r 2r")
	s.put(phone, subjects.Normal, 3, 1)
	expect(t, d.receive(1), "3")
}

// A cursor that the store has lost, or that the session before never stored, does
// not say what that session was sent.
func TestWhatASessionWithoutACursorMayHaveBeenSentIsMarkedRedelivered(t *testing.T) {
	t.Parallel()
	s := newSystem(t, nil)
	s.put(phone, subjects.Normal, 0, 2)
	s.caughtUp()
	session := func(epoch uint64) *device {
		d := newDevice(t)
		d.mailbox = must(s.hub.Attach(t.Context(), phone, d, inbox.MailboxOptions{Window: 10, Epoch: epoch, Before: epoch - 1}))
		return d
	}
	d := session(1)
	got := d.receive(2)
	expect(t, got, "0 1")
	d.mailbox.Ack(got[0].Seq, got[1].Seq)
	d.mailbox.Detach()
	s.put(phone, subjects.Normal, 2, 1)
	d = session(2) // its cursor is that of session 1
	got = d.receive(1)
	expect(t, got, "2")
	d.mailbox.Ack(got[0].Seq)
	d.mailbox.Detach()
	s.stop() // all cursors are stored, and none is on its way
	if c, _ := s.cursor(phone); c.Epoch != 2 {
		t.Errorf("session 2 has left a cursor of session %d", c.Epoch)
	}
	stream := must(s.js.Stream(t.Context(), layout.StreamCursor))
	if err := stream.Purge(t.Context(), jetstream.WithPurgeSubject(layout.Cursor(phone))); err != nil {
		t.Fatal(err)
	}
	s.start(nil)
	d = session(3)
	expect(t, d.receive(3), "0r 1r 2r")
	s.put(phone, subjects.Normal, 3, 1)
	expect(t, d.receive(1), "3")
}

// A cursor of a live session says so, also before it was sent anything: the store may
// take no more of them.
func TestWhatALiveSessionWasSentIsMarkedAlsoIfNoCursorCouldBeStoredSince(t *testing.T) {
	t.Parallel()
	for _, known := range []bool{false, true} {
		s := newSystem(t, nil)
		if known {
			s.attach(phone, 10).mailbox.Detach()
		}
		s.epoch = 1
		d := s.attach(phone, 10)
		s.eventually("a cursor of this session is stored", func() bool {
			c, ok := s.cursor(phone)
			return ok && c.Epoch == s.epoch
		})
		s.pub.Stop()
		s.put(phone, subjects.Normal, 0, 1)
		expect(t, d.receive(1), "0")
		s.abandon()
		s.start(nil)
		s.caughtUp()
		d = newDevice(t)
		d.mailbox = must(s.hub.Attach(t.Context(), phone, d, inbox.MailboxOptions{Window: 10, Epoch: 2, Before: 1}))
		expect(t, d.receive(1), "0r")
	}
}

// Where the roster has lost the device's last session, nobody knows whether the stored
// cursor is that session's.
func TestWhatMayHaveBeenSentIsMarkedAlsoIfTheSessionIsLost(t *testing.T) {
	t.Parallel()
	s := newSystem(t, nil)
	session := func(epoch, before uint64) *device {
		s.caughtUp()
		d := newDevice(t)
		d.mailbox = must(s.hub.Attach(t.Context(), phone, d, inbox.MailboxOptions{Window: 10, Epoch: epoch, Before: before}))
		return d
	}
	session(7, 0).mailbox.Detach()
	s.put(phone, subjects.Normal, 0, 1)
	s.eventually("what waits is counted, in the cursor of the session that is lost", func() bool {
		c, ok := s.cursor(phone)
		return ok && c.Epoch == 7 && c.Waiting[subjects.Normal] == 1
	})
	d := session(1, 0)
	expect(t, d.receive(1), "0r")
	s.eventually("a cursor of this session is stored", func() bool {
		c, ok := s.cursor(phone)
		return ok && c.Epoch == 1
	})
	d.mailbox.Detach()
	s.put(phone, subjects.Normal, 1, 1)
	expect(t, session(2, 1).receive(2), "0r 1")
}

// A connection that ends before it has been sent all that an earlier one may have been
// sent leaves that to be said by the next.
func TestWhatMayHaveBeenSentIsMarkedAlsoAfterAConnectionThatWasSentAPart(t *testing.T) {
	t.Parallel()
	s := newSystem(t, nil)
	s.put(phone, subjects.Normal, 0, 3)
	s.put(phone, subjects.High, 3, 1)
	s.caughtUp()
	d := newDevice(t)
	d.mailbox = must(s.hub.Attach(t.Context(), phone, d, inbox.MailboxOptions{Window: 1, Unsure: true}))
	expect(t, d.receive(1), "3r")
	d.mailbox.Detach()
	d = s.attach(phone, 2)
	expect(t, d.receive(2), "3r 0r")
	d.mailbox.Detach()
	d = s.attach(phone, 10)
	expect(t, d.receive(4), "3r 0r 1r 2r")
	d.mailbox.Detach()
	s.put(phone, subjects.Normal, 4, 1)
	d = s.attach(phone, 10)
	expect(t, d.receive(5), "3r 0r 1r 2r 4")
}

// The edge that held the device may have read further than the one that it comes
// to, and may have sent what this one has not read.
func TestWhatThisEdgeHasNotReadMayHaveBeenSentByAnother(t *testing.T) {
	t.Parallel()
	s, proxy := slowHub(t)
	s.caughtUp()
	proxy.Freeze()
	s.put(phone, subjects.Normal, 0, 2)
	d := newDevice(t)
	d.mailbox = must(s.hub.Attach(t.Context(), phone, d, inbox.MailboxOptions{Window: 10, Unsure: true}))
	proxy.Heal()
	expect(t, d.receive(2), "0r 1r")
	s.put(phone, subjects.Normal, 2, 1)
	expect(t, d.receive(1), "2")
}
