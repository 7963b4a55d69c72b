package coordinator_test

import (
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/rccs-io/rccs/internal/layout"
	"github.com/rccs-io/rccs/subjects"
)

// What was due and has arrived is removed; what is still to come stays, and so
// does what was due a moment ago.
func TestWhatWasDueIsRemovedOnceItHasArrived(t *testing.T) {
	t.Parallel()
	p := newPlace(t)
	c, _ := p.coordinate()
	k := address("alice/phone").Key()
	at := func(id string, when time.Time) {
		p.publish(subjects.Later(k, subjects.Normal, id), "1",
			"Nats-Schedule", "@at "+when.UTC().Format(time.RFC3339Nano), "Nats-Schedule-Target", layout.Due(k, subjects.Normal))
	}
	at("now", time.Now())
	at("tomorrow", time.Now().Add(24*time.Hour))
	left := func(pattern string) (n uint64) {
		t.Helper()
		stream, err := p.js.Stream(p.ctx(), subjects.StreamLater)
		if err != nil {
			t.Fatal(err)
		}
		info, err := stream.Info(p.ctx(), jetstream.WithSubjectFilter(pattern))
		if err != nil {
			t.Fatal(err)
		}
		for _, count := range info.State.Subjects {
			n += count
		}
		return n
	}
	deadline := time.Now().Add(patience)
	arrived := func() uint64 {
		stream, err := p.js.Stream(p.ctx(), layout.StreamInbox)
		if err != nil {
			t.Fatal(err)
		}
		return stream.CachedInfo().State.Msgs
	}
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for arrived() == 0 {
		if <-tick.C; time.Now().After(deadline) {
			t.Fatal("it never arrived")
		}
	}
	due, _ := layout.DueToInbox()
	if err := c.TidyDue(p.ctx(), time.Hour); err != nil || left(due) != 1 {
		t.Errorf("%v; %d left of what was due just now", err, left(due))
	}
	if err := c.TidyDue(p.ctx(), 0); err != nil || left(due) != 0 || left("rccs.later.>") != 1 {
		t.Errorf("%v; %d left of what was due, %d of what will be", err, left(due), left("rccs.later.>"))
	}
	if arrived() != 1 {
		t.Errorf("%d in the inbox", arrived())
	}
}
