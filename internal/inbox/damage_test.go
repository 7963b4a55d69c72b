package inbox_test

import (
	"encoding/json"
	"fmt"
	"testing"

	"github.com/rccs-io/rccs/internal/epoch"
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
		if gaps := s.gaps(d); len(gaps) != 1 || gaps[0] != want {
			t.Errorf("told %+v, want %+v", gaps, want)
		}
		other := s.attach(tablet, 100)
		s.none(other)
		if gaps := other.mailbox.Gaps(); len(gaps) > 0 {
			t.Errorf("another device is told %+v", gaps)
		}
	}
}

// Damage of which nobody knows whose it was may have been any device's: each
// that was there is told once, without a number.
func TestDamageOfUnknownMessagesIsToldWithoutANumber(t *testing.T) {
	t.Parallel()
	s := newSystem(t, nil)
	s.put(phone, subjects.Normal, 0, 1)
	d := s.attach(phone, 100)
	ack(d, d.receive(1))
	d.mailbox.Detach()
	s.stop()
	s.put(phone, subjects.Normal, 1, 3)
	s.damage(`{"ranges":[[3,3]],"unknown":[[3,3]]}`, 3)
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
	if gaps := d.mailbox.Gaps(); len(gaps) > 0 {
		t.Errorf("told again: %+v", gaps)
	}
	other := s.attach(tablet, 100) // it was not there
	s.none(other)
	if gaps := other.mailbox.Gaps(); len(gaps) > 0 {
		t.Errorf("a new device is told %+v", gaps)
	}
}

// What waited at the end of a stream that has lost its end, and what was sent and
// not acknowledged there, is told with its number.
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
	counts := map[string]uint64{}
	s.eventually("both lanes are told", func() bool {
		d.mailbox.Next(nil, 0, 1)
		for _, g := range d.mailbox.Gaps() {
			if g.Reason != wire.ReasonDamaged || g.From != 3 || g.To != 7 {
				t.Errorf("told %+v", g)
			}
			counts[g.Lane] += g.Count
		}
		return len(counts) == 2
	})
	if counts["normal"] != 1 || counts["low"] != 4 {
		t.Errorf("told %v, want 1 of lane normal and 4 of lane low", counts)
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
