package coordinator_test

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/micro"

	"github.com/rccs-io/rccs/coordinator"
	"github.com/rccs-io/rccs/internal/layout"
	"github.com/rccs-io/rccs/internal/natstest"
	"github.com/rccs-io/rccs/internal/need"
	"github.com/rccs-io/rccs/internal/roster"
	"github.com/rccs-io/rccs/internal/share"
	"github.com/rccs-io/rccs/internal/testkit"
	"github.com/rccs-io/rccs/subjects"
)

// asksEach has a device ask each endpoint once, and returns what the slowest
// answer took.
func (d *device) asksEach(round string) (slowest time.Duration) {
	d.p.t.Helper()
	for endpoint, body := range map[string]map[string]any{
		"fetch": {"limit": 1}, "ack": {"seq": 1},
		"send": {"type": "note", "id": "s" + round, "toDeviceId": "other", "payload": 1}, "up": {"type": "note", "id": "u" + round, "payload": 1},
	} {
		began := time.Now()
		if code := d.ask(endpoint, body, nil); code != "" {
			d.p.t.Errorf("%s asks %s, and is told %s", d.name, endpoint, code)
		}
		slowest = max(slowest, time.Since(began))
	}
	return slowest
}

// A device that asks more than it can be answered, and goes, keeps nobody
// waiting, of its user or another, at no endpoint. Nor does a service keep devices
// waiting.
func TestFloodOfAnyEndpointKeepsNoOtherDeviceWaiting(t *testing.T) {
	need.Long(t, "it floods a coordinator in several ways")
	t.Parallel()
	p, e := placeWithEdge(t)
	p.register(e, "alice/other", "desktop")
	p.register(e, "bob/other", "desktop")
	p.coordinate()
	flood, neighbour, stranger := p.device("alice/flood"), p.device("alice/neighbour"), p.device("bob/phone")
	before := max(neighbour.asksEach("before"), stranger.asksEach("before"))
	for endpoint, body := range map[string]string{
		"fetch": `{"wait":30000}`, "ack": `{"seq":1}`, "send": `{"type":"note","id":"m","toDeviceId":"other","payload":1}`,
		"up": `{"type":"note","id":"m","payload":1}`, "odd": `[`,
	} {
		subject := subjects.DeviceEndpoint(flood.key, endpoint)
		if endpoint == "odd" {
			subject = subjects.DeviceEndpoint(flood.key, "send")
		}
		p.floods(flood.nc, subject, body)
		slowest := max(neighbour.asksEach("during"+endpoint), stranger.asksEach("during"+endpoint))
		t.Logf("%s: the slowest answer of a neighbour took %s before and %s meanwhile", endpoint, before, slowest)
		if slowest > 25*time.Second { // the flood waits for 30 s
			t.Errorf("after a flood of %s a neighbour waited %s", endpoint, slowest)
		}
	}
	service := p.env.Conn(t)
	for _, endpoint := range []string{"status", "devices", "device", "sessions", "edges", "forget", "missed", "replay"} {
		p.floods(service, subjects.CoordinatorEndpoint(endpoint), `{"user":"alice","device":"other","fromSeq":1}`)
		slowest := max(neighbour.asksEach("service"+endpoint), stranger.asksEach("service"+endpoint))
		t.Logf("%s of a service: the slowest answer of a device took %s", endpoint, slowest)
	}
}

// A service that asks more than it can be answered is refused by itself: another
// service, and an operator, are answered meanwhile.
func TestFloodOfAServiceKeepsNoOtherServiceWaiting(t *testing.T) {
	t.Parallel()
	p := newPlace(t, natstest.Services("FLOOD", "OTHER"))
	p.register(p.edge("e"), "alice/phone", "mobile")
	p.coordinate()
	flood, other := p.env.Service(t, "FLOOD"), p.env.Service(t, "OTHER")
	var refused atomic.Int32
	inbox := flood.NewInbox()
	if _, err := flood.Subscribe(inbox, func(m *nats.Msg) {
		if m.Header.Get(micro.ErrorCodeHeader) == "503" {
			refused.Add(1)
		}
	}); err != nil {
		t.Fatal(err)
	}
	body := []byte(`{"user":"alice","device":"phone"}`)
	var slowest time.Duration
	for range 5 {
		for range 1000 {
			if err := flood.PublishRequest(subjects.CoordinatorEndpoint("device"), inbox, body); err != nil {
				t.Fatal(err)
			}
		}
		if err := flood.FlushTimeout(patience); err != nil {
			t.Fatal(err)
		}
		for who, nc := range map[string]*nats.Conn{"another service": other, "an operator": p.nc} {
			began := time.Now()
			m, err := nc.Request(subjects.CoordinatorEndpoint("device"), body, patience)
			if err != nil || m.Header.Get(micro.ErrorHeader) != "" {
				t.Fatalf("%s is told %v, %v", who, m, err)
			}
			slowest = max(slowest, time.Since(began))
		}
	}
	t.Logf("the slowest of 10 answers to others took %s; of the flood %d were refused", slowest, refused.Load())
	if refused.Load() == 0 {
		t.Error("the flood was no flood: nothing of it was refused")
	}
}

// floods asks an endpoint more often than it can be answered, and does not wait.
func (p *place) floods(nc *nats.Conn, subject, body string) {
	p.t.Helper()
	for range 5200 {
		if err := nc.PublishMsg(&nats.Msg{Subject: subject, Reply: nc.NewInbox(), Data: []byte(body)}); err != nil {
			p.t.Fatal(err)
		}
	}
	if err := nc.FlushTimeout(patience); err != nil {
		p.t.Fatal(err)
	}
}

func TestNewerFetchEndsTheOlder(t *testing.T) {
	t.Parallel()
	_, d := placeWithDevice(t)
	older := make(chan time.Duration, 1)
	inbox := d.nc.NewInbox()
	began := time.Now()
	sub, err := d.nc.Subscribe(inbox, func(*nats.Msg) { older <- time.Since(began) })
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = sub.Unsubscribe() }()
	if err := d.nc.PublishRequest(subjects.DeviceEndpoint(d.key, "fetch"), inbox, []byte(`{"wait":30000}`)); err != nil {
		t.Fatal(err)
	}
	for range 10 { // the first may be looked at before the one that is to be older
		d.fetch(map[string]any{"wait": 500})
		if len(older) > 0 {
			break
		}
	}
	select {
	case took := <-older:
		if took > 25*time.Second {
			t.Errorf("the older fetch was answered after %s", took)
		}
	default:
		t.Error("the older fetch goes on waiting")
	}
}

// routes publishes to rccs.route as services do: NATS says who asks.
func (p *place) routes(service, subject, body string) {
	p.t.Helper()
	who := fmt.Sprintf(`{"acc":"A","user":%q}`, service)
	m := &nats.Msg{Subject: subject, Header: nats.Header{layout.HeaderRequester: {who}}, Data: []byte(body)}
	if err := p.nc.PublishMsg(m); err != nil {
		p.t.Fatal(err)
	}
}

// Services take turns in what they publish to rccs.route, to one user and to many:
// also while a message of another has to wait for a device that may yet come. Nothing
// is given out here until all is there, so the order shows whose turn it was.
func TestAFloodOfRoutesOfOneServiceKeepsNoOtherWaiting(t *testing.T) {
	t.Parallel()
	const flood = 1000
	for name, subject := range map[string]func(n int) string{
		"to the same user":   func(int) string { return "rccs.route.bob.all" },
		"to no device of it": func(int) string { return "rccs.route.bob.any.watch" },
		"to many users":      func(n int) string { return fmt.Sprintf("rccs.route.user%d.all", n%100) },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p := newPlace(t, natstest.Listen())
			e := p.edge("e")
			p.register(e, "bob/phone", "mobile")
			for n := range 100 {
				if name == "to many users" {
					e.Register(address(fmt.Sprintf("user%d/phone", n)).Key(), roster.Record{Type: "mobile"})
				}
			}
			proxy := natstest.NewProxy(t, p.env.Addr())
			c, _ := p.coordinateWith(coordinator.Options{Dial: func(name string, opts ...nats.Option) (*nats.Conn, error) {
				if name == "publish" {
					return natstest.Connect(proxy.URL(), append([]nats.Option{nats.CustomInboxPrefix(layout.PartReplyPrefix)}, opts...)...)
				}
				return p.dial(name, opts...)
			}})
			// A message is done when an inbox has it, or when an event says that none can.
			done, before := 0, make(chan int, 1)
			nc := p.env.Conn(t)
			if _, err := nc.Subscribe("rccs.>", func(m *nats.Msg) {
				switch {
				case string(m.Data) == `"other"` && strings.HasPrefix(m.Subject, "rccs.inbox."):
					before <- done
				case strings.HasPrefix(m.Subject, "rccs.inbox."), strings.HasSuffix(m.Subject, ".undeliverable"):
					done++
				}
			}); err != nil {
				t.Fatal(err)
			}
			if err := nc.FlushTimeout(patience); err != nil {
				t.Fatal(err)
			}
			proxy.Freeze()
			for n := range flood {
				p.routes("FLOOD", subject(n), fmt.Sprint(n))
			}
			p.routes("OTHER", "rccs.route.bob.all", `"other"`)
			p.eventually("all is read, and it is known who has sent it", func() bool { return c.KnowsRoutes(flood + 1) })
			proxy.Heal()
			n := testkit.Await(t, "another service's message is in the inbox", before)
			t.Logf("%s: %d of the %d of the flood were done before the message of another service", name, n, flood)
			// With turns some tens come first: what was begun, and one turn. Without, all do.
			if n > flood/2 {
				t.Errorf("another service's message waited for %d of %d of the flood", n, flood)
			}
		})
	}
}

// What services have published before a coordinator starts goes by turns too, however
// the one before it has ended.
func TestServicesTakeTurnsInWhatTheyRoutedBeforeARestart(t *testing.T) {
	t.Parallel()
	const flood = 200
	for _, way := range []string{"stopped", "cut off"} {
		t.Run(way, func(t *testing.T) {
			t.Parallel()
			p, e := placeWithEdge(t)
			p.register(e, "bob/watch", "watch")
			var c *coordinator.Coordinator
			var end func()
			if way == "stopped" {
				c, end = p.coordinate()
			} else {
				_, end = p.fragile()
			}
			for n := range flood {
				p.routes("FLOOD", "rccs.route.bob.any.watch", fmt.Sprint(n))
			}
			p.routes("OTHER", "rccs.route.bob.any.watch", `"other"`)
			p.eventually("all is stored", func() bool { return p.routesLeft() == flood+1 })
			p.eventually("it is known, or stored, who has sent it", func() bool {
				if c != nil {
					return c.KnowsRoutes(flood + 1)
				}
				stored := p.stored(layout.StreamCursor, layout.RouteSenders)
				return len(stored) == 1 && strings.Contains(string(stored[0].Data), fmt.Sprintf(`"senders":["FLOOD","OTHER"],"runs":[1,%d,0,1,1,1]`, flood))
			})
			end()
			p.coordinate()
			p.connect(e, "bob/watch", "watch")
			p.eventually("all is in the inbox", func() bool { return p.routesLeft() == 0 })
			if n := slices.Index(p.inbox("bob/watch"), `"other"`); n < 0 || n > flood/10 {
				t.Errorf("%d of %d of the flood were before another service's message", n, flood)
			}
		})
	}
}

// A service that fills what may wait for a suitable device is told of each message
// past its part, and when to come back. It leaves room for another service and for
// devices, and has room again when the device comes.
func TestAServiceThatFillsWhatWaitsForADeviceLeavesRoomForOthers(t *testing.T) {
	t.Parallel()
	p, e := placeWithEdge(t)
	p.register(e, "bob/watch", "watch")
	const room, size = 256 << 10, 2 << 10
	stream, err := p.js.Stream(p.ctx(), layout.StreamRoute)
	testkit.Check(t, err)
	config := stream.CachedInfo().Config
	config.MaxBytes = room
	_, err = p.js.UpdateStream(p.ctx(), config)
	testkit.Check(t, err)
	p.coordinateWith(coordinator.Options{Shares: share.Bounds{UserPercent: 25}})
	route, body := "rccs.route.bob.any.watch", `"`+strings.Repeat("x", size)+`"`
	type event struct {
		Subject, User string
		Seq           uint64
		RetryAfterMs  int64
	}
	full := func() (events []event) {
		for _, m := range p.stored(subjects.StreamEvent, "rccs.event.bob.%.full") {
			var one event
			testkit.Check(t, json.Unmarshal(m.Data, &one))
			events = append(events, one)
		}
		return events
	}
	flood := func() {
		before := len(full())
		p.eventually("the service is told", func() bool {
			for range 10 {
				p.routes("FLOOD", route, body)
			}
			return len(full()) > before
		})
	}
	flood()
	if told := full()[0]; told.Subject != route || told.User != "bob" || told.Seq == 0 || told.RetryAfterMs <= 0 {
		t.Errorf("told %+v", told)
	}
	used := func() uint64 {
		info, err := stream.Info(p.ctx())
		return testkit.Must(t, info, err).State.Bytes
	}
	p.eventually("what is past its part is gone", func() bool { return used() <= room/4*3 })
	others := make(map[uint64]bool)
	for range 10 { // each is stored, or this fails
		others[p.publish(route, body, layout.HeaderRequester, `{"acc":"A","user":"OTHER"}`)] = true
		others[p.publish(layout.Wait("bob"), body, layout.HeaderWaitType, "watch", subjects.HeaderType, "note", subjects.HeaderFrom, "phone")] = true
	}
	watch := p.connect(e, "bob/watch", "watch")
	p.eventually("all is in the inbox", func() bool { return p.routesLeft() == 0 })
	for _, told := range full() {
		if others[told.Seq] {
			t.Errorf("a message of others is refused: %+v", told)
		}
	}
	watch.Close(true, nil)
	flood()
	if got := used(); got < room/2 {
		t.Errorf("the service has room for %d bytes again, and had for %d", got, room/4*3)
	}
}
