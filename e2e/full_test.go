package e2e_test

import (
	"encoding/json"
	"testing"

	"github.com/nats-io/nats.go/jetstream"
)

func TestProtocol_5_AFullInboxIsToldAndTakesMoreWhenRead(t *testing.T) {
	t.Parallel()
	const limit = 20
	s := start(t, "--inbox-limit", "20")
	u := user(t)
	s.register(t, u+"/away")
	a, other := connect(t, s, u+"/a", object{"type": "mobile"}), connect(t, s, u+"/other", nil)
	for i := range limit {
		a.give("away", i, object{"priority": i % 4})
	}
	refused := func() {
		t.Helper()
		a.send(object{"id": newID(), "type": "note", "toDeviceId": "away", "payload": "no"})
		if f := a.wantError("QUEUE_FULL"); f.RetryAfterMs == 0 {
			t.Error("it is not said when to try again")
		}
	}
	refused()
	a.send(object{"id": "all", "type": "user_message", "payload": "all or none"})
	if f := a.wantError("QUEUE_FULL"); f.OriginalMessageID != "all" {
		t.Errorf("about %q", f.OriginalMessageID)
	}
	other.silent(quiet)
	s.cycle(t)
	a = connect(t, s, u+"/a", object{"type": "mobile"})
	refused()
	away := connect(t, s, u+"/away", nil)
	refused()
	for range limit {
		away.ack(away.message().Seq)
	}
	away.beat()
	eventually(t, func() error { // when the outcomes are stored there is room
		a.send(object{"id": newID(), "type": "note", "toDeviceId": "away", "payload": "yes", "requiresAck": true})
		if e := a.pick(false); e.Type != "ack" {
			return errLate
		}
		return nil
	})
	away.wantMessage(`"yes"`)
}

func TestProtocol_9_AServiceSeesTheEventFull(t *testing.T) {
	t.Parallel()
	s := start(t, "--inbox-limit", "20")
	u := user(t)
	s.register(t, u+"/away")
	v := s.service(t, "pusher")
	events, err := v.js.OrderedConsumer(t.Context(), "RCCS_EVENT", jetstream.OrderedConsumerConfig{
		FilterSubjects: []string{"rccs.event." + token(u) + ".away.full"},
	})
	if err != nil {
		t.Fatal(err)
	}
	for range 40 {
		v.publish(inbox(u, "away", "normal"), "1")
	}
	m, err := events.Next(jetstream.FetchMaxWait(patience))
	if err != nil {
		t.Fatal(err)
	}
	var body struct{ Kind, User, Device string }
	if err := json.Unmarshal(m.Data(), &body); err != nil || body.Kind != "full" || body.User != u || body.Device != "away" {
		t.Errorf("event %s (%v)", m.Data(), err)
	}
	s.caughtUp(t, u)
	if away := connect(t, s, u+"/away", nil); away.session.Pending != 40 {
		t.Errorf("pending %d", away.session.Pending)
	}
}
