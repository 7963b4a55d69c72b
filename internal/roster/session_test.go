package roster_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/rccs-io/rccs/internal/layout"
	"github.com/rccs-io/rccs/internal/roster"
	"github.com/rccs-io/rccs/internal/testkit"
	"github.com/rccs-io/rccs/subjects"
	"github.com/rccs-io/rccs/wire"
)

func TestEachChangeIsToldOnceEverywhere(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	a, b, follower := s.start("a"), s.start("b"), s.start("")
	sess := a.connect(phone)
	told := func(want ...string) { // what is overtaken before it is read is not told
		t.Helper()
		for _, p := range []*part{a, b, follower} {
			p.wasTold(phone, want...)
		}
	}
	told(wire.Online)
	do(t, func(done func(error)) { sess.SetStatus(wire.Away, []byte(`{"mood":"x"}`), done) })
	told(wire.Online, wire.Away)
	do(t, func(done func(error)) { sess.SetStatus(wire.Away, []byte(`{"mood":"y"}`), done) })
	told(wire.Online, wire.Away, wire.Away)
	do(t, func(done func(error)) { sess.SetStatus(wire.Away, []byte(`{"mood":"y"}`), done) })
	moved := b.connect(phone) // a takeover is no change
	sees(t, phone, wire.Away, a, b, follower)
	do(t, func(done func(error)) { moved.Close(false, done) })
	told(wire.Online, wire.Away, wire.Away, wire.Offline)
	testkit.Eventually(t, "services are told", func() bool { return len(s.events(phone)) >= 3 })
	if got := s.events(phone); !slices.Equal(got, []string{"registered", "online", "offline"}) {
		t.Errorf("services are told %q", got)
	}
}

func TestWhatWasStoredBeforeStartIsNotTold(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	a := s.start("a")
	a.connect(phone)
	late := s.start("")
	if late.status(phone) != wire.Online || len(late.heard(phone)) > 0 {
		t.Errorf("status %s, told %q", late.status(phone), late.heard(phone))
	}
}

func TestASessionIsResumedUntilItEnds(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	a, b := s.start("a"), s.start("b")
	first := a.connect(phone)
	if first.Resumed || first.ID == "" {
		t.Fatalf("the first session is %+v", first)
	}
	taken := a.connect(phone)
	do(t, func(done func(error)) { taken.Close(false, done) })
	sees(t, phone, wire.Offline, b)
	back := b.connect(phone)
	for n, again := range []*roster.Session{taken, back} {
		if !again.Resumed || again.ID != first.ID || again.Epoch != first.Epoch+uint64(n)+1 {
			t.Errorf("after %+v came %+v", first, again)
		}
	}
	do(t, func(done func(error)) { back.Close(true, done) })
	sees(t, phone, wire.Offline, a)
	if next := a.connect(phone); next.Resumed || next.ID == first.ID {
		t.Errorf("an ended session was resumed: %+v", next)
	}
}

func TestASessionIsNotResumedAfterItsTimeout(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	s.timeout = time.Nanosecond
	a := s.start("a")
	first := a.connect(phone)
	do(t, func(done func(error)) { first.Close(false, done) })
	if again := a.connect(phone); again.Resumed || again.ID == first.ID {
		t.Errorf("resumed: %+v", again)
	}
	// A takeover is no reconnect.
	if taken := a.connect(phone); !taken.Resumed {
		t.Errorf("not resumed: %+v", taken)
	}
}

func TestATakeoverEndsTheOtherEdgesSession(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	a, b := s.start("a"), s.start("b")
	old := a.connect(phone)
	sees(t, phone, wire.Online, b)
	young := b.connect(phone)
	testkit.Eventually(t, "the loss is told", func() bool { return a.losses() == 1 })
	if old.Current() || !young.Current() || a.lost[0] != old.Epoch {
		t.Errorf("live: old %v, young %v; lost %v", old.Current(), young.Current(), a.lost)
	}
	// What the old one says now changes nothing.
	refused := make(chan error, 1)
	old.SetStatus(wire.Busy, nil, func(err error) { refused <- err })
	if err := <-refused; !errors.Is(err, roster.ErrReplaced) {
		t.Errorf("a lost session's status: %v", err)
	}
	do(t, func(done func(error)) { old.Close(true, done) })
	if d, _ := b.Device(phone); d.Status != wire.Online || d.Session != young.ID {
		t.Errorf("seen as %+v", d)
	}
	if b.losses() > 0 {
		t.Error("the new edge lost it, too")
	}
}

// Racing connections of one device end with one, the one that came last.
func TestOfRacingOpensTheNewestStands(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	a, b := s.start("a"), s.start("b")
	a.Register(phone, roster.Record{})
	const racers = 100
	var mu sync.Mutex
	var live []*roster.Session
	var latest time.Time // no later than when the last of them began
	var wg sync.WaitGroup
	for n := range racers {
		p := []*part{a, b}[n%2]
		wg.Go(func() {
			mu.Lock()
			latest = time.Now()
			mu.Unlock()
			sess, err := p.Open(t.Context(), phone, roster.SessionOptions{})
			switch {
			case err == nil:
				mu.Lock()
				live = append(live, sess)
				mu.Unlock()
			case !errors.Is(err, roster.ErrReplaced):
				t.Errorf("open: %v", err)
			}
		})
	}
	wg.Wait()
	if len(live) == 0 {
		t.Fatal("nobody got the device")
	}
	one := func() bool {
		n := 0
		for _, sess := range live {
			if sess.Current() {
				n++
			}
		}
		return n == 1
	}
	testkit.Eventually(t, "one is live", one)
	var winner *roster.Session
	for _, sess := range live {
		if winner == nil || sess.Epoch > winner.Epoch {
			winner = sess
		}
	}
	stored := s.entry(phone)
	if !winner.Current() || stored["epoch"] != float64(winner.Epoch) || stored["status"] != wire.Online {
		t.Errorf("stored is %v, the highest epoch is %d", stored, winner.Epoch)
	}
	// As a number it went through a float: some hundred nanoseconds are lost.
	if opened := stored["opened"].(float64); opened+1000 < float64(latest.UnixNano()) {
		t.Errorf("an older one stands, by %.0f ns", float64(latest.UnixNano())-opened)
	}
	testkit.Eventually(t, "it is told", func() bool { return len(a.heard(phone)) > 0 })
	if got := a.heard(phone); len(got) != 1 {
		t.Errorf("the race was told as %q", got)
	}
}

// Who began earlier and is slow does not take the device from one that came later.
func TestAnOlderOpenGivesWay(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	a, b := s.start("a"), s.start("b")
	a.Register(phone, roster.Record{})
	testkit.Eventually(t, "it is registered", func() bool { return b.Get(phone) != nil })
	asked, release := a.holdSessions()
	result := make(chan error, 1)
	go func() {
		_, err := a.Open(t.Context(), phone, roster.SessionOptions{})
		result <- err
	}()
	<-asked
	young, err := b.Open(t.Context(), phone, roster.SessionOptions{})
	if err != nil {
		t.Fatal(err)
	}
	release()
	if err := <-result; !errors.Is(err, roster.ErrReplaced) {
		t.Errorf("the older one gets %v", err)
	}
	if !young.Current() || b.losses() > 0 || s.entry(phone)["epoch"] != float64(young.Epoch) {
		t.Errorf("the newer one has lost: %v", s.entry(phone))
	}
}

// A registration whose answer nobody waits for leaves nobody online.
func TestAnAbandonedOpenLeavesNobodyOnline(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	a, follower := s.start("a"), s.start("")
	a.Register(phone, roster.Record{})
	sees(t, phone, wire.Offline, follower)
	// It tells services when it knows itself that the record is stored.
	testkit.Eventually(t, "services are told", func() bool { return len(s.events(phone)) >= 1 })
	a.proxy.Cut()
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if _, err := a.Open(ctx, phone, roster.SessionOptions{}); !errors.Is(err, context.DeadlineExceeded) {
		t.Fatalf("open without a store: %v", err)
	}
	a.proxy.Heal()
	// It is stored when the store is back, and taken back at once.
	testkit.Eventually(t, "it was online", func() bool { return len(s.events(phone)) >= 3 })
	if got := s.events(phone); !slices.Equal(got, []string{"registered", "online", "offline"}) {
		t.Errorf("services are told %q", got)
	}
	sees(t, phone, wire.Offline, a, follower)
	if sess := a.connect(phone); !sess.Current() {
		t.Error("the next one is not live")
	}
	sees(t, phone, wire.Online, follower)
}

// A publisher whose connection was cut sends again what it had no answer for,
// also when it was stored: a compare-and-set then loses to itself.
func TestAWriteThatIsSentAgainDoesNotLoseToItself(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	a, follower := s.start("a"), s.start("")
	a.twice.Store(true)
	var want []string
	var id subjects.SessionID
	var epoch uint64
	for n := range 10 {
		sess := a.connect(phone)
		if n > 0 && (sess.ID != id || sess.Epoch != epoch+1) || sess.Resumed != (n > 0) {
			t.Errorf("round %d: %+v", n, sess)
		}
		id, epoch = sess.ID, sess.Epoch
		first, second := wire.Online, wire.Busy
		if n%2 == 1 { // a resume keeps the status
			first, second = wire.Busy, wire.Online
		}
		follower.wasTold(phone, append(want, first)...)
		do(t, func(done func(error)) { sess.SetStatus(second, nil, done) })
		follower.wasTold(phone, append(want, first, second)...)
		do(t, func(done func(error)) { sess.Close(false, done) })
		want = append(want, first, second, wire.Offline)
		follower.wasTold(phone, want...)
	}
	if a.losses() > 0 {
		t.Error("the edge lost the device to itself")
	}
	testkit.Eventually(t, "services are told", func() bool { return len(s.events(phone)) >= 21 })
	for n, kind := range s.events(phone)[1:] {
		if kind != []string{"online", "offline"}[n%2] {
			t.Errorf("services are told %q", s.events(phone))
			break
		}
	}
}

func TestStopEndsSessionsSoThatTheyCanBeResumed(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	a, b := s.start("a"), s.start("b")
	ids := make(map[subjects.Key]subjects.SessionID)
	for n := range 50 {
		k := subjects.Address{User: "u", Device: subjects.DeviceID(fmt.Sprint(n))}.Key()
		ids[k] = a.connect(k).ID
	}
	if err := a.Stop(t.Context()); err != nil {
		t.Fatal(err)
	}
	for k := range ids {
		if e := s.entry(k); e["status"] != wire.Offline || e["ended"] != nil {
			t.Fatalf("after the stop %s is %v", k, e)
		}
	}
	testkit.Eventually(t, "the lease is gone", func() bool { return len(b.Edges()) == 1 })
	for k, id := range ids {
		sees(t, k, wire.Offline, b)
		if sess := b.connect(k); sess.ID != id {
			t.Fatalf("%s has another session", k)
		}
		break
	}
	if _, err := a.Open(t.Context(), phone, roster.SessionOptions{}); !errors.Is(err, roster.ErrStopped) {
		t.Errorf("open after the stop: %v", err)
	}
}

func TestAFollowerOpensNoSessions(t *testing.T) {
	t.Parallel()
	if _, err := newSite(t).start("").Open(t.Context(), phone, roster.SessionOptions{}); err == nil {
		t.Error("it does")
	}
}

func TestAForgottenDeviceIsGoneAndItsNextSessionIsNew(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	a, follower := s.start("a"), s.start("")
	first := a.connect(phone)
	do(t, func(done func(error)) { first.Close(true, done) })
	sees(t, phone, wire.Offline, follower)
	// Two processes write events; there is an order only between what is stored.
	testkit.Eventually(t, "services are told that it went", func() bool { return len(s.events(phone)) >= 3 })
	do(t, func(done func(error)) { follower.Forget(phone, done) })
	testkit.Eventually(t, "it is unknown", func() bool { return a.status(phone) == "unknown" && follower.status(phone) == "unknown" })
	testkit.Eventually(t, "services are told", func() bool { return len(s.events(phone)) >= 4 })
	if e := s.entry(phone); e != nil || a.Len() != 0 {
		t.Errorf("left is %v, and %d devices", e, a.Len())
	}
	testkit.Eventually(t, "the session's end was read", func() bool { return !a.Online(phone) })
	again := a.connect(phone)
	if again.Resumed || again.ID == first.ID || again.Epoch <= first.Epoch {
		t.Errorf("after %+v came %+v", first, again)
	}
	testkit.Eventually(t, "services are told", func() bool { return len(s.events(phone)) >= 6 })
	want := []string{"registered", "online", "offline", "forgotten", "registered", "online"}
	if got := s.events(phone); !slices.Equal(got, want) {
		t.Errorf("services are told %q", got)
	}
}

// A cursor of an earlier session, which the store still has, is not taken for that of
// a newer one, nor for that of the same.
func TestASessionHasAHigherEpochThanThoseWhoseEntryWasLost(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	a := s.start("a")
	var last uint64
	for range 5 {
		sess := a.connect(phone)
		last = sess.Epoch
		do(t, func(done func(error)) { sess.Close(false, done) })
	}
	stream, err := s.js.Stream(t.Context(), "KV_"+layout.BucketSessions)
	testkit.Check(t, err)
	testkit.Check(t, stream.Purge(t.Context(), jetstream.WithPurgeSubject(layout.SessionSubject(phone))))
	if next := s.start("b").connect(phone); next.Before != 0 || next.Epoch <= last {
		t.Errorf("after session %d came %+v", last, next)
	}
}

// A device that is connected believes that it is registered.
func TestAForgottenDeviceThatIsConnectedComesBack(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	a, follower := s.start("a"), s.start("")
	sess := a.connect(phone)
	sees(t, phone, wire.Online, follower)
	do(t, func(done func(error)) { follower.Forget(phone, done) })
	testkit.Eventually(t, "it is registered again", func() bool {
		return slices.Equal(slices.DeleteFunc(s.events(phone), func(kind string) bool { return kind != "registered" }), []string{"registered", "registered"})
	})
	sees(t, phone, wire.Online, a, follower)
	testkit.Eventually(t, "its session is there again", func() bool { return s.entry(phone)["status"] == wire.Online })
	if !sess.Current() || a.losses() > 0 {
		t.Error("the session was lost")
	}
}

// Another process has to know who was active last.
func TestActivityOfOneOfSeveralIsReported(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	a, follower := s.start("a"), s.start("")
	one, two := a.connect(phone), a.connect(tablet)
	lone := a.connect(other)
	sees(t, tablet, wire.Online, follower)
	at := time.Now().Add(time.Minute)
	one.Touch(at.UnixNano())
	lone.Touch(at.UnixNano())
	a.ReportActivity()
	active := func(k subjects.Key) int64 { d, _ := follower.Device(k); return d.Active }
	testkit.Eventually(t, "it is reported", func() bool { return active(phone) == at.UnixNano() })
	if d, _ := a.Device(phone); d.Active != at.UnixNano() {
		t.Errorf("here it was active at %d", d.Active)
	}
	if active(tablet) >= at.UnixNano() {
		t.Error("the other one is said to be active")
	}
	two.Touch(at.Add(time.Second).UnixNano())
	a.ReportActivity()
	testkit.Eventually(t, "it is reported", func() bool { return active(tablet) > active(phone) })
	two.Touch(at.Add(2 * time.Second).UnixNano())
	a.ReportActivity() // tells nobody anything new: the other one is still the latter
	one.Touch(at.Add(3 * time.Second).UnixNano())
	a.ReportActivity()
	testkit.Eventually(t, "it is reported", func() bool { return active(phone) == at.Add(3*time.Second).UnixNano() })
	if active(tablet) != at.Add(time.Second).UnixNano() {
		t.Error("what decides nothing was stored")
	}
	if active(other) == at.UnixNano() {
		t.Error("a user's only device is written for nothing")
	}
	follower.wasTold(phone, wire.Online) // and nobody is bothered with it
}
