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
	message := func(id string, at time.Time) *nats.Msg {
		return &nats.Msg{Subject: layout.GuardedAPI(layout.GuardedLater + ".alice.desk.normal.x"), Data: []byte(`"` + id + `"`), Header: nats.Header{
			"Nats-Schedule": {"@at " + at.UTC().Format(time.RFC3339)}, "Nats-Schedule-Target": {layout.Due(k, subjects.Normal)},
			subjects.HeaderAck: {"true"}, subjects.HeaderID: {id}, jetstream.MsgIDHeader: {id},
		}}
	}
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
	told := func() (ids []string) {
		for _, m := range p.stored(subjects.StreamEvent, subjects.Event(k, "replaced")) {
			var body struct{ ID string }
			testkit.Check(t, json.Unmarshal(m.Data, &body))
			ids = append(ids, body.ID)
		}
		slices.Sort(ids)
		return ids
	}
	p.eventually("each of the others is told", func() bool { return len(told()) >= n })
	p.eventually("the last one comes", func() bool { return len(p.lane("alice/desk", subjects.Normal)) == 1 })
	if got := told(); !slices.Equal(got, want) {
		t.Errorf("told of %q, want %q", got, want)
	}
	if got := p.lane("alice/desk", subjects.Normal); !slices.Equal(got, []string{`"last"`}) {
		t.Errorf("the device gets %q", got)
	}
}
