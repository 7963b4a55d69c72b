package share_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/rccs-io/rccs/internal/backbone"
	"github.com/rccs-io/rccs/internal/envelope"
	"github.com/rccs-io/rccs/internal/inbox"
	"github.com/rccs-io/rccs/internal/layout"
	"github.com/rccs-io/rccs/internal/natstest"
	"github.com/rccs-io/rccs/internal/proof"
	"github.com/rccs-io/rccs/internal/share"
	"github.com/rccs-io/rccs/internal/testkit"
	"github.com/rccs-io/rccs/subjects"
	"github.com/rccs-io/rccs/wire"
)

func TestMain(m *testing.M) { natstest.VerifyTestMain(m) }

// tenant is one whose share of the store is small.
type tenant struct {
	t     *testing.T
	nc    *nats.Conn
	js    jetstream.JetStream
	proof *proof.Key
	topic string
	n     int
}

func newTenant(t *testing.T) *tenant {
	t.Helper()
	nc := natstest.Server(t).Conn(t)
	js, err := jetstream.New(nc, jetstream.WithDefaultTimeout(testkit.Patience))
	if err == nil {
		err = backbone.Ensure(t.Context(), js, backbone.Plan{StoreBytes: 20 << 20})
	}
	a := &tenant{t: t, nc: nc, js: js, topic: "news"}
	if err == nil {
		a.proof, err = proof.Load(t.Context(), js)
	}
	if err != nil {
		t.Fatal(err)
	}
	return a
}

// shares has read the bounds of the streams.
func (a *tenant) shares(b share.Bounds) *share.Shares {
	a.t.Helper()
	s, err := share.New(share.Options{Conn: a.nc, Bounds: b, Proof: a.proof})
	if err != nil {
		a.t.Fatal(err)
	}
	a.t.Cleanup(s.Stop)
	s.AwaitBounds(a.t)
	return s
}

func key(user, device string) subjects.Key {
	return subjects.Address{User: subjects.UserID(user), Device: subjects.DeviceID(device)}.Key()
}

// store is what a sender does after it was admitted.
func (a *tenant) store(k share.Kind, to subjects.Key, size int) {
	a.t.Helper()
	a.n++
	at, err := to.Address()
	if err != nil {
		a.t.Fatal(err)
	}
	from := envelope.Sender{Key: to, Device: at.Device, Proof: a.proof}
	body := []byte(`"` + strings.Repeat("x", size-2) + `"`)
	e := wire.NewEnvelope(fmt.Sprint("m", a.n), "note", body)
	e.DeliverAt = time.Now().Add(time.Hour)
	var msg *nats.Msg
	switch k {
	case share.Inbox:
		msg = envelope.Inbox(&e, from, to, 0, body)
	case share.Later:
		msg = envelope.Later(&e, from, to, 0, body)
	case share.Up:
		msg = envelope.Up(&e, from, body)
	case share.Topic:
		msg = envelope.Topic(&e, from, "rccs.topic."+a.topic, body, time.Now())
	case share.Route:
		msg = envelope.Wait(&e, from, wire.To{DeviceType: "desktop"}, "", body)
	case share.Task:
		msg = &nats.Msg{Subject: layout.TaskSubject(at.User, e.ID), Data: body}
	}
	a.publish(msg)
}

func (a *tenant) publish(msg *nats.Msg) {
	a.t.Helper()
	if _, err := a.js.PublishMsg(a.t.Context(), msg); err != nil {
		a.t.Fatalf("%s: %v", msg.Subject, err)
	}
}

// fill sends until it is refused for good, or until there is as much as can be
// asked for, and returns how much was stored.
func (a *tenant) fill(s *share.Shares, k share.Kind, to subjects.Key, size, most int) (stored int, refused *wire.Error) {
	a.t.Helper()
	deadline := time.Now().Add(testkit.Patience)
	for stored < most && time.Now().Before(deadline) {
		err := s.Admit(k, to, size)
		if err == nil {
			a.store(k, to, size)
			stored++
			continue
		}
		refused = err
		for range 2 { // the first look may have been at what was on its way
			s.AwaitLooks(a.t)
			if refused = s.Admit(k, to, size); refused == nil {
				break
			}
		}
		if refused != nil {
			return stored, refused
		}
		a.store(k, to, size)
		stored++
	}
	return stored, nil
}

// stored is how many messages a stream holds.
func (a *tenant) stored(stream, filter string) (messages uint64) {
	a.t.Helper()
	s, err := a.js.Stream(a.t.Context(), stream)
	if err != nil {
		a.t.Fatal(err)
	}
	info, err := s.Info(a.t.Context(), jetstream.WithSubjectFilter(filter))
	if err != nil {
		a.t.Fatal(err)
	}
	for _, n := range info.State.Subjects {
		messages += n
	}
	return messages
}

// onItsWay is how many messages a count may miss: those that were admitted when a
// look began and stored behind it.
const onItsWay = 2

var kinds = []share.Kind{share.Inbox, share.Later, share.Up, share.Topic, share.Route, share.Task}

// Each bound is met by the one who fills it, who is told which and when to come
// back. Another device of the user goes on where the device was the one, and
// another user in any case.
func TestWhoFillsAShareIsToldAndAllOthersGoOn(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name    string
		bounds  share.Bounds
		size    int
		device  bool   // the bound is a device's
		says    string // what the error says
		atLeast int
		atMost  int // of messages
		devices int // that fill it
	}{
		{"messages of a device", share.Bounds{Inbox: 20, Later: 20, Up: 20, Topic: 20}, 10, true, "a device", 20, 20, 1},
		{"messages of a user", share.Bounds{Inbox: 20, Later: 20, Up: 20, Topic: 20}, 10, false, "the devices of a user", 200, 200, 11},
		{"bytes of a device", share.Bounds{DevicePercent: 10}, 4000, true, "a device", 2, 400, 1},
		{"bytes of a user", share.Bounds{UserPercent: 25}, 4000, false, "the devices of a user", 8, 1000, 1},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			a := newTenant(t)
			s := a.shares(c.bounds)
			a.store(share.Topic, key("carol", "phone"), 10) // so it is not alice's alone, and does not make room
			for _, k := range kinds {
				userOnly := k == share.Route || k == share.Task
				if userOnly && c.device {
					continue
				}
				total, size := 0, c.size
				var refused *wire.Error
				for d := range c.devices {
					var n int
					most := 20
					if d == c.devices-1 {
						most = 10_000
					}
					n, refused = a.fill(s, k, key("alice", fmt.Sprint("device", d)), size, most)
					total += n
				}
				if refused == nil {
					t.Fatalf("%s: never refused", k)
				}
				if refused.Code != wire.QueueFull || refused.RetryAfter <= 0 || !strings.Contains(refused.Message, c.says) {
					t.Errorf("%s: told %q %q, retry after %s; want one that names %q", k, refused.Code, refused.Message, refused.RetryAfter, c.says)
				}
				if total < c.atLeast || total > c.atMost+onItsWay {
					t.Errorf("%s: %d messages fitted, want %d to %d", k, total, c.atLeast, c.atMost)
				}
				if err := s.Admit(k, key("bob", "phone"), size); err != nil {
					t.Errorf("%s: another user: %v", k, err)
				}
				if err := s.Admit(k, key("alice", "other"), size); (err == nil) != c.device {
					t.Errorf("%s: another device of the user: %v", k, err)
				}
			}
		})
	}
}

// acknowledge stores the cursor of a device that has acknowledged a lane up to a
// sequence.
func (a *tenant) acknowledge(k subjects.Key, upTo uint64) {
	a.t.Helper()
	c := inbox.Cursor{}
	c.Sent[subjects.Normal] = upTo
	a.publish(&nats.Msg{Subject: layout.Cursor(k), Data: c.Append(nil)})
}

// What a device has acknowledged is kept for a while, and goes, the oldest first,
// before anybody is refused.
func TestWhatWasAcknowledgedMakesRoomInInboxes(t *testing.T) {
	t.Parallel()
	a := newTenant(t)
	s := a.shares(share.Bounds{DevicePercent: 10, UserPercent: 25})
	phone := key("alice", "phone")
	stored, refused := a.fill(s, share.Inbox, phone, 20_000, 1000)
	if refused == nil {
		t.Fatal("never refused")
	}
	first := a.stored(layout.StreamInbox, subjects.Inbox(phone, subjects.Normal))
	if int(first) != stored {
		t.Fatalf("%d of %d messages are left of what the device has not acknowledged", first, stored)
	}
	const left = 3 // not acknowledged
	a.acknowledge(phone, uint64(stored-left))
	s.AwaitLooks(t)
	_ = s.Admit(share.Inbox, phone, 20_000) // has it looked at
	s.AwaitLooks(t)
	if n := a.stored(layout.StreamInbox, subjects.Inbox(phone, subjects.Normal)); int(n) >= stored*3/4 || int(n) < stored/4 {
		t.Errorf("%d of %d messages are left, want about half", n, stored)
	}
	if err := s.Admit(share.Inbox, phone, 20_000); err != nil {
		t.Errorf("after the device acknowledged: %v", err)
	}
	last, err := a.js.Stream(t.Context(), layout.StreamInbox)
	if err != nil {
		t.Fatal(err)
	}
	for seq := stored - left + 1; seq <= stored; seq++ {
		if _, err := last.GetMsg(t.Context(), uint64(seq)); err != nil {
			t.Errorf("message %d, which is not acknowledged, is gone: %v", seq, err)
		}
	}
}

// Messages to services are kept until every consumer has acknowledged them.
func TestWhatServicesHaveAcknowledgedMakesRoom(t *testing.T) {
	t.Parallel()
	a := newTenant(t)
	s := a.shares(share.Bounds{DevicePercent: 50})
	phone := key("alice", "phone")
	if _, refused := a.fill(s, share.Up, phone, 20_000, 1000); refused == nil {
		t.Fatal("never refused while no service has said that it has read them")
	} else if refused.RetryAfter < 10*time.Second || refused.RetryAfter > time.Hour {
		t.Errorf("told to come back after %s; the oldest goes with retention", refused.RetryAfter)
	}
	var both [2]jetstream.Consumer
	for n := range both {
		c, err := a.js.CreateConsumer(t.Context(), subjects.StreamUp, jetstream.ConsumerConfig{Durable: fmt.Sprint("service", n), AckPolicy: jetstream.AckExplicitPolicy})
		if err != nil {
			t.Fatal(err)
		}
		both[n] = c
	}
	read := func(c jetstream.Consumer) {
		for {
			info, err := c.Info(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			if info.NumPending == 0 {
				return
			}
			msgs, err := c.Fetch(1000, jetstream.FetchMaxWait(time.Second))
			if err != nil {
				t.Fatal(err)
			}
			for m := range msgs.Messages() {
				if err := m.DoubleAck(t.Context()); err != nil {
					t.Fatal(err)
				}
			}
		}
	}
	read(both[0])
	if n, refused := a.fill(s, share.Up, phone, 20_000, 1); refused == nil {
		t.Fatalf("%d more fitted, though a second service has read nothing", n)
	}
	read(both[1])
	if n, refused := a.fill(s, share.Up, phone, 20_000, 5); n != 5 { // one may fit by a look at what was read in part
		t.Errorf("%d fitted after both services have read all: %v", n, refused)
	}
}

// A topic that one user alone publishes to goes on for ever, as topics do; what
// another user has published to one is not removed for it.
func TestATopicDropsTheOldestOfItsOnlyUser(t *testing.T) {
	t.Parallel()
	a := newTenant(t)
	s := a.shares(share.Bounds{DevicePercent: 25})
	a.topic = "shared"
	a.store(share.Topic, key("bob", "phone"), 10)
	a.topic = "own"
	const many = 300
	if n, refused := a.fill(s, share.Topic, key("alice", "phone"), 10_000, many); n != many {
		t.Fatalf("refused after %d: %v", n, refused)
	}
	left := a.stored(subjects.StreamTopic, "rccs.topic.own")
	if limit := uint64(20<<20/100*15/100*25) / 10_000; left == 0 || left > limit {
		t.Errorf("%d messages of the device are left, want at most %d", left, limit)
	}
	if n := a.stored(subjects.StreamTopic, "rccs.topic.shared"); n != 1 {
		t.Error("the other user's message is gone")
	}
}

// What a service publishes under a device's name, with a body of its own, is not
// the device's.
func TestServicesFillNobodysTopics(t *testing.T) {
	t.Parallel()
	a := newTenant(t)
	for n := range 20 {
		a.publish(&nats.Msg{Subject: "rccs.topic.news", Data: make([]byte, 50_000), Header: nats.Header{
			subjects.HeaderUser: {"alice"}, subjects.HeaderFrom: {"phone"}, subjects.HeaderID: {fmt.Sprint(n)}, jetstream.MsgIDHeader: {fmt.Sprint("x", n)},
		}})
	}
	s := a.shares(share.Bounds{DevicePercent: 10})
	for range 10 {
		_ = s.Admit(share.Topic, key("alice", "phone"), 4000) // has it looked at
	}
	s.AwaitLooks(t)
	if err := s.Admit(share.Topic, key("alice", "phone"), 4000); err != nil {
		t.Errorf("told %v for what a service has published", err)
	}
}

// A process that starts knows nothing of what is stored, and finds out before an
// eighth of a share was added.
func TestWhatIsStoredCountsAfterARestart(t *testing.T) {
	t.Parallel()
	a := newTenant(t)
	const limit = 1000
	before := a.shares(share.Bounds{Later: limit})
	phone := key("alice", "phone")
	if full, _ := a.fill(before, share.Later, phone, 10, 2*limit); full < limit {
		t.Fatalf("%d messages fitted", full)
	}
	after := a.shares(share.Bounds{Later: limit})
	if more, refused := a.fill(after, share.Later, phone, 10, limit); refused == nil || more > limit/8 {
		t.Errorf("%d messages fitted beside %d: %v", more, limit, refused)
	}
}

// The stream of delayed messages cannot refuse: all processes together keep to
// the tenant's part.
func TestDelayedMessagesOfATenantAreBounded(t *testing.T) {
	t.Parallel()
	a := newTenant(t)
	s := a.shares(share.Bounds{})
	limit := 20 << 20 / 100 * 60 / 60 * 6
	stored := 0
	for user := 0; stored < 2*limit; user++ {
		to := key(fmt.Sprint("user", user), "phone")
		if err := s.Admit(share.Later, to, 50_000); err != nil {
			s.AwaitBounds(t)
			if again := s.Admit(share.Later, to, 50_000); again != nil {
				if !strings.Contains(again.Message, "a tenant") || again.RetryAfter <= 0 {
					t.Errorf("told %q, retry after %s", again.Message, again.RetryAfter)
				}
				break
			}
		}
		a.store(share.Later, to, 50_000)
		stored += 50_000
	}
	if stored < limit/2 || stored > limit*5/4 {
		t.Errorf("%d bytes were stored, the tenant's part is %d", stored, limit)
	}
	if err := s.Admit(share.Inbox, key("bob", "phone"), 10); err != nil {
		t.Errorf("an inbox of the tenant: %v", err)
	}
}

// What all users of a tenant have of tasks, and of what waits for a device, is
// bounded too, and whoever comes then is told so. The stream is not full by then: a
// task that is there moves to another device, and a service's message is routed.
func TestTasksAndWhatWaitsOfATenantAreBounded(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		kind         share.Kind
		stream, what string
		others       *nats.Msg
	}{
		{share.Task, "KV_" + layout.BucketTasks, "tasks", &nats.Msg{
			Subject: layout.TaskSubject("user0", "m1"), Data: []byte(`"` + strings.Repeat("y", taskSize-2) + `"`),
		}},
		{share.Route, layout.StreamRoute, "messages that wait for a suitable device", &nats.Msg{
			Subject: subjects.Route("carol", subjects.Selector{}), Data: []byte(`"of a service"`),
		}},
	} {
		t.Run(c.kind.String(), func(t *testing.T) {
			t.Parallel()
			a := newTenant(t)
			s := a.shares(share.Bounds{UserPercent: 25})
			var refused *wire.Error
			for n := 0; n < 1000 && refused == nil; n++ {
				to := key(fmt.Sprint("user", n), "phone") // each with one, far from the user's own bound
				if refused = s.Admit(c.kind, to, taskSize); refused != nil {
					s.AwaitBounds(t)
					refused = s.Admit(c.kind, to, taskSize)
				}
				if refused == nil {
					a.store(c.kind, to, taskSize)
				}
			}
			if refused == nil || refused.Code != wire.QueueFull || refused.RetryAfter <= 0 ||
				!strings.Contains(refused.Message, "a tenant") || !strings.Contains(refused.Message, c.what) {
				t.Fatalf("told %+v, want that the tenant's share of %s is full", refused, c.what)
			}
			a.publish(c.others)
			for _, other := range kinds {
				if err := s.Admit(other, key("bob", "phone"), taskSize); (err == nil) != (other != c.kind) {
					t.Errorf("%s: %v", other, err)
				}
			}
		})
	}
}

// taskSize fills a part soon.
const taskSize = 5000
