package coordinator_test

import (
	"encoding/json"
	"testing"
	"time"

	"github.com/rccs-io/rccs/coordinator"
	"github.com/rccs-io/rccs/internal/layout"
	"github.com/rccs-io/rccs/subjects"
)

// undeliverables are the events of what reached nobody, by the subject that it
// was published to.
func (p *place) undeliverables() map[string]map[string]any {
	p.t.Helper()
	all := map[string]map[string]any{}
	for _, m := range p.stored(subjects.StreamEvent, "rccs.event.*.*.undeliverable") {
		var body map[string]any
		if err := json.Unmarshal(m.Data, &body); err != nil {
			p.t.Fatal(err)
		}
		body["event"] = m.Subject
		if all[body["subject"].(string)] != nil {
			p.t.Errorf("told twice of %v", body["subject"])
		}
		all[body["subject"].(string)] = body
	}
	return all
}

func TestWhatReachesNobodyIsToldAndRemoved(t *testing.T) {
	t.Parallel()
	p, e := placeWithEdge(t)
	p.register(e, "alice/desk", "desktop")
	p.coordinateTwice() // of two that notice, services hear once
	at := "@at " + time.Now().Add(time.Hour).UTC().Format(time.RFC3339)
	far := "@at " + time.Now().AddDate(2, 0, 0).UTC().Format(time.RFC3339)
	desk := address("alice/desk").Key()
	good := p.publish(subjects.Later(desk, subjects.Normal, "good"), "1", "Nats-Schedule", at, "Nats-Schedule-Target", layout.Due(desk, subjects.Normal))
	type want struct{ event, reason string }
	wants := map[string]want{}
	publish := func(subject, event, reason string, headers ...string) {
		p.publish(subject, "1", headers...)
		wants[subject] = want{event, reason}
	}
	publish("rccs.route.nobody.all", "rccs.event.nobody.%.undeliverable", "noDevice", "Rccs-Ack", "true")
	publish("rccs.route.alice.cap.flies", "rccs.event.alice.%.undeliverable", "noDevice")
	publish("rccs.route.alice.cap.not%escaped", "rccs.event.alice.%.undeliverable", "badSubject")
	publish("rccs.route.user:42.all", "rccs.event.%.%.undeliverable", "badSubject")
	publish("rccs.later.alice.desk.normal.a", "rccs.event.alice.desk.undeliverable", "badSchedule", "Rccs-Id", "a")
	publish("rccs.later.alice.desk.normal.b", "rccs.event.alice.desk.undeliverable", "badSchedule",
		"Nats-Schedule", at, "Nats-Schedule-Target", layout.Due(address("alice/other").Key(), subjects.Normal))
	publish("rccs.later.alice.desk.normal.c", "rccs.event.alice.desk.undeliverable", "badSchedule",
		"Nats-Schedule", far, "Nats-Schedule-Target", layout.Due(desk, subjects.Normal))
	publish("rccs.later.alice.d:sk.normal.d", "rccs.event.alice.%.undeliverable", "badSubject",
		"Nats-Schedule", at, "Nats-Schedule-Target", layout.Due(desk, subjects.Normal))
	p.eventually("each is told", func() bool { return len(p.undeliverables()) == len(wants) })
	for subject, got := range p.undeliverables() {
		w := wants[subject]
		if got["event"] != w.event || got["reason"] != w.reason || got["seq"] == 0.0 || got["kind"] != "undeliverable" {
			t.Errorf("%s: told %v, want %v", subject, got, w)
		}
	}
	if id := p.undeliverables()["rccs.later.alice.desk.normal.a"]["id"]; id != "a" {
		t.Errorf("told of id %v", id)
	}
	p.eventually("they are removed", func() bool { return p.routesLeft() == 0 })
	p.eventually("what is well stays alone", func() bool {
		left := p.stored(subjects.StreamLater, "rccs.later.>")
		return len(left) == 1 && left[0].Sequence == good
	})
}

// A service that asked hears that its route found no device in time, and why. A
// header that means nothing is told, and the message goes on without it.
func TestServicesHearTheEndOfTheirRoutesAndWhatTheirHeadersMeant(t *testing.T) {
	t.Parallel()
	p, e := placeWithEdge(t)
	p.connect(e, "alice/desk", "desktop")
	p.coordinateTwice()
	route := subjects.Route("alice", subjects.Selector{Any: true, DeviceType: "watch"})
	p.register(e, "alice/watch", "watch")
	short := p.publish(route, "1", "Rccs-Id", "short", "Rccs-Ttl-Ms", "300", "Rccs-Ack", "true", "Rccs-Type", "alarm")
	p.publish(route, "1", "Rccs-Id", "unasked", "Rccs-Ttl-Ms", "300")
	p.publish(subjects.Route("alice", subjects.Selector{DeviceType: "desktop"}), "2", "Rccs-Id", "odd", "Rccs-Priority", "urgent")
	p.eventually("all is routed", func() bool { return p.routesLeft() == 0 })
	if got := p.inbox("alice/desk"); len(got) != 1 {
		t.Errorf("the device got %v", got)
	}
	event := func(kind string) (bodies []map[string]any) {
		for _, m := range p.stored(subjects.StreamEvent, "rccs.event.alice.%."+kind) {
			var body map[string]any
			if err := json.Unmarshal(m.Data, &body); err != nil {
				t.Fatal(err)
			}
			bodies = append(bodies, body)
		}
		return bodies
	}
	p.eventually("both events are stored", func() bool { return len(event("expired")) == 1 && len(event("badHeader")) == 1 })
	if b := event("expired")[0]; b["id"] != "short" || b["seq"] != float64(short) || b["type"] != "alarm" || b["subject"] != route || b["reason"] != nil || b["device"] != "" {
		t.Errorf("told %v", b)
	}
	if b := event("badHeader")[0]; b["id"] != "odd" || b["header"] != "Rccs-Priority" || b["user"] != "alice" {
		t.Errorf("told %v", b)
	}
}

// A coordinator that was given a bound of its own for delays ends what lies
// further ahead, and leaves what does not.
func TestADelayPastTheCoordinatorsBoundIsUndeliverable(t *testing.T) {
	t.Parallel()
	p := newPlace(t)
	desk := address("alice/desk").Key()
	for id, ahead := range map[string]time.Duration{"near": 47 * time.Hour, "far": 60 * time.Hour} {
		p.publish(subjects.Later(desk, subjects.Normal, id), "1", "Rccs-Id", id,
			"Nats-Schedule", "@at "+time.Now().Add(ahead).UTC().Format(time.RFC3339), "Nats-Schedule-Target", layout.Due(desk, subjects.Normal))
	}
	p.coordinateWith(coordinator.Options{MaxDelay: 48 * time.Hour})
	far := subjects.Later(desk, subjects.Normal, "far")
	p.eventually("the event is stored", func() bool { return p.undeliverables()[far] != nil })
	all := p.undeliverables()
	if len(all) != 1 || all[far]["reason"] != "badSchedule" {
		t.Errorf("told %v", all)
	}
	if left := p.stored(subjects.StreamLater, subjects.Later(desk, subjects.Normal, "near")); len(left) != 1 {
		t.Errorf("%d are left of the one that is near enough", len(left))
	}
}
