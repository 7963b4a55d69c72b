package roster_test

import (
	"slices"
	"testing"
	"time"

	"github.com/rccs-io/rccs/internal/roster"
	"github.com/rccs-io/rccs/internal/testkit"
	"github.com/rccs-io/rccs/subjects"
	"github.com/rccs-io/rccs/wire"
)

// connectWith opens a session that holds its offline back.
func (p *part) connectWith(k subjects.Key, delay time.Duration) *roster.Session {
	p.t.Helper()
	s, err := p.Open(p.t.Context(), k, roster.SessionOptions{Record: &roster.Record{Type: "test"}, OfflineDelay: delay})
	if err != nil {
		p.t.Fatal(err)
	}
	return s
}

// isAway reports whether routing takes a device as offline, while others are
// shown another status.
func isAway(k subjects.Key, shown string, parts ...*part) func() bool {
	return func() bool {
		for _, p := range parts {
			if d, ok := p.Device(k); !ok || d.Online || d.Status != wire.Offline || d.Shown != shown {
				return false
			}
		}
		return true
	}
}

// busy is a session whose device has said that it is busy, with a note.
func busy(t *testing.T, s *roster.Session) {
	t.Helper()
	do(t, func(done func(error)) { s.SetStatus(wire.Busy, []byte(`{"note":"x"}`), done) })
}

// A device that is back within its delay was never away for others: no change
// and no event, and its status and note are kept. Whoever routes to it learns
// that it has gone and come.
func TestReturnWithinTheDelayIsNoChange(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	a, b, follower := s.start("a"), s.start("b"), s.start("")
	first := a.connectWith(phone, time.Hour)
	busy(t, first)
	do(t, func(done func(error)) { first.Close(false, done) })
	testkit.Eventually(t, "routing takes it as offline", isAway(phone, wire.Busy, a, b, follower))
	back := b.connectWith(phone, time.Hour)
	if !back.Resumed {
		t.Error("not resumed")
	}
	sees(t, phone, wire.Busy, a, b, follower)
	for _, p := range []*part{a, b, follower} {
		d, _ := p.Device(phone)
		if string(d.Extra) != `{"note":"x"}` || !d.Online {
			t.Errorf("it is seen as %+v", d)
		}
		if slices.Contains(p.heard(phone), wire.Offline) {
			t.Errorf("others are told %q", p.heard(phone))
		}
	}
	if got := a.came(phone); got != 2 { // another one may read only what is last
		t.Errorf("it is told to have come %d times, want twice", got)
	}
	a.wasTold(phone, wire.Online, wire.Busy)
	testkit.Eventually(t, "services are told that it came", func() bool { return len(s.events(phone)) >= 2 })
	if got := s.events(phone); !slices.Equal(got, []string{"registered", "online"}) {
		t.Errorf("services are told %q", got)
	}
}

// One that does not come back is offline when its delay is over, everywhere and
// once.
func TestOfflineIsShownAfterTheDelay(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	a, follower := s.start("a"), s.start("")
	sess := a.connectWith(phone, 500*time.Millisecond)
	sees(t, phone, wire.Online, follower) // what is overtaken before it is read is not told
	do(t, func(done func(error)) { sess.Close(false, done) })
	for _, p := range []*part{a, follower} {
		p.wasTold(phone, wire.Online, wire.Offline)
	}
	testkit.Eventually(t, "services are told", func() bool { return len(s.events(phone)) >= 3 })
	if got := s.events(phone); !slices.Equal(got, []string{"registered", "online", "offline"}) {
		t.Errorf("services are told %q", got)
	}
}

func TestUnregisteredDeviceIsOfflineAtOnce(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	a, follower := s.start("a"), s.start("")
	sess := a.connectWith(phone, time.Hour)
	sees(t, phone, wire.Online, follower) // what is overtaken before it is read is not told
	do(t, func(done func(error)) { sess.Close(true, done) })
	for _, p := range []*part{a, follower} {
		p.wasTold(phone, wire.Online, wire.Offline)
	}
}

// A resume keeps status and note, also without a delay.
func TestResumeKeepsTheStatus(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	a, b := s.start("a"), s.start("b")
	first := a.connect(phone)
	busy(t, first)
	do(t, func(done func(error)) { first.Close(false, done) })
	sees(t, phone, wire.Offline, a, b)
	b.connect(phone)
	sees(t, phone, wire.Busy, a, b)
	if d, _ := a.Device(phone); string(d.Extra) != `{"note":"x"}` {
		t.Errorf("the note is %s", d.Extra)
	}
}

// Should the edge that held a device back be gone, a sweep shows it.
func TestSweepShowsWhatADeadEdgeHeldBack(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	a, follower := s.start("a"), s.start("")
	sess := a.connectWith(phone, 3*time.Second)
	do(t, func(done func(error)) { sess.Close(false, done) })
	_, release := a.holdSessions() // so that it shows nothing itself, however slow the machine is
	testkit.Eventually(t, "it is held back", isAway(phone, wire.Online, follower))
	a.kill()
	release()
	testkit.Eventually(t, "a sweep shows it", func() bool {
		if err := follower.Sweep(t.Context()); err != nil {
			t.Fatal(err)
		}
		return isAway(phone, wire.Offline, follower)()
	})
	follower.wasTold(phone, wire.Online, wire.Offline)
}
