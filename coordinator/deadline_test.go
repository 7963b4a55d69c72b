package coordinator_test

import (
	"encoding/json"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/rccs-io/rccs/internal/inbox"
	"github.com/rccs-io/rccs/internal/layout"
	"github.com/rccs-io/rccs/subjects"
	"github.com/rccs-io/rccs/wire"
)

// deadline stores a message with a time to live for a device, and its
// deadline, as an edge does.
func (p *place) deadline(to subjects.Key, id string, in time.Duration) uint64 {
	p.t.Helper()
	at := time.Now().Add(in)
	seq := p.lives(to, id, in)
	p.ends(to, id, seq, at)
	return seq
}

// lives stores a message with a time to live for a device.
func (p *place) lives(to subjects.Key, id string, ttl time.Duration) uint64 {
	p.t.Helper()
	return p.publish(subjects.Inbox(to, subjects.High), `"`+id+`"`, "Rccs-Id", id, "Rccs-Ack", "true", "Rccs-From", "sender", "Rccs-Proof", p.sentBy("sender", id),
		"Rccs-Ttl-Ms", fmt.Sprint(ttl.Milliseconds()))
}

// ends stores a message's deadline.
func (p *place) ends(to subjects.Key, id string, seq uint64, at time.Time) {
	p.t.Helper()
	body, err := json.Marshal(&inbox.Deadline{Seq: seq, Lane: "high", At: at, ID: id, From: "sender"})
	if err != nil {
		p.t.Fatal(err)
	}
	p.publish(layout.Deadline(to), string(body), "Nats-Msg-Id", fmt.Sprintf("deadline/%d", seq))
}

// outcomes are what alice's sender was told, as "id status".
func (p *place) outcomes() []string {
	p.t.Helper()
	var told []string
	for _, body := range p.lane("alice/sender", subjects.High) {
		a, err := wire.DecodeAnswer([]byte(body))
		if err != nil {
			p.t.Fatal(err)
		}
		o := a.Outcome()
		told = append(told, o.OriginalID+" "+string(o.Status))
	}
	return told
}

// deadlinesLeft is how many deadlines are stored.
func (p *place) deadlinesLeft() int {
	p.t.Helper()
	return len(p.stored(layout.StreamDeadline, layout.AllDeadlines()))
}

func TestExpiredIsToldAtTheDeadlineOfADeviceThatIsAway(t *testing.T) {
	t.Parallel()
	p := newPlace(t)
	p.coordinateTwice()
	k := address("alice/phone").Key()
	p.deadline(k, "late", time.Hour)
	begin := time.Now()
	p.deadline(k, "soon", 200*time.Millisecond)
	p.eventually("the sender is told", func() bool { return len(p.outcomes()) > 0 })
	if told := p.outcomes(); len(told) != 1 || told[0] != "soon expired" {
		t.Errorf("told %v", told)
	}
	if took := time.Since(begin); took < 200*time.Millisecond {
		t.Errorf("told after %v", took)
	}
	p.eventually("the deadline is gone", func() bool { return p.deadlinesLeft() == 1 })
}

func TestNothingIsToldAtTheDeadlineOfWhatIsAcknowledged(t *testing.T) {
	t.Parallel()
	p, d := placeWithDevice(t)
	seq := p.lives(d.key, "done", time.Hour)
	d.fetch(nil)
	d.ack(map[string]any{"seq": seq})
	p.ends(d.key, "done", seq, time.Now())
	if told := p.outcomes(); len(told) != 1 || told[0] != "done delivered" {
		t.Fatalf("told %v", told)
	}
	p.eventually("the deadline is over", func() bool { return p.deadlinesLeft() == 0 })
	if told := p.outcomes(); len(told) != 1 {
		t.Errorf("told %v", told)
	}
}

func TestADeadlineIsKeptAcrossARestart(t *testing.T) {
	t.Parallel()
	p := newPlace(t)
	_, stop := p.coordinate()
	k := address("alice/phone").Key()
	p.deadline(k, "before", 600*time.Millisecond)
	p.publish(layout.Deadline(k), "no JSON")
	stop()
	p.env.Restart()
	p.deadline(k, "between", 10*time.Millisecond)
	p.coordinate()
	p.eventually("both are told", func() bool { return len(p.outcomes()) == 2 })
	p.eventually("no deadline is left", func() bool { return p.deadlinesLeft() == 0 })
}

// A device that is online may still acknowledge what it was sent in time.
func TestADeadlineWaitsForADeviceThatHasTheMessage(t *testing.T) {
	t.Parallel()
	p, e := placeWithEdge(t)
	p.coordinate()
	d := p.device("alice/phone")
	seq := p.lives(d.key, "here", time.Hour)
	d.fetch(nil)
	s := p.connect(e, d.name, "mobile")
	p.ends(d.key, "here", seq, time.Now())
	other := p.deadline(address("alice/other").Key(), "other", time.Millisecond)
	p.eventually("later deadlines are decided", func() bool {
		return slices.Contains(p.outcomes(), "other expired")
	})
	if told := p.outcomes(); len(told) != 1 || p.deadlinesLeft() == 0 {
		t.Errorf("told %v while the device has message %d (and %d)", told, seq, other)
	}
	s.Close(false, nil)
	p.eventually("it is told when the device has gone", func() bool { return len(p.outcomes()) == 2 })
}

// A copy that lags does not have the deadline yet. That does not say that another
// coordinator has decided it.
func TestADeadlineIsDecidedThoughACopyLacksIt(t *testing.T) {
	t.Parallel()
	p := newPlace(t)
	p.coordinate()
	defer p.env.Lag(layout.StreamDeadline)()
	p.deadline(address("alice/phone").Key(), "soon", time.Millisecond)
	p.eventually("the sender is told", func() bool { return len(p.outcomes()) == 1 })
}
