package inbox_test

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/rccs-io/rccs/internal/direct"
	"github.com/rccs-io/rccs/internal/epoch"
	"github.com/rccs-io/rccs/internal/inbox"
	"github.com/rccs-io/rccs/internal/layout"
	"github.com/rccs-io/rccs/subjects"
	"github.com/rccs-io/rccs/wire"
)

// tablet is another device.
var tablet = subjects.Address{User: "alice", Device: "tablet"}.Key()

// damage removes messages as a server does that finds them unreadable when it
// starts, and stores what it says of them.
func (s *system) damage(record string, seqs ...uint64) {
	s.t.Helper()
	stream := must(s.js.Stream(s.t.Context(), layout.StreamInbox))
	for _, seq := range seqs {
		if err := stream.DeleteMsg(s.t.Context(), seq); err != nil {
			s.t.Fatal(err)
		}
	}
	must(s.js.Publish(s.t.Context(), layout.Damaged(layout.StreamInbox), []byte(record)))
}

// directClient reads streams for a test.
func (s *system) directClient() *direct.Client {
	s.t.Helper()
	c := direct.New(s.env.Conn(s.t))
	if err := c.Start(); err != nil {
		s.t.Fatal(err)
	}
	s.t.Cleanup(c.Stop)
	return c
}

func cursorOf(t *testing.T, cursors *inbox.Cursors, k subjects.Key) (inbox.Cursor, uint64) {
	t.Helper()
	c, revision, err := cursors.Load(t.Context(), k)
	if err != nil {
		t.Fatal(err)
	}
	return c, revision
}

func (s *system) hasCursor(k subjects.Key) bool {
	_, err := must(s.js.Stream(s.t.Context(), layout.StreamCursor)).GetLastMsgForSubject(s.t.Context(), layout.Cursor(k))
	return err == nil
}

// watermark is what is stored of it, 0 when nothing is.
func (s *system) watermark() uint64 {
	msg, err := must(s.js.Stream(s.t.Context(), layout.StreamCursor)).GetLastMsgForSubject(s.t.Context(), layout.Watermark)
	if err != nil {
		return 0
	}
	var mark struct{ Head uint64 }
	must(0, json.Unmarshal(msg.Data, &mark))
	return mark.Head
}

// A message that was stored, and damaged before any hub had counted it, is told
// to the device that it was for, and to no other.
func TestADamagedMessageThatNobodyCountedIsTold(t *testing.T) {
	t.Parallel()
	for _, attached := range []bool{true, false} { // the device has a cursor, or was never there
		s := newSystem(t, nil)
		if attached {
			s.attach(phone, 100).mailbox.Detach()
		}
		s.stop()
		s.put(phone, subjects.High, 0, 3)
		s.damage(fmt.Sprintf(`{"ranges":[[2,2]],"messages":[{"seq":2,"subject":%q}]}`, subjects.Inbox(phone, subjects.High)), 2)
		s.start(nil)
		d := s.attach(phone, 100)
		expect(t, d.receive(2), "0 2")
		want := wire.Gap{Lane: "high", From: 2, To: 2, Count: 1, Reason: wire.ReasonDamaged}
		s.wantGap(d, want)
		other := s.attach(tablet, 100)
		s.none(other)
		other.noGap()
	}
}

// Damage of which nobody knows whose it was may have been any device's: each
// is told once, without a number.
func TestDamageOfUnknownMessagesIsToldWithoutANumber(t *testing.T) {
	t.Parallel()
	s := newSystem(t, nil)
	s.put(phone, subjects.Normal, 0, 1)
	d := s.attach(phone, 100)
	ack(d, d.receive(1))
	d.mailbox.Detach()
	s.stop()
	s.put(phone, subjects.Normal, 1, 3)
	s.damage(fmt.Sprintf(`{"ranges":[[3,3]],"doubts":[{"from":3,"to":3,"at":%d}]}`, time.Now().UnixNano()), 3)
	s.start(nil)
	d = s.attach(phone, 100)
	got := d.receive(2)
	expect(t, got, "1 3")
	gaps := s.gaps(d)
	if len(gaps) != subjects.Lanes {
		t.Errorf("told %+v, want one for each lane", gaps)
	}
	for _, g := range gaps {
		if g.From != 3 || g.To != 3 || g.Count != 0 || g.AtLeast != 0 || g.Reason != wire.ReasonDamaged {
			t.Errorf("told %+v", g)
		}
	}
	s.put(phone, subjects.Normal, 4, 1)
	ack(d, append(got, d.receive(1)...))
	s.restart()
	d = s.attach(phone, 100)
	s.none(d)
	d.noGap()
	other := s.attach(tablet, 100) // a service may have sent it something
	if gaps := s.gaps(other); len(gaps) != subjects.Lanes {
		t.Errorf("a device that registers later is told %+v, want one gap for each lane", gaps)
	}
}

// A device that registered, and was never sent anything, may have lost what is
// damaged as any other. Whoever reads its inbox tells it once.
func TestDamageOfUnknownMessagesIsToldToADeviceThatNeverHadAMessage(t *testing.T) {
	t.Parallel()
	for _, by := range []string{"edge", "fetch", "tally"} {
		t.Run(by, func(t *testing.T) {
			t.Parallel()
			s := newSystem(t, nil)
			s.attach(phone, 100).mailbox.Detach() // nothing is stored yet
			s.stop()
			s.put(tablet, subjects.Normal, 0, 3)
			s.damage(fmt.Sprintf(`{"ranges":[[2,2]],"doubts":[{"from":2,"to":2,"at":%d}]}`, time.Now().UnixNano()), 2)
			s.start(nil)
			want := wire.Gap{From: 2, To: 2, Reason: wire.ReasonDamaged}
			switch by {
			case "fetch":
				s.caughtUp()
				cursors := must(inbox.NewCursors(s.directClient(), s.pub))
				c, revision := cursorOf(t, cursors, phone)
				for i := range c.Gaps {
					got := c.Gaps[i].Wire()
					want.Lane = got.Lane
					if got != want {
						t.Errorf("told %+v, want %+v", got, want)
					}
				}
				if len(c.Gaps) != subjects.Lanes {
					t.Errorf("told %+v, want one for each lane", c.Gaps)
				}
				c.Gaps = nil // told, and acknowledged
				if err := cursors.Store(t.Context(), phone, c, revision); err != nil {
					t.Fatal(err)
				}
				if c, _ = cursorOf(t, cursors, phone); len(c.Gaps) > 0 {
					t.Errorf("told again: %+v", c.Gaps)
				}
				return
			case "tally":
				s.put(phone, subjects.Normal, 3, 1)
				s.eventually("the message is counted", func() bool { return s.storedCursorOf(phone).UpTo >= 4 })
			}
			d := s.attach(phone, 100)
			if gaps := s.gaps(d); len(gaps) != subjects.Lanes {
				t.Errorf("told %+v, want one for each lane", gaps)
			}
		})
	}
}

// A device that registers long after the damage was never sent what is gone.
func TestOldDamageIsNotToldToANewDevice(t *testing.T) {
	t.Parallel()
	s := newSystem(t, nil)
	s.stop()
	s.put(tablet, subjects.Normal, 0, 1)
	s.damage(fmt.Sprintf(`{"ranges":[[1,1]],"doubts":[{"from":1,"to":1,"at":%d}]}`, time.Now().Add(-8*24*time.Hour).UnixNano()), 1)
	s.start(nil)
	d := s.attach(phone, 100)
	s.none(d)
	d.noGap()
}

// A message that was counted before the damage was found is told by its number, and
// not as one that may be gone.
func TestDamageThatWasCountedIsNoDoubt(t *testing.T) {
	t.Parallel()
	s := newSystem(t, nil)
	s.put(phone, subjects.Normal, 0, 1)
	s.eventually("the message is counted", func() bool { return s.storedCursorOf(phone).UpTo >= 1 })
	s.stop()
	s.damage(fmt.Sprintf(`{"ranges":[[1,1]],"doubts":[{"from":1,"to":1,"at":%d}]}`, time.Now().UnixNano()), 1)
	s.start(nil)
	d := s.attach(phone, 100)
	want := wire.Gap{Lane: "normal", From: 1, To: 1, Count: 1, Reason: wire.ReasonDamaged}
	s.wantGap(d, want)
}

// An edge that goes on while its server is started again hears of what was found
// then, and tells the devices that are connected.
func TestDamageThatIsFoundLaterIsToldToDevicesThatAreConnected(t *testing.T) {
	t.Parallel()
	s := newSystem(t, nil)
	d := s.attach(phone, 100)
	s.damage(fmt.Sprintf(`{"ranges":[[1,1]],"doubts":[{"from":1,"to":1,"at":%d}]}`, time.Now().UnixNano()))
	if err := s.hub.LearnDamage(t.Context()); err != nil {
		t.Fatal(err)
	}
	if gaps := s.gaps(d); len(gaps) != subjects.Lanes {
		t.Errorf("told %+v, want one for each lane", gaps)
	}
}

// The end of the stream may go before any cursor was stored that says so: the
// watermark follows what is read.
func TestTheLostEndIsToldThoughNoCursorWasStored(t *testing.T) {
	t.Parallel()
	s := newSystem(t, func(o *inbox.Options) { o.CursorEvery = time.Hour })
	d := s.attach(phone, 100)
	s.eventually("the device is known", func() bool { return s.hasCursor(phone) })
	s.put(phone, subjects.Normal, 0, 3)
	d.receive(3)
	s.eventually("the watermark is stored", func() bool { return s.watermark() >= 3 })
	s.abandon()
	if err := s.js.DeleteStream(t.Context(), layout.StreamInbox); err != nil {
		t.Fatal(err)
	}
	s.createInbox()
	s.start(nil)
	d = s.attach(phone, 100)
	gaps := s.gaps(d)
	if len(gaps) == 0 {
		t.Error("nothing is told")
	}
	for _, g := range gaps {
		if g.Reason != wire.ReasonDamaged || g.From > 4 {
			t.Errorf("told %+v", g)
		}
	}
}

// What waited at the end of a stream that has lost its end, and what was sent and
// not acknowledged there, is told with its number. What was stored behind that, and
// nobody had read, is told without one.
func TestTheLostEndOfTheStreamIsTold(t *testing.T) {
	t.Parallel()
	s := newSystem(t, nil)
	s.put(phone, subjects.Normal, 0, 2)
	d := s.attach(phone, 100)
	ack(d, d.receive(2))
	s.put(phone, subjects.Normal, 2, 1)
	expect(t, d.receive(1), "2") // and not acknowledged
	d.mailbox.Detach()
	s.put(phone, subjects.Low, 3, 4)
	s.caughtUp()
	s.stop()
	if err := s.js.DeleteStream(t.Context(), layout.StreamInbox); err != nil {
		t.Fatal(err)
	}
	s.createInbox()
	s.put(tablet, subjects.Normal, 100, 2)
	s.start(nil)
	d = s.attach(phone, 100)
	counts, doubts := map[string]uint64{}, 0
	s.eventually("both lanes are told", func() bool {
		d.mailbox.Next(nil, 0, 1)
		for _, g := range d.mailbox.Gaps() {
			if g.Reason != wire.ReasonDamaged || g.Count > 0 && (g.From != 3 || g.To != 7) || g.Count == 0 && g.From != 8 {
				t.Errorf("told %+v", g)
			}
			counts[g.Lane] += g.Count
			if g.Count == 0 {
				doubts++
			}
		}
		return counts["normal"] > 0 && counts["low"] > 0
	})
	if counts["normal"] != 1 || counts["low"] != 4 {
		t.Errorf("told %v, want 1 of lane normal and 4 of lane low", counts)
	}
	if doubts != subjects.Lanes {
		t.Errorf("%d lanes are told that more may be gone, want all", doubts)
	}
	stream := must(s.js.Stream(t.Context(), layout.StreamCursor))
	stored := must(stream.GetLastMsgForSubject(t.Context(), layout.Damaged(layout.StreamInbox)))
	var record struct {
		Ranges [][2]uint64
		Found  []struct {
			Stream string
			First  uint64
		}
	}
	if err := json.Unmarshal(stored.Data, &record); err != nil || len(record.Ranges) != 1 || record.Ranges[0] != [2]uint64{3, 7} {
		t.Errorf("stored %s, %v", stored.Data, err)
	}
	if len(record.Found) != 1 || record.Found[0].Stream != layout.StreamInbox || record.Found[0].First != 3 {
		t.Errorf("operators are told %+v", record.Found)
	}
}

// An operator's purge says nothing of what was stored at the same sequences before
// or after the stream lost its end.
func TestTheLostEndIsNotToldAsPurged(t *testing.T) {
	t.Parallel()
	s := newSystem(t, func(o *inbox.Options) { o.Edge = "here" })
	s.put(phone, subjects.Normal, 0, 3)
	s.caughtUp()
	s.purge(phone)
	d := s.attach(phone, 100)
	s.wantGap(d, wire.Gap{Lane: "normal", From: 1, To: 3, Count: 3, Reason: wire.ReasonPurged})
	s.put(phone, subjects.Normal, 3, 1)
	ack(d, d.receive(1))
	d.mailbox.Detach()
	s.put(phone, subjects.Normal, 4, 2)
	s.caughtUp()
	s.stop()
	if err := s.js.DeleteStream(t.Context(), layout.StreamInbox); err != nil {
		t.Fatal(err)
	}
	s.createInbox()
	s.put(tablet, subjects.Normal, 100, 1)
	s.start(nil)
	d = s.attach(phone, 100)
	var got []wire.Gap
	s.eventually("the loss is told", func() bool {
		d.mailbox.Next(nil, 0, 1)
		for _, g := range d.mailbox.Gaps() {
			if g.Count > 0 {
				got = append(got, g)
			}
		}
		return len(got) > 0
	})
	if want := (wire.Gap{Lane: "normal", From: 2, To: 6, Count: 2, Reason: wire.ReasonDamaged}); len(got) != 1 || got[0] != want {
		t.Errorf("told %+v, want %+v", got, want)
	}
}

// After a restore, or when cursors were damaged, what may have been sent before
// is marked, whatever the cursor says.
func TestWhatMayHaveBeenSentBeforeARestoreIsMarked(t *testing.T) {
	t.Parallel()
	s := newSystem(t, nil)
	s.put(phone, subjects.Normal, 0, 2)
	if err := epoch.Redeliver(t.Context(), s.js, layout.StreamInbox); err != nil {
		t.Fatal(err)
	}
	s.put(phone, subjects.Normal, 2, 1)
	s.restart()
	expect(t, s.attach(phone, 100).receive(3), "0r 1r 2")
}

// Messages whose file is damaged while the server runs are told as damaged, and
// operators hear of it, also while others send. What an operator removes with
// JetStream's means is not.
func TestDamageWhileTheServerRunsIsToldAsDamage(t *testing.T) {
	t.Parallel()
	for _, flood := range []bool{false, true} {
		t.Run(fmt.Sprintf("others send %v", flood), func(t *testing.T) {
			t.Parallel()
			damageWhileTheServerRuns(t, flood)
		})
	}
}

func damageWhileTheServerRuns(t *testing.T, flood bool) {
	s := newSystem(t, nil)
	s.put(phone, subjects.Normal, 0, 5)
	s.put(tablet, subjects.Normal, 0, 3)
	s.caughtUp() // all are counted
	s.stop()
	if err := must(s.js.Stream(t.Context(), layout.StreamInbox)).DeleteMsg(t.Context(), 7); err != nil {
		t.Fatal(err)
	}
	s.env.Stop()                                // and forgets what it has in memory
	s.env.Flip(layout.StreamInbox, "\r\n\r\n2") // headers end there
	s.env.Start()                               // and looks at no block before somebody reads it
	s.start(nil)
	for _, c := range []struct {
		k      subjects.Key
		want   string
		reason string
	}{{tablet, "0 2", wire.ReasonPurged}, {phone, "0 1 3 4", wire.ReasonDamaged}} {
		if flood {
			t.Cleanup(s.flood(c.k, subjects.Normal, 1))
		}
		d := s.attachNow(c.k, 100)
		expect(t, d.receive(len(strings.Fields(c.want))), c.want)
		if gaps := s.gaps(d); len(gaps) != 1 || gaps[0].Count != 1 || gaps[0].Reason != c.reason {
			t.Errorf("%s is told %+v", c.k, gaps)
		}
	}
	var found struct {
		Ranges [][2]uint64
		Found  []struct{ Unreadable bool }
	}
	must(0, json.Unmarshal(must(must(s.js.Stream(t.Context(), layout.StreamCursor)).GetLastMsgForSubject(t.Context(), layout.Damaged(layout.StreamInbox))).Data, &found))
	if len(found.Ranges) != 1 || len(found.Found) != 1 || !found.Found[0].Unreadable {
		t.Errorf("operators are told %+v", found)
	}
}
