package coordinator_test

import (
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/rccs-io/rccs/internal/direct"
	"github.com/rccs-io/rccs/internal/inbox"
	"github.com/rccs-io/rccs/internal/layout"
	"github.com/rccs-io/rccs/internal/proof"
	"github.com/rccs-io/rccs/internal/reader"
	"github.com/rccs-io/rccs/subjects"
	"github.com/rccs-io/rccs/wire"
)

// A message that comes due while it is cancelled has one end. It is delivered, and
// its sender does not hear that it has expired; or it never comes, and the sender
// hears so, though whoever cancelled it has ended before telling.
func TestAMessageThatComesDueWhileItIsCancelledHasOneEnd(t *testing.T) {
	t.Parallel()
	p := newPlace(t)
	c, _ := p.coordinate()
	fetch := direct.New(p.env.Conn(t))
	if err := fetch.Start(); err != nil {
		t.Fatal(err)
	}
	defer fetch.Stop()
	k, key := address("alice/phone").Key(), p.proof()
	delay := func(id string, in time.Duration) *inbox.Waiting {
		return p.delay(k, subjects.Normal, id, in, subjects.HeaderID, id, subjects.HeaderAck, "true")
	}
	expired := func() int { return len(p.stored(subjects.StreamEvent, "rccs.event.alice.phone.expired")) }
	left := func() int { return len(p.stored(subjects.StreamLater, "rccs.later.>")) }

	came := delay("came", 0)
	p.eventually("it arrives", func() bool { return len(p.lane("alice/phone", subjects.Normal)) == 1 })
	if mark, _, err := came.Cancel(p.ctx(), p.js, fetch, key); err != nil || mark != 0 {
		t.Errorf("what has come due is cancelled: %d, %v", mark, err)
	}
	// The mark was stored while the message was on its way.
	seq := strconv.FormatUint(came.Seq, 10)
	mark := p.publish(came.Subject, "", subjects.HeaderID, "came", subjects.HeaderAck, "true",
		layout.HeaderCancelled, seq+" "+key.Tag(proof.Cancelled, came.Subject, seq))
	c.Settle(came, mark)
	if expired() != 0 || left() != 0 {
		t.Errorf("%d were told expired, %d are left", expired(), left())
	}

	never := delay("never", time.Hour)
	mark, certain, err := never.Cancel(p.ctx(), p.js, fetch, key)
	if err != nil || mark == 0 || !certain {
		t.Errorf("not cancelled: %d, %t, %v", mark, certain, err)
	}
	c.Settle(never, mark)
	if expired() != 1 || left() != 0 {
		t.Errorf("%d were told expired, %d are left", expired(), left())
	}

	// A schedule that is late may be on its way already, or have come.
	late := delay("late", -time.Hour)
	mark, certain, err = late.Cancel(p.ctx(), p.js, fetch, key)
	if err != nil || certain {
		t.Errorf("nobody can know that it does not come: %d, %t, %v", mark, certain, err)
	}
	p.nothingIsOnItsWay(k)
	if mark != 0 {
		c.Settle(late, mark)
	}
	if told, arrived := expired()-1, len(p.lane("alice/phone", subjects.Normal))-1; told+arrived != 1 {
		t.Errorf("told %d times, arrived %d times", told, arrived)
	}
	if events := p.undeliverables(); len(events) > 0 {
		t.Errorf("a mark is taken for a message that never comes: %v", events)
	}
}

// The same holds when a device cancels what it has sent. It is told that a message is
// cancelled only if that never comes.
func TestADevicesOwnCancelThatRacesTheDueTimeHasOneEnd(t *testing.T) {
	t.Parallel()
	p := newPlace(t)
	c, _ := p.coordinate()
	k := address("alice/phone").Key()
	fetch := direct.New(p.env.Conn(t))
	if err := fetch.Start(); err != nil {
		t.Fatal(err)
	}
	defer fetch.Stop()
	p.pub.Proof = p.proof()
	cursors, err := inbox.NewCursors(fetch, p.pub)
	if err != nil {
		t.Fatal(err)
	}
	const count = 400
	due := time.Now().Add(300 * time.Millisecond).UTC().Format(time.RFC3339Nano) // of all: the server stores one after the other
	names := make([]string, count)
	for i := range count {
		id := strconv.Itoa(i)
		names[i] = subjects.Later(k, subjects.Normal, "desk/"+id)
		p.publish(names[i], strconv.Quote(id), subjects.HeaderID, id, subjects.HeaderAck, "true", subjects.HeaderFrom, "desk",
			layout.HeaderProof, p.pub.Proof.Tag(proof.Sender, "alice", "desk", id),
			"Nats-Schedule", "@at "+due, "Nats-Schedule-Target", layout.Due(k, subjects.Normal))
	}
	cancelled := make(map[string]bool)
	for i := count - 1; i >= 0; i-- {
		n, err := cursors.Withdraw(p.ctx(), names[i:i+1])
		if err != nil {
			t.Fatal(err)
		}
		cancelled[strconv.Itoa(i)] = n == 1
	}
	p.nothingIsOnItsWay(k)
	for _, m := range p.stored(subjects.StreamLater, "rccs.later.>") { // those that may have been on their way
		e := reader.Entry{Subject: m.Subject, Seq: m.Sequence, Header: m.Header}
		if w, ok := inbox.CancelledBy(p.proof(), &e); ok {
			c.Settle(w, m.Sequence)
		}
	}
	p.eventually("no mark is left", func() bool { return len(p.stored(subjects.StreamLater, "rccs.later.>")) == 0 })
	ends := make(map[string]int)
	p.eventually("each has an end", func() bool {
		clear(ends)
		for id, is := range cancelled {
			if is {
				ends[id]++
			}
		}
		for _, body := range p.lane("alice/phone", subjects.Normal) {
			ends[strings.Trim(body, `"`)]++
		}
		for _, body := range p.inbox("alice/desk") {
			a, err := wire.DecodeAnswer([]byte(body))
			if err != nil {
				t.Fatal(err)
			}
			ends[a.Outcome().OriginalID]++
		}
		return len(ends) == count
	})
	for id, n := range ends {
		if n != 1 {
			t.Errorf("message %s has %d ends; cancelled: %t", id, n, cancelled[id])
		}
	}
}

// delay stores a message that is due in some time.
func (p *place) delay(k subjects.Key, lane subjects.Lane, id string, in time.Duration, headers ...string) *inbox.Waiting {
	p.t.Helper()
	headers = append(headers,
		"Nats-Schedule", "@at "+time.Now().Add(in).UTC().Format(time.RFC3339Nano), "Nats-Schedule-Target", layout.Due(k, lane))
	w := &inbox.Waiting{Stream: subjects.StreamLater, Subject: subjects.Later(k, lane, id), Header: nats.Header{}}
	for i := 0; i < len(headers); i += 2 {
		w.Header[headers[i]] = headers[i+1 : i+2]
	}
	w.Seq = p.publish(w.Subject, "1", headers...)
	return w
}

// nothingIsOnItsWay waits until what had come due is in the inbox, and no mark comes
// too late for anything: the server stores what is due in turn. It uses the low lane.
func (p *place) nothingIsOnItsWay(k subjects.Key) {
	p.t.Helper()
	p.delay(k, subjects.Low, "behind", 0)
	a, _ := k.Address()
	p.eventually("what has come due is in the inbox", func() bool { return len(p.lane(a.String(), subjects.Low)) > 0 })
}
