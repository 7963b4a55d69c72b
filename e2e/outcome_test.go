package e2e_test

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"
)

func (d *device) wantOutcome(id, status, device string) outcome {
	d.t.Helper()
	o := d.outcome()
	if o.OriginalMessageID != id || o.Status != status || o.DeviceID != device {
		d.t.Fatalf("%s: heard %+v, want %s %s by %s", d.name, o, id, status, device)
	}
	return o
}

func TestProtocol_5_DeliveredIsToldForEachRecipient(t *testing.T) {
	t.Parallel()
	s := use(t)
	_, all := household(t, s)
	all["phone"].send(object{"id": "m", "type": "user_message", "payload": 1, "requiresAck": true})
	if a := all["phone"].wantAck(); len(a.Recipients) != 3 {
		t.Fatalf("answered with %+v", a)
	}
	for _, name := range []string{"watch", "desktop", "editor"} {
		all[name].ack(all[name].message().Seq)
		o := all["phone"].wantOutcome("m", "delivered", name)
		if _, err := time.Parse(time.RFC3339, o.DeliveredAt); err != nil {
			t.Errorf("deliveredAt of %+v: %v", o, err)
		}
	}
	all["watch"].beat()
	if len(all["phone"].outcomes) > 0 {
		t.Error("more than one outcome a recipient")
	}
}

func TestProtocol_5_NobodyIsToldWhoDidNotAsk(t *testing.T) {
	t.Parallel()
	s, u := serverAndUser(t)
	a, b := connect(t, s, u+"/a", nil), connect(t, s, u+"/b", nil)
	a.send(object{"id": "m", "type": "note", "toDeviceId": "b", "payload": 1})
	b.ack(b.message().Seq)
	b.beat()
	a.give("b", 2, nil)
	b.ack(b.message().Seq)
	if o := a.outcome(); o.OriginalMessageID == "m" {
		t.Errorf("heard %+v", o)
	}
}

func TestProtocol_5_DeliveredReachesASenderThatWasAway(t *testing.T) {
	t.Parallel()
	s := start(t)
	u := user(t)
	a, b := connect(t, s, u+"/a", nil), connect(t, s, u+"/b", nil)
	answer := a.give("b", 1, nil)
	a.leave()
	b.ack(b.message().Seq)
	b.beat()
	s.caughtUp(t, u)
	s.cycle(t)
	a = connect(t, s, u+"/a", nil)
	if a.session.Pending != 1 {
		t.Errorf("pending is %d, want the one outcome", a.session.Pending)
	}
	a.wantOutcome(answer.OriginalMessageID, "delivered", "b")
}

func TestProtocol_2_TTLEndsInExpired(t *testing.T) {
	t.Parallel()
	s, u := serverAndUser(t)
	s.register(t, u+"/b")
	a := connect(t, s, u+"/a", nil)
	dead := a.give("b", "dead", object{"ttlMs": 300})
	live := a.give("b", "live", object{"ttlMs": 600_000})
	a.wantOutcome(dead.OriginalMessageID, "expired", "b") // while b is away
	b := connect(t, s, u+"/b", nil)
	if e := b.message(); e.Seq != live.Recipients[0].Seq {
		t.Errorf("got %s", e.raw)
	}
	b.ack(live.Recipients[0].Seq)
	a.wantOutcome(live.OriginalMessageID, "delivered", "b")
	b.silent(quiet)
}

func TestProtocol_2_TTLOfAMessageThatWaitsForTheWindow(t *testing.T) {
	t.Parallel()
	s, u := serverAndUser(t)
	a, b := connect(t, s, u+"/a", nil), connect(t, s, u+"/b", object{"window": 1})
	first := a.give("b", 1, nil)
	dead := a.give("b", 2, object{"ttlMs": 200})
	last := a.give("b", 3, nil)
	b.message()
	a.wantOutcome(dead.OriginalMessageID, "expired", "b")
	b.ack(first.Recipients[0].Seq)
	if e := b.message(); e.Seq != last.Recipients[0].Seq {
		t.Errorf("got %s", e.raw)
	}
}

func TestProtocol_2_DeliverAtWaitsAcrossARestart(t *testing.T) {
	t.Parallel()
	s := start(t)
	u := user(t)
	a := connect(t, s, u+"/a", nil)
	b := connect(t, s, u+"/b", nil)
	at := time.Now().Add(12 * time.Second)
	a.send(object{
		"id": "later", "type": "note", "toDeviceId": "b", "payload": object{"n": 1}, "requiresAck": true, "priority": 2,
		"deliverAt": at.UTC().Format(time.RFC3339Nano), "ttlMs": 60_000,
	})
	if r := a.wantAck(); r.Status != "accepted" || len(r.Recipients) != 1 || r.Recipients[0].DeviceID != "b" || r.Recipients[0].Seq != 0 {
		t.Fatalf("answered with %+v", r)
	}
	a.send(object{"id": "past", "type": "note", "toDeviceId": "b", "payload": 0, "deliverAt": "2020-01-01T00:00:00Z"})
	if e := b.message(); e.ID != "past" {
		t.Fatalf("got %s", e.raw)
	} else {
		b.ack(e.Seq)
	}
	s.cycle(t)
	late := time.Now().After(at) // so slow that it may have come before
	b = connect(t, s, u+"/b", nil)
	e := b.message()
	if e.ID != "later" || string(e.Payload) != `{"n":1}` || e.FromDeviceID != "a" || *e.Priority != 2 || e.Redelivered && !late {
		t.Errorf("got %s", e.raw)
	}
	if early := time.Until(at); early > 50*time.Millisecond {
		t.Errorf("came %v early", early)
	}
	b.ack(e.Seq)
	a = connect(t, s, u+"/a", nil)
	a.wantOutcome("later", "delivered", "b")
}

func TestProtocol_2_DeliverAtIsCancelledByID(t *testing.T) {
	t.Parallel()
	s := use(t)
	var all map[string]*device
	for in := 3 * time.Second; ; in *= 2 { // on a busy machine it is due before all was said
		_, all = household(t, s)
		at := time.Now().Add(in)
		for _, id := range []string{"keep", "drop"} {
			all["phone"].send(object{"id": id, "type": "user_message", "payload": 1, "requiresAck": true, "deliverAt": at.UTC().Format(time.RFC3339Nano)})
			if a := all["phone"].wantAck(); len(a.Recipients) != 3 {
				t.Fatalf("answered with %+v", a)
			}
		}
		all["desktop"].acknowledge(object{"cancel": "keep"}) // not its own
		all["desktop"].wantAck()
		all["phone"].acknowledge(object{"cancel": "drop"})
		if a := all["phone"].wantAck(); a.OriginalMessageID != "drop" || a.Status != "success" {
			t.Errorf("answered with %+v", a)
		}
		if time.Now().Before(at) {
			break
		}
		if in > patience {
			t.Fatalf("four requests took longer than %s", in)
		}
	}
	for _, name := range []string{"desktop", "editor", "watch"} {
		if e := all[name].message(); e.ID != "keep" {
			t.Errorf("%s got %s", name, e.raw)
		}
		all[name].silent(quiet)
	}
}

func TestProtocol_2_CollapseKeyReplacesWhatWasNotSent(t *testing.T) {
	t.Parallel()
	s, u := serverAndUser(t)
	s.register(t, u+"/b")
	a, other := connect(t, s, u+"/a", nil), connect(t, s, u+"/other", nil)
	first := a.give("b", 1, object{"collapseKey": "k", "priority": 0})
	a.give("b", 2, object{"collapseKey": "other key"})
	second := a.give("b", 3, object{"collapseKey": "k", "priority": 3})
	plain := a.give("b", 4, nil)
	third := other.give("b", 5, object{"collapseKey": "k"})
	s.caughtUp(t, u)
	b := connect(t, s, u+"/b", nil)
	got := []string{}
	for range 3 {
		e := b.message()
		got = append(got, string(e.Payload))
	}
	if fmt.Sprint(got) != "[2 4 5]" {
		t.Errorf("got %v", got)
	}
	told := map[string]string{}
	for range 2 {
		o := a.outcome()
		told[o.OriginalMessageID] = o.Status
	}
	if told[first.OriginalMessageID] != "replaced" || told[second.OriginalMessageID] != "replaced" {
		t.Errorf("heard %v", told)
	}
	// What was sent is not replaced any more.
	fourth := a.give("b", 6, object{"collapseKey": "k"})
	if e := b.message(); e.Seq != fourth.Recipients[0].Seq {
		t.Errorf("got %s", e.raw)
	}
	b.ack(plain.Recipients[0].Seq, third.Recipients[0].Seq, fourth.Recipients[0].Seq)
	for range 2 {
		if o := a.outcome(); o.Status != "delivered" {
			t.Errorf("heard %+v", o)
		}
	}
	other.wantOutcome(third.OriginalMessageID, "delivered", "b")
}

func TestProtocol_9_EventsTellServicesWhatHappened(t *testing.T) {
	t.Parallel()
	s, u := serverAndUser(t)
	v := s.service(t, "watcher")
	events, err := v.js.OrderedConsumer(t.Context(), "RCCS_EVENT", jetstream.OrderedConsumerConfig{
		FilterSubjects: []string{"rccs.event." + token(u) + ".>"},
	})
	if err != nil {
		t.Fatal(err)
	}
	d := connect(t, s, u+"/d", nil)
	v.publish(inbox(u, "d", "normal"), `1`, "Rccs-Id", "watched", "Rccs-Ack", "true")
	d.ack(d.message().Seq)
	v.publish(inbox(u, "d", "normal"), `2`, "Rccs-Id", "not watched")
	d.ack(d.message().Seq)
	d.leave()
	// The first two are stored independently of each other, and so are the last:
	// nobody goes offline later because an outcome is not stored yet.
	kinds := []string{"registered", "online", "delivered", "offline"}
	for n := range kinds {
		m, err := events.Next(jetstream.FetchMaxWait(patience))
		if err != nil {
			t.Fatalf("%s: %v", kinds[n], err)
		}
		if n%2 == 0 && strings.HasSuffix(m.Subject(), "."+kinds[n+1]) {
			kinds[n], kinds[n+1] = kinds[n+1], kinds[n]
		}
		kind := kinds[n]
		if want := "rccs.event." + token(u) + ".d." + kind; m.Subject() != want {
			t.Errorf("event on %s, want %s: %s", m.Subject(), want, m.Data())
		}
		var body struct{ Kind, User, Device, At, ID string }
		if err := json.Unmarshal(m.Data(), &body); err != nil || body.Kind != kind || body.User != u || body.Device != "d" {
			t.Errorf("event %s (%v)", m.Data(), err)
		}
		if kind == "delivered" && body.ID != "watched" {
			t.Errorf("event %s", m.Data())
		}
	}
}
