package inbox_test

import (
	"testing"

	"github.com/nats-io/nats.go/jetstream"

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
		stream, err := s.js.Stream(t.Context(), subjects.StreamInbox)
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
		want := wire.Gap{Lane: "high", From: gone[0].Seq, To: gone[len(gone)-1].Seq, Count: uint64(len(gone))}
		if gaps := s.gaps(d); len(gaps) != 1 || gaps[0] != want {
			t.Errorf("told %+v, want %+v", gaps, want)
		}
		if !last {
			ack(d, got[4:])
		}
		d.mailbox.Detach()
		d = s.attach(phone, 100) // told once
		s.none(d)
		if gaps := d.mailbox.Gaps(); len(gaps) > 0 {
			t.Errorf("told again: %+v", gaps)
		}
	}
}

// Of messages that a device was never sent, and that retention took, it is told
// where they may have been.
func TestGapTellsWhatRetentionTook(t *testing.T) {
	t.Parallel()
	s := newSystem(t, nil)
	s.put(phone, subjects.Normal, 0, 1)
	d := s.attach(phone, 100)
	got := d.receive(1)
	ack(d, got)
	d.mailbox.Detach()
	s.put(phone, subjects.Normal, 1, 5)
	stream, err := s.js.Stream(t.Context(), subjects.StreamInbox)
	if err != nil {
		t.Fatal(err)
	}
	if err := stream.Purge(t.Context(), jetstream.WithPurgeSequence(got[0].Seq+4)); err != nil {
		t.Fatal(err)
	}
	s.stop()
	s.start(nil)
	d = s.attach(phone, 100)
	expect(t, d.receive(2), "4 5")
	gaps := s.gaps(d)
	if len(gaps) != subjects.Lanes {
		t.Errorf("told %+v, want a word on each lane", gaps)
	}
	for _, g := range gaps { // which lane it was nobody knows
		if g.From != got[0].Seq+1 || g.To != got[0].Seq+3 || g.Count != 0 {
			t.Errorf("told %+v", g)
		}
	}
}

// A lane that services have filled past the store's bound has lost its first
// messages, and the device is told.
func TestGapTellsWhatAFullLaneLost(t *testing.T) {
	t.Parallel()
	s := newSystem(t, nil)
	stream, err := s.js.Stream(t.Context(), subjects.StreamInbox)
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
	s.put(phone, subjects.Normal, 1, 6) // 1 and 2 make room
	s.put(phone, subjects.Low, 7, 3)    // all of it fits
	s.stop()
	s.start(nil)
	d = s.attach(phone, 100)
	expect(t, d.receive(7), "3 4 5 6 7 8 9")
	want := wire.Gap{Lane: "normal", From: got[0].Seq + 1, To: got[0].Seq + 2}
	if gaps := s.gaps(d); len(gaps) != 1 || gaps[0] != want {
		t.Errorf("told %+v, want %+v", gaps, want)
	}
}
