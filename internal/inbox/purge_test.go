package inbox_test

import (
	"testing"

	"github.com/rccs-io/rccs/internal/direct"
	"github.com/rccs-io/rccs/internal/inbox"
	"github.com/rccs-io/rccs/subjects"
	"github.com/rccs-io/rccs/wire"
)

// purge removes a device's messages as an operator does.
func (s *system) purge(k subjects.Key) {
	s.t.Helper()
	fetch := direct.New(s.nc)
	if err := fetch.Start(); err != nil {
		s.t.Fatal(err)
	}
	defer fetch.Stop()
	p := must(inbox.NewPurger(s.nc, fetch, s.pub.Proof))
	upTo := must(p.Last(s.t.Context(), k, new(inbox.Cursor)))
	must(p.Begin(s.t.Context(), k, upTo))
	for n, seq := range upTo {
		if seq > 0 {
			s.purgeSubject(subjects.Inbox(k, subjects.Lane(n)))
		}
	}
	if err := p.Finish(s.t.Context(), k, upTo, []string{"here"}); err != nil {
		s.t.Fatal(err)
	}
}

// What is purged is not delivered by a running edge, whether the device is away,
// has it in its queue, or was sent it; the device is told, also after a restart.
func TestPurgedMessagesAreNotDeliveredByARunningEdge(t *testing.T) {
	t.Parallel()
	for name, restart := range map[string]bool{"running": false, "restarted": true} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newSystem(t, func(o *inbox.Options) { o.Edge = "here" })
			s.put(phone, subjects.Normal, 0, 3)
			s.caughtUp()
			s.purge(phone)
			if restart {
				s.restart()
			}
			d := s.attach(phone, 2)
			s.put(phone, subjects.Normal, 3, 1)
			expect(t, d.receive(1), "3")
			want := wire.Gap{Lane: "normal", From: 1, To: 3, Count: 3, Reason: wire.ReasonPurged}
			s.wantGap(d, want)
		})
	}
}

func TestPurgeReachesTheQueueOfAConnectedDevice(t *testing.T) {
	t.Parallel()
	s := newSystem(t, func(o *inbox.Options) { o.Edge = "here" })
	d := s.attach(phone, 2)
	s.put(phone, subjects.Normal, 0, 5) // two are sent, three wait
	d.receive(2)
	s.caughtUp()
	s.purge(phone)
	s.put(phone, subjects.Normal, 5, 1)
	expect(t, d.receive(1), "5")
	want := wire.Gap{Lane: "normal", From: 1, To: 5, Count: 5, Reason: wire.ReasonPurged}
	s.wantGap(d, want)
}
