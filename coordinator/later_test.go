package coordinator_test

import (
	"encoding/json"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/rccs-io/rccs/internal/layout"
	"github.com/rccs-io/rccs/internal/natstest"
	"github.com/rccs-io/rccs/internal/testkit"
	"github.com/rccs-io/rccs/subjects"
)

// Of messages that a service delays on one subject the last one counts, as with all
// schedules of NATS. The senders of the others are told, also if they come at once.
func TestADelayedMessageThatAnotherOnItsSubjectReplacesIsTold(t *testing.T) {
	t.Parallel()
	p, e := placeWithEdge(t)
	k := p.register(e, "alice/desk", "desktop")
	p.coordinate()
	const n = 20
	message := func(id string, at time.Time) *nats.Msg { return laterForDesk(k, id, at) }
	var want []string
	var answers []jetstream.PubAckFuture
	for i := range n {
		id := fmt.Sprintf("m%02d", i)
		answer, err := p.js.PublishMsgAsync(message(id, time.Now().Add(time.Hour)))
		testkit.Check(t, err)
		answers, want = append(answers, answer), append(want, id)
	}
	for _, answer := range answers {
		select {
		case <-answer.Ok():
		case err := <-answer.Err():
			t.Fatal(err)
		}
	}
	again, err := p.js.PublishMsg(p.ctx(), message("m00", time.Now().Add(time.Hour)))
	if err != nil || !again.Duplicate {
		t.Errorf("a repeat: %+v, %v", again, err)
	}
	last, err := p.js.PublishMsg(p.ctx(), message("last", time.Now()))
	if err != nil || last.Duplicate {
		t.Fatalf("the last one: %+v, %v", last, err)
	}
	told := func() []string { return p.toldOf(k, "replaced") }
	p.eventually("each of the others is told", func() bool { return len(told()) >= n })
	p.eventually("the last one comes", func() bool { return len(p.lane("alice/desk", subjects.Normal)) == 1 })
	if got := told(); !slices.Equal(got, want) {
		t.Errorf("told of %q, want %q", got, want)
	}
	if got := p.lane("alice/desk", subjects.Normal); !slices.Equal(got, []string{`"last"`}) {
		t.Errorf("the device gets %q", got)
	}
}

// A service cancels as with any stream of NATS, by a purge. Whoever delayed a message and
// asked for its outcome hears of it, and nothing is removed that the purge spares.
func TestWhoDelayedAMessageHearsThatAServicePurgedIt(t *testing.T) {
	t.Parallel()
	p, e := placeWithEdge(t)
	k := p.register(e, "alice/desk", "desktop")
	p.coordinate()
	delay := func(user, name, ack string) (seq uint64) {
		m := laterForDesk(k, name, time.Now().Add(time.Hour))
		m.Subject = layout.GuardedAPI(layout.GuardedLater + "." + user + ".desk.normal." + name)
		m.Header["Nats-Schedule-Target"] = []string{"rccs.due." + user + ".desk.normal"}
		m.Header[subjects.HeaderAck] = []string{ack}
		stored, err := p.js.PublishMsg(p.ctx(), m)
		testkit.Check(t, err)
		return stored.Sequence
	}
	delay("alice", "a", "true")
	delay("alice", "silent", "false")
	last := delay("alice", "b", "true")
	delay("bob", "c", "true")
	purge := func(want uint64, told []string, request string, values ...any) {
		t.Helper()
		answer, err := p.nc.Request(layout.GuardedAPI("STREAM.PURGE."+subjects.StreamLater), fmt.Appendf(nil, request, values...), testkit.Patience)
		testkit.Check(t, err)
		var got struct {
			Type    string
			Success bool
			Purged  uint64
		}
		if err := json.Unmarshal(answer.Data, &got); err != nil || got.Type != "io.nats.jetstream.api.v1.stream_purge_response" || !got.Success || got.Purged != want {
			t.Errorf("%s is answered with %s, %v; want %d purged", fmt.Sprintf(request, values...), answer.Data, err, want)
		}
		if got := p.toldOf(k, "expired"); !slices.Equal(got, told) {
			t.Errorf("after %s services were told of %q, want %q", fmt.Sprintf(request, values...), got, told)
		}
	}
	purge(0, nil, `{"filter": "rccs.later.alice.desk"}`)
	purge(0, nil, `{"filter": "rccs.later.alice.desk.normal.b", "seq": %d}`, last)
	purge(2, []string{"a"}, `{"filter": "rccs.later.alice.>", "keep": 1}`)
	purge(1, []string{"a", "b"}, `{"filter": "rccs.later.alice.*.*.*", "seq": 1}`) // 1 is no bound to JetStream
	if left := p.stored(subjects.StreamLater, ">"); len(left) != 1 || string(left[0].Data) != `"c"` {
		t.Errorf("%+v is left", left)
	}
}

// The sender of the one that is replaced is also told if the coordinator is killed when
// it has stored the other one, and has told nobody yet.
func TestADelayedMessageThatWasReplacedIsToldThoughTheCoordinatorIsKilled(t *testing.T) {
	t.Parallel()
	p, e := placeWithEdge(t)
	k := p.register(e, "alice/desk", "desktop")
	_, crash := p.fragile()
	_, err := p.js.PublishMsg(p.ctx(), laterForDesk(k, "first", time.Now().Add(time.Hour)))
	testkit.Check(t, err)
	testkit.Check(t, p.js.DeleteStream(p.ctx(), subjects.StreamEvent)) // nobody can be told
	testkit.Check(t, p.nc.PublishMsg(laterForDesk(k, "second", time.Now().Add(time.Hour))))
	waits := func() string {
		all := p.stored(subjects.StreamLater, subjects.Later(k, subjects.Normal, "x"))
		return string(all[len(all)-1].Data)
	}
	p.eventually("the second one is stored", func() bool { return waits() == `"second"` })
	crash()
	natstest.StreamsOn(t, p.nc, 1)
	if told := p.toldOf(k, "replaced"); len(told) > 0 {
		t.Fatalf("told of %q before the kill", told)
	}
	p.coordinate()
	p.eventually("it is told", func() bool { return slices.Equal(p.toldOf(k, "replaced"), []string{"first"}) })
	p.eventually("nothing but the second one is left", func() bool { return len(p.stored(subjects.StreamLater, ">")) == 1 })
	if waits() != `"second"` {
		t.Errorf("%s waits", waits())
	}
}

// laterForDesk is what a service publishes to be delivered to alice's desk, always on
// the same subject.
func laterForDesk(k subjects.Key, id string, at time.Time) *nats.Msg {
	return &nats.Msg{Subject: layout.GuardedAPI(layout.GuardedLater + ".alice.desk.normal.x"), Data: []byte(`"` + id + `"`), Header: nats.Header{
		"Nats-Schedule": {"@at " + at.UTC().Format(time.RFC3339)}, "Nats-Schedule-Target": {layout.Due(k, subjects.Normal)},
		subjects.HeaderAck: {"true"}, subjects.HeaderID: {id}, jetstream.MsgIDHeader: {id},
	}}
}

// toldOf returns the ids of the messages to a device of whose end services were told,
// in order.
func (p *place) toldOf(k subjects.Key, end string) (ids []string) {
	p.t.Helper()
	for _, m := range p.stored(subjects.StreamEvent, subjects.Event(k, end)) {
		var body struct{ ID string }
		testkit.Check(p.t, json.Unmarshal(m.Data, &body))
		ids = append(ids, body.ID)
	}
	slices.Sort(ids)
	return ids
}
