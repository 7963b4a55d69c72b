package ops_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/nats-io/nats.go/micro"

	"github.com/rccs-io/rccs/internal/backbone"
	"github.com/rccs-io/rccs/internal/layout"
	"github.com/rccs-io/rccs/internal/natstest"
	"github.com/rccs-io/rccs/internal/ops"
	"github.com/rccs-io/rccs/internal/roster"
	"github.com/rccs-io/rccs/internal/shard"
	"github.com/rccs-io/rccs/internal/testkit"
	"github.com/rccs-io/rccs/subjects"
)

// examine returns the findings that are not ok.
func (p *place) examine() (found []string) {
	p.t.Helper()
	opts := ops.DoctorOptions{Patience: p.patience}
	opts.Differences = func(ctx context.Context, js jetstream.JetStream) (list []ops.Difference, err error) {
		all, err := backbone.Compare(ctx, js, backbone.Plan{})
		for _, d := range all {
			list = append(list, ops.Difference(d))
		}
		return list, err
	}
	all, err := p.Doctor(p.t.Context(), opts)
	check(p.t, err)
	for _, f := range all {
		if f.Level != ops.LevelOK {
			found = append(found, f.Level+" "+f.Check+": "+f.What)
			if f.Fix == "" {
				p.t.Errorf("it is not said what to do: %+v", f)
			}
		}
	}
	return found
}

// lease has an edge that renewed its lease just now.
func (p *place) lease(e roster.Edge) {
	p.t.Helper()
	data, err := json.Marshal(&e)
	check(p.t, err)
	p.publish(layout.EdgeSubject(e.ID), string(data))
}

func has(found []string, text string) bool {
	return slices.ContainsFunc(found, func(f string) bool { return strings.Contains(f, text) })
}

func TestDoctorFindsWhatIsMissing(t *testing.T) {
	t.Parallel()
	p := newPlace(t)
	found := p.examine()
	for _, want := range []string{"fail edges: no edge runs", "fail coordinator: no coordinator answers", "unknown disk: "} {
		if !has(found, want) {
			t.Errorf("%q is not among %q", want, found)
		}
	}
	nc := p.env.Conn(t)
	service, err := micro.AddService(nc, micro.Config{Name: "rccs-coordinator", Version: "1.0.0"})
	check(t, err)
	check(t, nc.Flush()) // it listens
	t.Cleanup(func() { check(t, service.Stop()) })
	testkit.Eventually(t, "nothing is missing", func() bool { // on a busy machine a lease may be late, or an answer
		p.lease(roster.Edge{ID: "e1", Name: "one", Version: "1"})
		found = p.examine()
		return !has(found, " edges: ") && !has(found, " coordinator: ") && !has(found, " streams: ")
	})
	p.lease(roster.Edge{ID: "e1", Name: "one", Version: "1", Unready: "nothing heard"})
	if found = p.examine(); !has(found, "fail edges: edge one cannot serve: nothing heard") {
		t.Errorf("found %q", found)
	}
	sub, err := p.env.Conn(t).Subscribe("$SRV.PING.rccs-coordinator", func(m *nats.Msg) {
		_ = m.Respond([]byte(`{"id":"c2","version":"1.0.0","unready":"nothing heard"}`))
	})
	check(t, err)
	testkit.Eventually(t, "the other coordinator listens", func() bool {
		return has(p.examine(), "fail coordinator: coordinator c2 cannot do its work: nothing heard")
	})
	check(t, sub.Unsubscribe())
	check(t, service.Stop())
	sub, err = p.env.Conn(t).Subscribe("$SRV.PING.rccs-coordinator", func(m *nats.Msg) {
		_ = m.Respond([]byte(`{"id":"c3","version":"1.0.0","shards":[]}`))
	})
	check(t, err)
	testkit.Eventually(t, "a coordinator listens that works nothing", func() bool {
		return has(p.examine(), "warn coordinator: no coordinator works shard 0")
	})
	check(t, sub.Unsubscribe())
	p.lease(roster.Edge{ID: "e2", Name: "two", Version: "2"})
	if found = p.examine(); !has(found, "warn edges: edges run different versions") {
		t.Errorf("found %q", found)
	}
}

// A stream that answers nobody is named, with what to do, and the others are looked at.
func TestDoctorFindsStreamsThatAnswerNobody(t *testing.T) {
	t.Parallel()
	p := newPlace(t)
	p.patience = 600 * time.Millisecond
	again := p.env.Answer("$JS.API.STREAM.INFO."+subjects.StreamUp, func(*nats.Conn, *nats.Msg) {})
	if found := p.examine(); !has(found, "fail replicas: RCCS_UP answers nobody") {
		t.Errorf("found %q", found)
	}
	again()
	testkit.Eventually(t, "it is well again", func() bool { return !has(p.examine(), " replicas: ") })
}

func TestDoctorFindsStreamsThatDiffer(t *testing.T) {
	t.Parallel()
	p := newPlace(t)
	p.limit(func(c *jetstream.StreamConfig) { c.MaxAge = time.Hour })
	check(t, p.js.DeleteStream(t.Context(), subjects.StreamUp))
	check(t, p.js.DeleteKeyValue(t.Context(), layout.BucketTasks))
	found := p.examine()
	for _, want := range []string{
		"warn streams: RCCS_INBOX differs from the plan: MaxAge from 1h0m0s to 168h0m0s", "fail streams: RCCS_UP is missing",
		"fail streams: KV_RCCS_TASKS is missing", "unknown replicas: ",
	} {
		if !has(found, want) {
			t.Errorf("%q is not among %q", want, found)
		}
	}
}

// limit changes the inbox stream.
func (p *place) limit(change func(*jetstream.StreamConfig)) {
	p.t.Helper()
	s, err := p.js.Stream(p.t.Context(), layout.StreamInbox)
	check(p.t, err)
	conf := s.CachedInfo().Config
	change(&conf)
	_, err = p.js.UpdateStream(p.t.Context(), conf)
	check(p.t, err)
}

func TestDoctorFindsInboxesThatGrow(t *testing.T) {
	t.Parallel()
	p := newPlace(t)
	p.limit(func(c *jetstream.StreamConfig) { c.MaxMsgsPerSubject = 3000 })
	p.fill(1, 11000)
	p.store(bob, subjects.Low, "one")
	found := p.examine()
	for _, want := range []string{
		"warn inboxes: u0/d0 has 11000 unacknowledged messages", "fail inboxes: lane normal of u0/d0 has 2750 unacknowledged messages; past 3000 the oldest are lost",
	} {
		if !has(found, want) {
			t.Errorf("%q is not among %q", want, found)
		}
	}
	if has(found, "bob/phone") {
		t.Errorf("one message is too many in %q", found)
	}
}

func TestDoctorFindsMessagesThatGoSoon(t *testing.T) {
	t.Parallel()
	p := newPlace(t)
	p.limit(func(c *jetstream.StreamConfig) { c.MaxAge, c.Duplicates = 5*time.Second, time.Second })
	for deadline := time.Now().Add(testkit.Patience); !has(p.examine(), "bob/phone has an unacknowledged message that goes in "); {
		if time.Now().After(deadline) {
			t.Fatalf("the message that goes soon is not among %q", p.examine())
		}
		if i, _, err := p.Inboxes(t.Context(), ops.InboxQuery{User: "bob"}); err != nil || len(i) == 0 {
			check(t, err)
			p.store(bob, subjects.Low, "old")
		}
	}
}

func TestStatusCountsWhatThereIs(t *testing.T) {
	t.Parallel()
	p := newPlace(t)
	p.register(phone, `{"type":"mobile"}`)
	p.register(desktop, `{"type":"desktop"}`)
	p.register(bob, `{}`)
	p.publish(layout.DeviceSubject(bob.Key()), "", "KV-Operation", "DEL")
	p.lease(roster.Edge{ID: "e1", Name: "one", Devices: 2})
	p.lease(roster.Edge{ID: "e2", Name: "two", Devices: 3})
	p.fill(3, 40)
	got, err := p.Status(t.Context(), ops.StatusOptions{Interval: 10 * time.Millisecond, Behind: 2})
	check(t, err)
	if got.Devices != 2 || got.Online != 5 || len(got.Edges) != 2 || got.Edges[0].Name != "one" || got.Edges[0].Renewed.IsZero() {
		t.Errorf("%d devices, %d online, edges %+v", got.Devices, got.Online, got.Edges)
	}
	if s := got.Streams[0]; s.Name != layout.StreamInbox || s.Messages != 120 || s.PerSecond != 0 || s.Last == nil {
		t.Errorf("the inbox stream is %+v", s)
	}
	if len(got.Behind) != 2 || got.Behind[0].Unacknowledged != 40 || got.Store.Used == 0 || got.Server.Version == "" {
		t.Errorf("status %+v", got)
	}
}

// A device whose edge is dead is offline before anybody has written so.
func TestDevicesOfDeadEdgesAreOffline(t *testing.T) {
	t.Parallel()
	p := newPlace(t)
	now := time.Now().UTC().Format(time.RFC3339)
	for i, a := range []subjects.Address{desktop, phone} {
		p.register(a, `{"type":"mobile","platform":"p","version":"1","capabilities":{"x":true},"registered":"`+now+`"}`)
		p.publish(layout.SessionSubject(a.Key()), fmt.Sprintf(`{"session":"s%d","edge":"e%d","epoch":3,"since":%q,"status":"away","lastSeen":%q}`, i, i, now, now))
	}
	p.lease(roster.Edge{ID: "e0", Name: "zero"})
	list, more, err := p.Devices(t.Context(), ops.DeviceQuery{})
	check(t, err)
	if len(list) != 2 || more {
		t.Fatalf("listed %+v", list)
	}
	if d := list[0]; d.Device != "desktop" || d.Status != "away" || d.Edge != "zero" || d.Session != "s0" || d.Epoch != 3 || d.Platform != "p" || string(d.Capabilities) != `{"x":true}` {
		t.Errorf("the desktop is %+v", d)
	}
	if d := list[1]; d.Device != "my.phone" || d.Status != "offline" || d.Edge != "" || d.LastSeen.IsZero() {
		t.Errorf("the phone is %+v", d)
	}
	check(t, p.env.Conn(t).PublishMsg(&nats.Msg{Subject: layout.EdgeSubject("e0"), Header: nats.Header{"KV-Operation": {"DEL"}}}))
	testkit.Eventually(t, "it is offline once its edge gave up the lease", func() bool {
		d, err := p.Device(t.Context(), desktop)
		check(t, err)
		return d.Status == "offline"
	})
}

// Messages that are delayed are lost with a device too, though its inbox is empty:
// how many is said before.
func TestForgettingADeviceSaysHowManyDelayedMessagesGo(t *testing.T) {
	t.Parallel()
	p := newPlace(t)
	p.register(phone, `{}`)
	for i, to := range []subjects.Address{phone, phone, desktop} {
		_, err := p.js.PublishMsg(t.Context(), &nats.Msg{Subject: subjects.Later(to.Key(), subjects.Low, strconv.Itoa(i)), Header: nats.Header{
			"Nats-Schedule":        {"@at " + time.Now().Add(time.Hour).UTC().Format(time.RFC3339)},
			"Nats-Schedule-Target": {layout.Due(to.Key(), subjects.Low)},
		}})
		check(t, err)
	}
	err := p.Forget(t.Context(), phone, ops.ForgetOptions{})
	if lost, ok := errors.AsType[*ops.UnacknowledgedError](err); !ok || *lost != (ops.UnacknowledgedError{Delayed: 2}) {
		t.Errorf("told %v, want that 2 are delayed", err)
	}
	if err := p.Forget(t.Context(), phone, ops.ForgetOptions{Drop: true}); !errors.Is(err, ops.ErrNoCoordinator) {
		t.Errorf("told %v, though they may be lost", err)
	}
}

// What only a coordinator can do is not tried without one, and not on a device
// that would be back at once.
func TestForgettingNeedsACoordinatorAndADeviceThatIsAway(t *testing.T) {
	t.Parallel()
	p := newPlace(t)
	p.register(phone, `{}`)
	p.register(desktop, `{}`)
	p.lease(roster.Edge{ID: "e1", Name: "one"})
	p.publish(layout.SessionSubject(phone.Key()), `{"session":"s","edge":"e1","epoch":1,"status":"online"}`)
	for a, want := range map[subjects.Address]error{phone: ops.ErrConnected, desktop: ops.ErrNoCoordinator, bob: ops.ErrUnknownDevice} {
		if err := p.Forget(t.Context(), a, ops.ForgetOptions{}); !errors.Is(err, want) {
			t.Errorf("%s: %v, want %v", a, err, want)
		}
	}
	if _, err := p.Device(t.Context(), desktop); err != nil {
		t.Errorf("it is gone all the same: %v", err)
	}
}

// dividedPlace has four shards.
func dividedPlace(t *testing.T) *place {
	t.Helper()
	p := &place{t: t, env: natstest.Server(t)}
	p.js = natstest.StreamsOfShards(t, p.env.Conn(t), 4)
	var err error
	p.Tenant, err = ops.Open(ops.Options{Dial: p.env.Dialer(), Shards: 4})
	check(t, err)
	t.Cleanup(p.Close)
	return p
}

// Devices of a shard that no edge serves are served all the same.
func TestDoctorTellsAShardWithoutAnEdgeFromNoEdge(t *testing.T) {
	t.Parallel()
	p := dividedPlace(t)
	if found := p.examine(); !has(found, "fail edges: no edge runs") || has(found, "no edge serves") {
		t.Errorf("without an edge it found %q", found)
	}
	testkit.Eventually(t, "the shard is named", func() bool { // on a busy machine leases end
		for n := range 3 {
			p.publish(shard.At(n, 4).Subject(layout.EdgeSubject("e1")), `{"name":"one","process":"1"}`)
		}
		found := p.examine()
		return has(found, "warn edges: no edge serves shard 3") && !has(found, "no edge serves shard 0") && !has(found, "no edge runs")
	})
}

// What is wrong with a part of the tenant is no fault of each shard.
func TestDoctorTellsOnceWhatIsOfNoShard(t *testing.T) {
	t.Parallel()
	p := dividedPlace(t)
	var n atomic.Int32
	_, err := p.env.Conn(t).Subscribe("$SRV.PING.rccs-coordinator", func(m *nats.Msg) {
		_ = m.Respond(fmt.Appendf(nil, `{"id":"c1","version":"1.0.0","unready":"nothing heard for %d s","shards":[0,1,2,3]}`, n.Add(1)))
	})
	check(t, err)
	testkit.Eventually(t, "the coordinator listens", func() bool { return has(p.examine(), "coordinator c1 cannot do its work") })
	var told []string
	for _, f := range p.examine() {
		if strings.Contains(f, " coordinator: ") {
			told = append(told, f)
		}
	}
	if len(told) != 1 {
		t.Errorf("told %q", told)
	}
	testkit.Eventually(t, "their versions differ", func() bool {
		for n, s := range shard.All(4) { // each shard has edges of one version
			p.publish(s.Subject(layout.EdgeSubject("e1")), fmt.Sprintf(`{"name":"one%d","process":"%[1]d","version":"%[1]d"}`, n/2))
		}
		return has(p.examine(), "warn edges: edges run different versions")
	})
}

// Operators look for a stream by the name that servers and files have for it.
func TestAMissingStreamOfAShardIsNamed(t *testing.T) {
	t.Parallel()
	p := dividedPlace(t)
	check(t, p.js.DeleteStream(t.Context(), "RCCS_INBOX_2"))
	if _, err := p.Status(t.Context(), ops.StatusOptions{}); !errors.Is(err, ops.ErrNotInstalled) || !strings.Contains(err.Error(), "RCCS_INBOX_2 is missing") {
		t.Errorf("status says %v", err)
	}
	_, _, err := p.Devices(t.Context(), ops.DeviceQuery{})
	if err != nil {
		t.Errorf("devices are not listed: %v", err)
	}
}

// An operator looks for the stream by the name that servers, files and NATS have for
// it, and two shards may be damaged alike.
func TestDoctorNamesTheDamagedStreamOfAShard(t *testing.T) {
	t.Parallel()
	p := dividedPlace(t)
	at := time.Now().UTC().Format(time.RFC3339)
	for _, n := range []int{1, 2} {
		p.publish(shard.At(n, 4).Subject(layout.Damaged(layout.StreamInbox)),
			`{"found":[{"Server":"n1","Stream":"RCCS_INBOX","At":"`+at+`","First":104,"Files":["1.blk"]}]}`)
	}
	found := p.examine()
	for _, want := range []string{"RCCS_INBOX_1", "RCCS_INBOX_2"} {
		if !has(found, "server n1 found stream "+want+" damaged at "+at+"; the first missing sequence is 104") {
			t.Errorf("%s is not named: %q", want, found)
		}
	}
}
