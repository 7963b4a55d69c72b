package roster_test

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/rccs-io/rccs/internal/layout"
	"github.com/rccs-io/rccs/internal/testkit"
	"github.com/rccs-io/rccs/subjects"
	"github.com/rccs-io/rccs/wire"
)

func TestADeadEdgesSessionsEndWithItsLease(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	s.lease = 5 * time.Second // a busy machine may stall for a part of it
	a, b, follower := s.start("a"), s.start("b"), s.start("")
	first := a.connect(phone)
	sees(t, phone, wire.Online, b, follower)
	b.connect(tablet)
	// An event that was not stored yet dies with its edge.
	testkit.Eventually(t, "services are told that it came", func() bool { return len(s.events(phone)) >= 2 })
	a.kill()
	select {
	case <-follower.died:
	case <-time.After(testkit.Patience):
		t.Fatal("the death was not noticed")
	}
	var wg sync.WaitGroup
	for _, p := range []*part{b, follower, b, follower} { // any number at once
		wg.Go(func() {
			if err := p.Sweep(t.Context()); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	for _, p := range []*part{b, follower} {
		p.wasTold(phone, wire.Online, wire.Offline)
		p.wasTold(tablet, wire.Online)
	}
	testkit.Eventually(t, "services are told", func() bool { return len(s.events(phone)) >= 3 })
	if got := s.events(phone); !slices.Equal(got, []string{"registered", "online", "offline"}) {
		t.Errorf("services are told %q", got)
	}
	if edges := follower.Edges(); len(edges) != 1 || edges[0].Name != "b" {
		t.Errorf("alive are %+v", edges)
	}
	if sess := b.connect(phone); !sess.Resumed || sess.ID != first.ID {
		t.Errorf("not resumed elsewhere: %+v", sess)
	}
}

// After a crash and a restart presence is true at once, not after the lease.
func TestARestartedEdgeEndsWhatItsPredecessorLeft(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	first, follower := s.start("a"), s.start("")
	b := s.start("b")
	first.connect(phone)
	b.connect(tablet)
	sees(t, phone, wire.Online, follower)
	first.kill()
	second := s.start("a")
	if got := second.status(phone); got != wire.Offline {
		t.Errorf("after the start it is %s", got)
	}
	if got := second.status(tablet); got != wire.Online {
		t.Errorf("the other edge's device is %s", got)
	}
	follower.wasTold(phone, wire.Online, wire.Offline)
	follower.wasTold(tablet, wire.Online)
	testkit.Eventually(t, "the leases are true", func() bool { return len(follower.Edges()) == 2 })
}

// All may be gone, leases too, when an installation was down for long.
func TestSessionsOfEdgesWithoutALeaseAreEnded(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	first := s.start("a")
	first.connect(phone)
	first.kill()
	s.dropLease(first)
	second := s.start("b")
	if got := second.status(phone); got != wire.Offline {
		t.Errorf("after the start it is %s", got)
	}
}

func (s *site) dropLease(p *part) {
	s.t.Helper()
	kv, err := s.js.KeyValue(s.t.Context(), layout.BucketEdges)
	if err != nil {
		s.t.Fatal(err)
	}
	for _, e := range p.Edges() {
		if err := kv.Delete(s.t.Context(), e.ID); err != nil {
			s.t.Fatal(err)
		}
	}
}

// An edge that lives writes again what was ended by mistake, and nobody sweeps
// it a second time.
func TestAnEdgeTakenForDeadTakesItsSessionsBack(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	a, follower := s.start("a"), s.start("")
	sess := a.connect(phone)
	do(t, func(done func(error)) { sess.SetStatus(wire.Busy, nil, done) })
	sees(t, phone, wire.Busy, follower)
	for range 3 {
		s.dropLease(follower)
		select {
		case <-follower.died:
		case <-time.After(testkit.Patience):
			t.Fatal("the loss of the lease was not noticed")
		}
		if err := follower.Sweep(t.Context()); err != nil {
			t.Fatal(err)
		}
		sees(t, phone, wire.Busy, follower, a)
		if err := follower.Sweep(t.Context()); err != nil {
			t.Fatal(err)
		}
		testkit.Eventually(t, "the lease is back", func() bool { return len(follower.Edges()) == 1 })
	}
	sees(t, phone, wire.Busy, follower, a)
	if !sess.Current() || a.losses() > 0 || s.entry(phone)["epoch"] != float64(sess.Epoch) {
		t.Errorf("the session is not what it was: %v", s.entry(phone))
	}
}

// Somebody else gives a device messages while its edge is taken for dead, which then
// comes back.
func TestAnEdgeTakenForDeadDoesNotTakeBackASessionThatWasSuperseded(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	a, follower := s.start("a"), s.start("")
	sess, kept := a.connect(phone), a.connect(tablet)
	sees(t, phone, wire.Online, follower)
	sees(t, tablet, wire.Online, follower)
	if epoch, err := follower.Supersede(t.Context(), phone); err != nil || epoch != sess.Epoch {
		t.Errorf("superseded while it is connected: %d, %v", epoch, err)
	}
	a.proxy.Cut()
	s.dropLease(follower)
	select {
	case <-follower.died:
	case <-time.After(testkit.Patience):
		t.Fatal("the loss of the lease was not noticed")
	}
	testkit.Check(t, follower.Sweep(t.Context()))
	for range 2 { // once is enough
		epoch, err := follower.Supersede(t.Context(), phone)
		if err != nil || epoch != sess.Epoch+1 {
			t.Errorf("superseded: %d, %v", epoch, err)
		}
	}
	a.proxy.Heal()
	testkit.Eventually(t, "the loss is told", func() bool { return a.losses() == 1 })
	sees(t, tablet, wire.Online, a, follower)
	if sess.Current() || !kept.Current() || follower.status(phone) != wire.Offline {
		t.Errorf("live: superseded %v, kept %v", sess.Current(), kept.Current())
	}
	if next := a.connect(phone); next.Epoch != sess.Epoch+2 || !next.Resumed {
		t.Errorf("after %+v came %+v", sess, next)
	}
}

func TestACutOffEdgeFindsOutWhatItLost(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	s.lease = 5 * time.Second
	a, b := s.start("a"), s.start("b")
	moved, stayed := a.connect(phone), a.connect(tablet)
	sees(t, phone, wire.Online, b)
	sees(t, tablet, wire.Online, b)
	a.proxy.Cut()
	select {
	case <-b.died:
	case <-time.After(testkit.Patience):
		t.Fatal("the death was not noticed")
	}
	if err := b.Sweep(t.Context()); err != nil {
		t.Fatal(err)
	}
	young := b.connect(phone)
	a.proxy.Heal()
	testkit.Eventually(t, "the loss is told", func() bool { return a.losses() == 1 })
	sees(t, tablet, wire.Online, a, b)
	if moved.Current() || !young.Current() || !stayed.Current() {
		t.Errorf("live: moved %v, young %v, stayed %v", moved.Current(), young.Current(), stayed.Current())
	}
	b.wasTold(phone, wire.Online, wire.Offline, wire.Online)
	b.wasTold(tablet, wire.Online, wire.Offline, wire.Online)
}

// Who was cut off itself has no right to call others dead.
func TestAProcessThatWasCutOffTakesNobodyForDead(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	s.lease = 4 * time.Second
	a, follower := s.start("a"), s.start("")
	a.connect(phone)
	sees(t, phone, wire.Online, follower)
	for range 2 {
		follower.proxy.Cut()
		// Longer than a lease, by the store's own clock.
		from := time.Now()
		testkit.Eventually(t, "a lease has passed", func() bool { return time.Since(from) > 2*s.lease })
		follower.proxy.Heal()
		testkit.Eventually(t, "it hears again", func() bool { return follower.Healthy(100*time.Millisecond) == nil })
	}
	from := time.Now()
	testkit.Eventually(t, "a lease has passed", func() bool { return time.Since(from) > 2*s.lease })
	select {
	case <-follower.died:
		t.Error("the edge was taken for dead")
	default:
	}
}

func TestASweepThatCannotBeStoredSaysSo(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	a, follower := s.start("a"), s.start("")
	a.connect(phone)
	sees(t, phone, wire.Online, follower)
	a.kill()
	s.dropLease(follower)
	<-follower.died
	follower.proxy.Cut()
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if err := follower.Sweep(ctx); err == nil {
		t.Error("no error without a store")
	}
	follower.proxy.Heal()
	if err := follower.Sweep(t.Context()); err != nil {
		t.Fatal(err)
	}
	testkit.Eventually(t, "it is offline", offline(phone, follower))
}

func TestManySessionsOfADeadEdgeAreSweptTogether(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	a, follower := s.start("a"), s.start("")
	var keys []subjects.Key
	for n := range 300 {
		keys = append(keys, subjects.Address{User: subjects.UserID(fmt.Sprint("u", n/3)), Device: subjects.DeviceID(fmt.Sprint(n))}.Key())
		a.connect(keys[n])
	}
	sees(t, keys[len(keys)-1], wire.Online, follower)
	a.kill()
	s.dropLease(follower)
	<-follower.died
	if err := follower.Sweep(t.Context()); err != nil {
		t.Fatal(err)
	}
	for _, k := range keys {
		if got := follower.status(k); got != wire.Offline {
			t.Fatalf("%s is %s", k, got)
		}
	}
}

// An edge that cannot serve says so in its lease, when that begins and when it
// ends, and does not wait until it renews it.
func TestLeaseSaysWhyTheEdgeCannotServe(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	s.lease = 10 * time.Second
	var why atomic.Value
	why.Store("")
	s.unready = func() string { return why.Load().(string) }
	s.start("a")
	follower := s.start("")
	for _, want := range []string{"", "no way to the store", ""} {
		why.Store(want)
		began := time.Now()
		testkit.Eventually(t, "the lease says it", func() bool {
			edges := follower.Edges()
			return len(edges) == 1 && edges[0].Unready == want
		})
		t.Logf("%q was seen after %v", want, time.Since(began))
	}
}

// An edge that was away for the length of its lease does not take what it has for new:
// a coordinator may have given it to the device meanwhile.
func TestAnEdgeThatWasAwayForItsLeaseDoubts(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	s.lease = time.Second
	a := s.start("a")
	testkit.Eventually(t, "its lease is renewed", func() bool { return !a.Doubtful() })
	a.proxy.Freeze()
	testkit.Eventually(t, "its lease may have ended", a.Doubtful)
	a.proxy.Heal()
	testkit.Eventually(t, "it has its lease again", func() bool { return !a.Doubtful() })
}
