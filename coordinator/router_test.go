package coordinator_test

import (
	"encoding/json"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/rccs-io/rccs/coordinator"
	"github.com/rccs-io/rccs/internal/envelope"
	"github.com/rccs-io/rccs/internal/layout"
	"github.com/rccs-io/rccs/internal/proof"
	"github.com/rccs-io/rccs/subjects"
	"github.com/rccs-io/rccs/wire"
)

func TestEachSelectorFindsItsDevices(t *testing.T) {
	t.Parallel()
	p, e := placeWithEdge(t)
	p.register(e, "alice/phone", "mobile", "supportsNotifications")
	p.register(e, "alice/watch", "watch", "supportsNotifications")
	p.connect(e, "alice/old desk", "desktop", "supportsFileSync")
	p.connect(e, "alice/desk", "desktop").Touch(time.Now().UnixNano())
	p.connect(e, "bob/desk", "desktop", "supportsNotifications")
	p.coordinate()
	everyone := []string{"alice/phone", "alice/watch", "alice/old desk", "alice/desk", "bob/desk"}
	for i, c := range []struct {
		selector subjects.Selector
		want     []string
	}{
		{subjects.Selector{}, []string{"alice/phone", "alice/watch", "alice/old desk", "alice/desk"}},
		{subjects.Selector{DeviceType: "desktop"}, []string{"alice/old desk", "alice/desk"}},
		{subjects.Selector{DeviceType: "desktop", Any: true}, []string{"alice/desk"}},
		{subjects.Selector{Any: true}, []string{"alice/desk"}},
		{subjects.Selector{Capability: "supportsNotifications"}, []string{"alice/phone", "alice/watch"}},
		{subjects.Selector{Capability: "supportsFileSync"}, []string{"alice/old desk"}},
	} {
		body := strconv.Itoa(i)
		p.publish(subjects.Route("alice", c.selector), body)
		p.eventually("everything is routed", func() bool { return p.routesLeft() == 0 })
		for _, d := range everyone {
			if got, want := slices.Contains(p.inbox(d), body), slices.Contains(c.want, d); got != want {
				t.Errorf("%+v: %s got it: %t, want %t", c.selector, d, got, want)
			}
		}
	}
}

func TestCopiesHaveTheHeadersOfTheirSenderAndNoOthers(t *testing.T) {
	t.Parallel()
	p, e := placeWithEdge(t)
	p.register(e, "alice/phone", "mobile")
	p.register(e, "alice/desk", "desktop")
	p.coordinate()
	seq := p.publish(subjects.Route("alice", subjects.Selector{}), "{}",
		"Rccs-Id", "i", "Rccs-Type", "note", "Rccs-Correlation", "c", "Rccs-Collapse", "k", "Rccs-Ttl-Ms", "600000", "Rccs-Timestamp", "2026-01-02T03:04:05Z",
		"Rccs-Ack", "true", "traceparent", "t", "Rccs-Priority", "3", "Rccs-From", "desk", "Nats-Msg-Id", "once", "nats-rollup", "all", "Own", "o")
	p.eventually("it is routed", func() bool { return p.routesLeft() == 0 })
	for _, device := range []string{"alice/desk", "alice/phone"} {
		all := p.stored(layout.StreamInbox, subjects.Inbox(address(device).Key(), subjects.Critical))
		if len(all) != 1 {
			t.Fatalf("%s has %d messages", device, len(all))
		}
		h := all[0].Header
		want := map[string]string{
			"Rccs-Id": "i", "Rccs-Type": "note", "Rccs-Correlation": "c", "Rccs-Collapse": "k", "Rccs-Timestamp": "2026-01-02T03:04:05Z",
			"Rccs-Ack": "true", "traceparent": "t", "Own": "o", "Nats-Msg-Id": p.proof().Tag(proof.Route, strconv.FormatUint(seq, 10), string(address(device).Key())),
			"Rccs-Priority": "", "Rccs-From": "", "nats-rollup": "",
		}
		for key, value := range want {
			if got := envelope.Value(h, key); got != value {
				t.Errorf("%s: %s is %q, want %q", device, key, got, value)
			}
		}
		if ttl, err := strconv.Atoi(envelope.Value(h, "Rccs-Ttl-Ms")); err != nil || ttl > 600_000 || ttl < 500_000 {
			t.Errorf("%s: the time to live is %q", device, h["Rccs-Ttl-Ms"])
		}
	}
}

func TestAnyOfManyWaitsForTheFirstToCome(t *testing.T) {
	t.Parallel()
	p, e := placeWithEdge(t)
	p.register(e, "alice/one", "desktop")
	p.register(e, "alice/two", "desktop")
	p.connect(e, "alice/phone", "mobile")
	p.coordinate()
	var want []string
	for i := range 20 {
		want = append(want, strconv.Itoa(i))
		p.publish(subjects.Route("alice", subjects.Selector{DeviceType: "desktop", Any: true}), want[i])
	}
	p.publish(subjects.Route("alice", subjects.Selector{DeviceType: "mobile", Any: true}), "not waiting")
	p.eventually("what is for others passes", func() bool { return len(p.inbox("alice/phone")) == 1 })
	p.eventually("the rest waits", func() bool { return p.routesLeft() == 20 })
	p.connect(e, "alice/two", "desktop")
	p.eventually("all is given out", func() bool { return p.routesLeft() == 0 })
	if got := p.inbox("alice/two"); !slices.Equal(got, want) {
		t.Errorf("the first device to come got %v", got)
	}
	if got := p.inbox("alice/one"); len(got) > 0 {
		t.Errorf("the other got %v", got)
	}
}

func TestADeviceThatRegistersAndConnectsAtOnceIsFound(t *testing.T) {
	t.Parallel()
	p, e := placeWithEdge(t)
	p.register(e, "alice/old", "desktop")
	p.coordinate()
	for i := range 20 {
		device := fmt.Sprintf("alice/new%d", i)
		p.publish(subjects.Route("alice", subjects.Selector{DeviceType: "desktop", Any: true}), "1")
		s := p.connect(e, device, "desktop")
		p.eventually("the new device has it", func() bool { return len(p.inbox(device)) == 1 })
		s.Close(true, nil)
		p.eventually("it is offline for the coordinator", func() bool {
			var of struct{ Sessions []listed }
			p.ask("sessions", nil, &of)
			return len(of.Sessions) == 0
		})
	}
}

func TestWhatIsForNoDeviceIsDropped(t *testing.T) {
	t.Parallel()
	p := newPlace(t)
	p.coordinate()
	p.publish(subjects.Route("nobody", subjects.Selector{}), "1")
	p.publish("rccs.route.alice.nonsense", "1")
	p.publish("rccs.route.a%b.all", "1")
	p.eventually("it is dropped", func() bool { return p.routesLeft() == 0 })
	s, err := p.js.Stream(p.ctx(), layout.StreamInbox)
	if err != nil || s.CachedInfo().State.LastSeq != 0 {
		t.Errorf("something was stored: %v %v", s, err)
	}
}

func TestADeviceThatRegistersAfterTheMessageWasSentIsFound(t *testing.T) {
	t.Parallel()
	p, e := placeWithEdge(t)
	p.coordinate()
	p.publish(subjects.Route("alice", subjects.Selector{}), "1")
	p.register(e, "alice/phone", "mobile")
	p.eventually("it has the message", func() bool { return len(p.inbox("alice/phone")) == 1 })
}

// wait stores a message of alice's phone as an edge does that knows no device for
// it.
func (p *place) wait(id, typ, task string, ttl int64) {
	p.t.Helper()
	a := address("alice/phone")
	env := wire.Envelope{ID: id, Type: typ, RequiresAck: true, Priority: wire.Normal, TTLMs: ttl}
	m := envelope.Wait(&env, envelope.Sender{Key: a.Key(), Device: a.Device}, wire.To{}, task, []byte(id))
	if _, err := p.js.PublishMsg(p.ctx(), m); err != nil {
		p.t.Fatal(err)
	}
}

// mark makes the entry of a task that waits, as an edge does.
func (p *place) mark(task, value string) {
	p.t.Helper()
	if _, err := p.bucket(layout.BucketTasks).PutString(p.ctx(), layout.TaskEntry("alice", task), value); err != nil {
		p.t.Fatal(err)
	}
}

// holder is whom a task belongs to.
func (p *place) holder(task string) string {
	p.t.Helper()
	entry, err := p.bucket(layout.BucketTasks).Get(p.ctx(), layout.TaskEntry("alice", task))
	if err != nil {
		return "?"
	}
	var h struct {
		Device string `json:"device"`
	}
	if json.Unmarshal(entry.Value(), &h) != nil {
		return "?"
	}
	return h.Device
}

func TestATaskGoesToOneDeviceInOrderAndStaysThere(t *testing.T) {
	t.Parallel()
	p, e := placeWithEdge(t)
	p.connect(e, "alice/phone", "mobile")
	p.register(e, "alice/one", "desktop")
	p.register(e, "alice/two", "extension")
	p.coordinate()
	p.mark("t", `{"device":""}`)
	var want []string
	for i := range 30 {
		want = append(want, fmt.Sprintf("m%d", i))
		p.wait(want[i], "task_status", "t", 0)
	}
	began := time.Now()
	two := p.connect(e, "alice/two", "extension")
	p.eventually("it has begun", func() bool { return len(p.inbox("alice/two")) > 0 })
	two.Close(false, nil)
	p.connect(e, "alice/one", "desktop").Touch(time.Now().UnixNano())
	for i := range 30 { // more comes while the task is moved
		want = append(want, fmt.Sprintf("n%d", i))
		p.wait(fmt.Sprintf("n%d", i), "task_status", "t", 0)
	}
	moving := time.Since(began) < coordinator.MoveQuiet // where a machine pauses for longer, the task may be moved by now
	p.eventually("the task has its device", func() bool { return p.holder("t") == "two" })
	if n := p.routesLeft(); n != 0 && moving {
		t.Errorf("the device was made final with %d messages waiting", n)
	}
	p.eventually("all is given out", func() bool { return p.routesLeft() == 0 })
	if got := p.inbox("alice/two"); !slices.Equal(got, want) {
		t.Errorf("the device got %v", got)
	}
	p.wait("late", "task_status", "t", 0)
	p.eventually("it follows", func() bool { return p.routesLeft() == 0 })
	if got := p.inbox("alice/two"); len(got) != len(want)+1 {
		t.Errorf("a late message did not follow: %v", got)
	}
	if got := p.inbox("alice/one"); len(got) > 0 {
		t.Errorf("another device got %v", got)
	}
}

// The first device that comes gets it, but not before its time, and until then its
// sender can cancel it.
func TestDelayedMessageForADeviceYetToComeKeepsItsTime(t *testing.T) {
	t.Parallel()
	p, e := placeWithEdge(t)
	p.connect(e, "alice/phone", "mobile")
	p.register(e, "alice/one", "desktop")
	p.coordinate()
	a, due := address("alice/phone"), time.Now().Add(time.Hour)
	for id, at := range map[string]time.Time{"delayed": due, "past": time.Now().Add(-time.Hour)} {
		env := wire.Envelope{ID: id, Type: "note", Priority: wire.Normal, TTLMs: 60_000, DeliverAt: at}
		m := envelope.Wait(&env, envelope.Sender{Key: a.Key(), Device: a.Device}, wire.To{}, "", []byte(id))
		if _, err := p.js.PublishMsg(p.ctx(), m); err != nil {
			t.Fatal(err)
		}
	}
	p.connect(e, "alice/one", "desktop")
	p.eventually("both are given out", func() bool { return p.routesLeft() == 0 })
	p.eventually("the one that is due is there", func() bool { return slices.Equal(p.inbox("alice/one"), []string{"past"}) })
	again := wire.Envelope{ID: "past", Type: "note", Priority: wire.Normal, DeliverAt: time.Now()}
	ack, err := p.js.PublishMsg(p.ctx(), envelope.Later(&again, envelope.Sender{Key: a.Key(), Device: a.Device, Proof: p.proof()}, address("alice/one").Key(), 0, []byte("1")))
	if err != nil || !ack.Duplicate {
		t.Errorf("a repeat that finds the device was stored again: %+v %v", ack, err)
	}
	s, err := p.js.Stream(p.ctx(), subjects.StreamLater)
	if err != nil {
		t.Fatal(err)
	}
	m, err := s.GetLastMsgForSubject(p.ctx(), subjects.LaterAnywhere("alice", envelope.LaterID("phone", "delayed")))
	if err != nil {
		t.Fatalf("it does not wait for its time: %v", err)
	}
	want := "@at " + due.UTC().Format(time.RFC3339Nano)
	if at, ttl := m.Header.Get("Nats-Schedule"), m.Header.Get(subjects.HeaderTTL); at != want || ttl != "60000" {
		t.Errorf("it waits until %q and then lives %q ms, want %q and 60000", at, ttl, want)
	}
}

func TestATaskWhoseDeviceIsForgottenGetsAnother(t *testing.T) {
	t.Parallel()
	p, e := placeWithEdge(t)
	p.connect(e, "alice/phone", "mobile")
	p.connect(e, "alice/one", "desktop")
	p.coordinate()
	p.mark("t", `{"device":"gone"}`)
	p.mark("moving", `{"device":"","next":"gone"}`)
	p.mark("bad", `nonsense`)
	for _, task := range []string{"t", "moving", "bad", "none"} {
		p.wait(task, "task_start", task, 0)
		p.eventually(task+" has its device", func() bool { return p.holder(task) == "one" })
	}
	if got := p.inbox("alice/one"); len(got) != 4 {
		t.Errorf("it got %v", got)
	}
}

func TestWhatADeviceSendsAgainIsNotStoredTwice(t *testing.T) {
	t.Parallel()
	p, e := placeWithEdge(t)
	p.connect(e, "alice/phone", "mobile")
	p.register(e, "alice/one", "desktop")
	p.coordinate()
	p.wait("m", "note", "", 0)
	p.connect(e, "alice/one", "desktop")
	p.eventually("it is given out", func() bool { return p.routesLeft() == 0 })
	a := address("alice/phone")
	env := wire.Envelope{ID: "m", Type: "note", Priority: wire.Normal}
	again := envelope.Inbox(&env, envelope.Sender{Key: a.Key(), Device: a.Device, Proof: p.proof()}, address("alice/one").Key(), 0, []byte("m"))
	ack, err := p.js.PublishMsg(p.ctx(), again)
	if err != nil || !ack.Duplicate {
		t.Errorf("the repeat, sent straight by an edge, is answered with %+v, %v", ack, err)
	}
}

func TestExpiredIsToldOfWhatFoundNoDeviceInTime(t *testing.T) {
	t.Parallel()
	p, e := placeWithEdge(t)
	p.connect(e, "alice/phone", "mobile")
	p.register(e, "alice/one", "desktop")
	p.coordinate()
	p.wait("short", "task_start", "", 300)
	p.wait("long", "task_start", "", 600_000)
	p.eventually("the sender is told", func() bool { return len(p.inbox("alice/phone")) == 1 })
	all := p.stored(layout.StreamInbox, subjects.Inbox(address("alice/phone").Key(), subjects.Normal))
	a, err := wire.DecodeAnswer(all[0].Data)
	if err != nil {
		t.Fatal(err)
	}
	if o := a.Outcome(); o.OriginalID != "short" || o.Status != wire.StatusExpired || all[0].Header.Get("Rccs-Type") != wire.TypeAck {
		t.Errorf("told %s %v", all[0].Data, all[0].Header)
	}
	p.connect(e, "alice/one", "desktop")
	p.eventually("the other is given out", func() bool { return p.routesLeft() == 0 })
	if got := p.inbox("alice/one"); !slices.Equal(got, []string{"long"}) {
		t.Errorf("the device got %v", got)
	}
}

func TestTwoCoordinatorsStoreEachMessageOnce(t *testing.T) {
	t.Parallel()
	p, e := placeWithEdge(t)
	p.connect(e, "alice/phone", "mobile")
	p.connect(e, "alice/desk", "desktop")
	p.register(e, "bob/one", "desktop")
	p.register(e, "bob/two", "desktop")
	stop := p.coordinateTwice()
	const n = 300
	var all, waited []string
	for i := range n {
		switch i {
		case n / 3:
			stop() // in the middle
		case n / 2:
			p.coordinate()
		case 2 * n / 3:
			p.connect(e, "bob/two", "desktop")
			p.connect(e, "bob/one", "desktop")
		}
		all = append(all, strconv.Itoa(i))
		p.publish(subjects.Route("alice", subjects.Selector{}), all[i])
		if i < 2*n/3 {
			waited = append(waited, all[i])
			p.publish(subjects.Route("bob", subjects.Selector{DeviceType: "desktop", Any: true}), all[i])
		}
	}
	p.eventually("all is routed", func() bool { return p.routesLeft() == 0 })
	for _, d := range []string{"alice/phone", "alice/desk"} {
		if got := p.inbox(d); !slices.Equal(got, all) {
			t.Errorf("%s got %v", d, got)
		}
	}
	got := append(p.inbox("bob/one"), p.inbox("bob/two")...)
	slices.SortFunc(got, func(a, b string) int {
		x, _ := strconv.Atoi(a)
		y, _ := strconv.Atoi(b)
		return x - y
	})
	if !slices.Equal(got, waited) {
		t.Errorf("bob's devices got %v", got)
	}
}

func TestRoutingSurvivesKillsOfTheServer(t *testing.T) {
	t.Parallel()
	p, e := placeWithEdge(t)
	p.register(e, "alice/phone", "mobile")
	p.register(e, "alice/desk", "desktop")
	p.coordinate()
	var want []string
	for i := range 150 {
		if i%50 == 25 {
			p.env.Kill()
			p.env.Start()
		}
		body := strconv.Itoa(i)
		want = append(want, body)
		p.eventually("it is stored", func() bool {
			m := &nats.Msg{Subject: subjects.Route("alice", subjects.Selector{}), Data: []byte(body), Header: nats.Header{"Nats-Msg-Id": {body}}}
			_, err := p.js.PublishMsg(p.ctx(), m)
			return err == nil
		})
	}
	p.eventually("all is routed", func() bool { return p.routesLeft() == 0 })
	for _, d := range []string{"alice/phone", "alice/desk"} {
		if got := p.inbox(d); !slices.Equal(got, want) {
			t.Errorf("%s got %v", d, got)
		}
	}
}

func TestWhatWasStoredWithoutACoordinatorIsRoutedWhenOneStarts(t *testing.T) {
	t.Parallel()
	p, e := placeWithEdge(t)
	p.connect(e, "alice/desk", "desktop")
	p.publish(subjects.Route("alice", subjects.Selector{}), "1")
	p.wait("2", "task_start", "t", 0)
	p.coordinate()
	p.eventually("all is routed", func() bool { return p.routesLeft() == 0 })
	if got := p.inbox("alice/desk"); !slices.Equal(got, []string{"1", "2"}) {
		t.Errorf("it got %v", got)
	}
}

// What the stream drops by its age would go without a word.
func TestExpiredIsToldBeforeRetentionTakesWhatWaits(t *testing.T) {
	t.Parallel()
	p := newPlace(t)
	s, err := p.js.Stream(p.ctx(), layout.StreamRoute)
	if err != nil {
		t.Fatal(err)
	}
	age := func(d time.Duration) {
		t.Helper()
		config := s.CachedInfo().Config
		config.MaxAge, config.Duplicates = d, time.Second
		if _, err := p.js.UpdateStream(p.ctx(), config); err != nil {
			t.Fatal(err)
		}
	}
	age(2 * time.Second)
	e := p.edge("e")
	p.register(e, "alice/one", "desktop")
	p.coordinate()
	age(time.Hour) // which the coordinator has not heard of: a busy machine may be late
	p.wait("m", "task_start", "", 0)
	p.publish(subjects.Route("alice", subjects.Selector{Any: true}), "1", "Rccs-Ack", "true")
	p.eventually("the sender is told", func() bool { return len(p.inbox("alice/phone")) == 1 })
	if told := p.inboxBodies("alice/phone"); !strings.Contains(told, `"reason":"retention"`) {
		t.Errorf("told %s", told)
	}
	p.eventually("services are told", func() bool {
		events := p.stored(subjects.StreamEvent, "rccs.event.alice.%.expired")
		return len(events) == 1 && strings.Contains(string(events[0].Data), `"reason":"retention"`)
	})
}

// inboxBodies are the bodies of a device's normal lane, one after the other.
func (p *place) inboxBodies(device string) (all string) {
	for _, m := range p.stored(layout.StreamInbox, subjects.Inbox(address(device).Key(), subjects.Normal)) {
		all += string(m.Data)
	}
	return all
}

func TestACoordinatorThatDiesInTheMiddleIsFollowedByAnother(t *testing.T) {
	t.Parallel()
	p, e := placeWithEdge(t)
	p.connect(e, "alice/desk", "desktop")
	p.register(e, "alice/phone", "mobile")
	p.mark("t", `{"device":""}`)
	var want, tasks []string
	for i := range 200 {
		want = append(want, strconv.Itoa(i))
		tasks = append(tasks, "t"+want[i])
		p.publish(subjects.Route("bob", subjects.Selector{}), want[i])
		p.wait(tasks[i], "task_status", "t", 0)
	}
	p.register(e, "bob/one", "mobile")
	p.register(e, "bob/two", "mobile")
	for range 5 {
		_, crash := p.fragile()
		p.eventually("it works", func() bool { return p.routesLeft() < 400 || len(p.inbox("bob/one")) > 0 })
		crash()
	}
	p.coordinate()
	p.eventually("all is routed", func() bool { return p.routesLeft() == 0 })
	for _, d := range []string{"bob/one", "bob/two"} {
		if got := p.inbox(d); !slices.Equal(got, want) {
			t.Errorf("%s got %v", d, got)
		}
	}
	if got := p.inbox("alice/desk"); !slices.Equal(got, tasks) {
		t.Errorf("the task's device got %v", got)
	}
	p.eventually("the task has its device", func() bool { return p.holder("t") == "desk" })
}

// A task's second step is made though no message comes any more: by a
// coordinator that starts, and by one that was there all the time.
func TestATaskThatWasBegunWithIsFinishedByWhoeverIsThere(t *testing.T) {
	t.Parallel()
	p, e := placeWithEdge(t)
	p.connect(e, "alice/desk", "desktop")
	long := strings.Repeat("t", subjects.MaxName+1) // its entry's key is a hash
	for _, task := range []string{"t", long} {
		p.mark(task, `{"device":"","next":"desk"}`) // what one that died has left
	}
	p.coordinate()
	for _, task := range []string{"t", long} {
		p.eventually("the task is the device's", func() bool { return p.holder(task) == "desk" })
	}
	p.mark("u", `{"device":"","next":"desk"}`)
	p.eventually("the task is the device's", func() bool { return p.holder("u") == "desk" })
}
